"""Where and in which form a training computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from featherweight.errors import UsageError

__all__ = ["Compute", "choose_device", "dropout_seed"]


Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class Compute:
    """Device, memory format and arithmetic of the training steps."""

    device: torch.device
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    dtype: Literal["fp32", "bf16"] = "fp32"

    @property
    def _torch_format(self) -> torch.memory_format:
        if self.memory_format == "channels_last":
            return torch.channels_last
        return torch.contiguous_format

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type in which convolutions and products are computed."""
        return torch.float32 if self.dtype == "fp32" else torch.bfloat16

    def place(self, network: Module) -> Module:
        """Move the network itself to the device and memory format."""
        return network.to(device=self.device, memory_format=self._torch_format)  # type: ignore[call-overload,no-any-return]

    def arrange(self, inputs: Tensor) -> Tensor:
        """Return (N, C, H, W) in the memory format."""
        return inputs.contiguous(memory_format=self._torch_format)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a step's forward pass runs."""
        if self.dtype == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.torch_dtype)

    def synchronise(self) -> None:
        """Wait until the device has finished what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def choose_device(device: str) -> torch.device:
    """Return the torch device of `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        UsageError: an unknown name, or this machine does not have it.
    """
    present = ["cpu"]
    if torch.cuda.is_available():
        present.append("cuda")
    if torch.backends.mps.is_available():
        present.append("mps")
    if device == "auto":
        return torch.device(present[-1])
    if device not in present:
        raise UsageError(
            f"cannot train on the device {device!r}", allowed=", ".join(["auto", *present])
        )
    return torch.device(device)


def dropout_seed(device: torch.device) -> AbstractContextManager[None]:
    """Keep torch's own generators as they are outside the context."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    return torch.random.fork_rng(devices=devices)
