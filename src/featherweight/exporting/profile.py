"""`fw.profile`: count whatever describes a network."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.errors import UsageError
from featherweight.networks.detectors import resolve_network
from featherweight.networks.kinds import AnyArchitecture
from featherweight.profiling.profile import Profile
from featherweight.profiling.profile import profile as profile_architecture

if TYPE_CHECKING:
    from torch import nn

__all__ = ["profile"]


def profile(
    network: AnyArchitecture | nn.Module | Path | str,
    *,
    input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
) -> Profile:
    """Count parameters, multiply-adds, exact operations and memory, per layer and in total.

    Only a torch module needs torch, only a file needs onnx.

    Args:
        network: an Architecture or Detector, a torch module (see `profile_module`), the path of an
            .onnx file (see `profile_onnx`), or text that names one (`mobilenet_v2:width=0.5`).
        input_shape: sizes of the input without the batch axis: a module needs them, and a file
            that leaves them open (of several inputs by name); an Architecture has its own.

    Raises:
        UsageError: no such network, or an input that does not fit it.
    """
    if isinstance(network, (str, Path)) and Path(network).suffix == ".onnx":
        from featherweight.exporting.onnx_profile import profile_onnx

        return profile_onnx(Path(network), input_shape=input_shape)
    if isinstance(input_shape, Mapping):
        raise UsageError(
            f"input_shape {dict(input_shape)} names inputs, which only an ONNX file has",
            allowed="sizes without the batch axis, such as (3, 224, 224)",
        )
    if not isinstance(network, (Architecture, Detector, str, Path)):
        torch = sys.modules.get("torch")  # who has a module has loaded it
        kinds = torch and (torch.nn.Module, torch.export.ExportedProgram)
        if not kinds or not isinstance(network, kinds):
            raise UsageError(
                f"cannot count a {type(network).__name__}",
                allowed="an Architecture, a torch.nn.Module, the path of an .onnx file, a name",
            )
        from featherweight.profiling.module import profile_module

        return profile_module(network, input_shape=input_shape)
    if isinstance(network, (str, Path)):
        network = resolve_network(str(network))
    if input_shape is not None:
        raise UsageError(
            f"{network.name} has its own input, {network.input_shape}",
            hint="create it with another resolution instead of input_shape",
        )
    return profile_architecture(network)
