"""A plain convolution block and max pooling."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import OPERATORS, Builder, Operator, Value
from featherweight.operators.ghost import GHOST_FIELDS, ghost_conv
from featherweight.operators.shortcut import add_shortcut
from featherweight.operators.squeeze_excitation import squeeze_excitation

__all__ = ["conv", "max_pool"]


def conv(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """k x k convolution (dense or ghost), norm, activation, [SE], [skip]."""
    y = ghost_conv(
        builder,
        x,
        block,
        f"{name}.main",
        out_channels=block.out_channels,
        kernel_size=block.kernel_size,
        stride=block.stride,
        activation=block.activation,
    )
    y = squeeze_excitation(builder, y, block, name)
    return add_shortcut(builder, x, y, block, name)


def max_pool(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """k x k max pooling; keeps the channels."""
    if block.out_channels != x.shape[0]:
        raise ArchitectureError(
            f"{name}: max_pool keeps {x.shape[0]} channels, not {block.out_channels}"
        )
    return builder.pool(
        x, f"{name}.pool", function="max", kernel_size=block.kernel_size, stride=block.stride
    )


OPERATORS.add(
    "conv",
    Operator(
        conv,
        GHOST_FIELDS | {"kernel_size", "groups", "activation", "se_channels", "se_gate", "skip"},
    ),
)
OPERATORS.add("max_pool", Operator(max_pool, frozenset({"kernel_size"})))
