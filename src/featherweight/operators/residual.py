"""The basic residual block of ResNet."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.layers import OPERATORS, Builder, Operator, Tensor
from featherweight.operators.shortcut import add_shortcut

__all__ = ["residual"]


def residual(builder: Builder, x: Tensor, block: BlockSpec, name: str) -> Tensor:
    """k x k, norm, activation, k x k, norm, [skip], activation.

    Source: ResNet, arXiv 1512.03385, figure 2; skip `pad` is its option A.
    """
    hidden = block.hidden_channels or block.out_channels
    y = builder.conv(x, f"{name}.first", hidden, kernel_size=block.kernel_size, stride=block.stride)
    y = builder.activation(y, f"{name}.first_act", block.activation)
    y = builder.conv(y, f"{name}.second", block.out_channels, kernel_size=block.kernel_size)
    y = add_shortcut(builder, x, y, block, name)
    return builder.activation(y, f"{name}.act", block.activation)


OPERATORS.add(
    "residual",
    Operator(residual, frozenset({"kernel_size", "hidden_channels", "activation", "skip"})),
)
