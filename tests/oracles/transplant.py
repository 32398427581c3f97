"""Give two modules the same random weights, and compare and count what they compute."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm2d,)


def randomise(module: nn.Module, *, seed: int) -> None:
    """Draw weights that keep the scale of the signal, and norm statistics far from 0 and 1.

    Fresh torchvision networks output about 1e-9 in eval mode, where every comparison passes.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                scale = math.sqrt(6.0 / part.weight[0].numel())
                uniform(part.weight, -scale, scale)
                if part.bias is not None:
                    uniform(part.bias, -0.5, 0.5)
            elif isinstance(part, NORMS):
                uniform(part.weight, 0.5, 1.5)
                uniform(part.bias, -0.5, 0.5)
                uniform(part.running_mean, -0.5, 0.5)
                uniform(part.running_var, 0.5, 1.5)


def copy_by_position(source: nn.Module, target: nn.Module) -> None:
    """Copy all tensors in their order of definition; only trailing axes of size 1 may differ."""
    given, wanted = source.state_dict(), target.state_dict()
    assert len(given) == len(wanted)
    renamed = {}
    for (name, tensor), (target_name, place) in zip(given.items(), wanted.items(), strict=True):
        shapes = [tuple(t.shape) for t in (tensor, place)]
        short, long = sorted(shapes, key=len)
        assert long == short + (1,) * (len(long) - len(short)), f"{name} {target_name} {shapes}"
        renamed[target_name] = tensor.reshape(place.shape)
    target.load_state_dict(renamed)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().item()
    assert scale > 1e-2, "the oracle says nothing: its outputs vanish"
    assert expected.std(dim=0).max().item() > 1e-3 * scale, "the oracle ignores its input"
    return (actual - expected).abs().max().item() / scale


def count(module: nn.Module, *, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return (params, multiply-adds, exact operations) seen by hooks in one forward pass."""
    totals = [0, 0]

    def hook(part: nn.Module, _inputs: object, output: Tensor) -> None:
        assert isinstance(part, nn.Conv2d | nn.Linear)
        products = part.weight[0].numel()
        totals[0] += products * output.numel()
        totals[1] += (2 * products - (part.bias is None)) * output.numel()

    handles = [
        part.register_forward_hook(hook)
        for part in module.modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    device = next(module.parameters()).device
    with torch.no_grad():
        module.eval()(torch.zeros(1, *input_shape, device=device))
    for handle in handles:
        handle.remove()
    return sum(p.numel() for p in module.parameters()), totals[0], totals[1]
