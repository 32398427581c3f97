"""Muon: momentum whose update of every convolution has all its singular values near one.

Source: Jordan 2024, https://kellerjordan.github.io/posts/muon (Newton-Schulz coefficients) and
his airbench94_muon (three iterations, weights of constant norm). `torch.optim.Muon` takes
matrices only, decays instead of keeping the norm, and always computes in bfloat16, which a CPU may
lack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalised", "takes_muon"]

_ITERATIONS = 3
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon for groups with `orthogonal=True`, SGD with Nesterov momentum for the others.

    An orthogonal group's weights, (out, in, k, k), are brought to norm sqrt(out) before each
    update, whose norm is about sqrt(out) times the learning rate: the rate is the relative
    change. What follows must not depend on their scale: a norm. Such groups have no weight decay.

    Args:
        groups: parameter groups with `params`, `weight_decay` and `orthogonal`.
        lr: learning rate of groups without their own.
        momentum: of all groups.
        dtype: in which directions are made orthogonal: bfloat16 is several times faster where
            the processor has it, and the result is rough by design.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._dtype = dtype
        super().__init__(
            groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; a closure is not supported."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(buffer, alpha=group["momentum"])
        if group["orthogonal"]:
            direction = orthogonalised(direction, dtype=self._dtype)
            parameter.mul_(math.sqrt(len(parameter)) / (parameter.norm() + _TINY))
        parameter.add_(direction, alpha=-group["lr"])


def orthogonalised(direction: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the nearest matrix, about, whose singular values are all one.

    Args:
        direction: (out, ...); the other axes count as one.
        dtype: of the products.

    Returns:
        the same shape and type; singular values of about 0.6 to 1.25, smaller where they were tiny.
    """
    first, second, third = _COEFFICIENTS
    matrix = direction.reshape(len(direction), -1)
    is_tall = matrix.shape[0] > matrix.shape[1]
    if is_tall:
        matrix = matrix.T
    matrix = (matrix / (matrix.norm() + _TINY)).to(dtype)
    for _ in range(_ITERATIONS):
        square = matrix @ matrix.T
        matrix = first * matrix + (second * square + third * (square @ square)) @ matrix
    result: Tensor = matrix.T if is_tall else matrix
    return result.to(direction.dtype).reshape(direction.shape)


def takes_muon(module: nn.Module) -> bool:
    """Whether a module's weight is a matrix whose scale a norm behind it takes out.

    A dense convolution without a bias. Depthwise and grouped ones are no single matrix; one with a
    bias (squeeze-excitation, a head) has no norm behind it.
    """
    return isinstance(module, nn.Conv2d) and module.groups == 1 and module.bias is None
