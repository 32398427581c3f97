"""The basic residual block of ResNet."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.layers import OPERATORS, Builder, Operator, Value
from featherweight.operators.ghost import GHOST_FIELDS, ghost_conv
from featherweight.operators.shortcut import add_shortcut

__all__ = ["residual"]


def residual(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """k x k, norm, activation, k x k, norm, [skip], activation; dense or ghost convolutions.

    Source: ResNet, arXiv 1512.03385, figure 2; skip `pad` is its option A.
    """
    y = ghost_conv(
        builder,
        x,
        block,
        f"{name}.first",
        out_channels=block.hidden_channels or block.out_channels,
        kernel_size=block.kernel_size,
        stride=block.stride,
        activation=block.activation,
    )
    y = ghost_conv(
        builder,
        y,
        block,
        f"{name}.second",
        out_channels=block.out_channels,
        kernel_size=block.kernel_size,
        activation="none",
    )
    y = add_shortcut(builder, x, y, block, name)
    return builder.activation(y, f"{name}.act", block.activation)


OPERATORS.add(
    "residual",
    Operator(residual, GHOST_FIELDS | {"kernel_size", "hidden_channels", "activation", "skip"}),
)
