"""Whether an imported network answers like the module it was read from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from featherweight.nn.network import Network

__all__ = ["LARGEST", "disagreement"]

LARGEST = 1e-4
"""Of a difference, relative to how far the module's answers to several pictures lie apart."""
_ROUNDINGS = 64
"""So many last digits of the largest answer may differ whatever the pictures do."""
_TELLING = 1e-3
"""Where answers lie closer together than this share of their size, float32 shows too little."""


def disagreement(module: nn.Module, network: Network, images: Tensor) -> float:
    """Return the largest difference of two answers over how far apart the pictures' answers lie.

    The size of the answers says nothing: a bias may dominate it. In float64 where float32 is not
    enough and the module can be run so; at most `LARGEST` is agreement.

    Args:
        module: runs on `images`, in eval mode.
        network: the imported one.
        images: (N, C, H, W), two or more.
    """
    with torch.no_grad():
        expected = module(images)
        found = network(images)
        if found.shape != expected.shape:
            return float("inf")
        spread = float((expected.amax(0) - expected.amin(0)).max())
        telling = spread >= _TELLING * float(expected.abs().max())
        difference = _relative(found, expected)
        if telling and difference <= LARGEST:
            return difference
        exactly = _in_float64(module, images)
        if exactly is None:
            return difference
        return _relative(_in_float64(network, images), exactly)


def _in_float64(module: nn.Module, images: Tensor) -> Any:
    """Answer with a module's weights as float64; `None` where its code insists on another type."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    doubled = {
        name: tensor.double() if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.items()
    }
    try:
        answer = torch.func.functional_call(module, doubled, (images.double(),))
    except (RuntimeError, TypeError, ValueError):
        return None
    return answer if answer.dtype == torch.float64 else None


def _relative(found: Tensor, expected: Tensor) -> float:
    spread = (expected.amax(0) - expected.amin(0)).max()
    limits = torch.finfo(expected.dtype)
    rounding = _ROUNDINGS * limits.eps * expected.abs().max()
    scale = torch.maximum(spread, rounding / LARGEST).clamp_min(limits.tiny)
    return float((found - expected).abs().max() / scale)
