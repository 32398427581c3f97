"""Ghost features: a dense convolution computes some channels, cheap ones the rest."""

from __future__ import annotations

import math

from featherweight.architecture import BlockSpec
from featherweight.layers import OPERATORS, Builder, Operator, Value
from featherweight.operators.squeeze_excitation import squeeze_excitation

__all__ = ["GHOST_FIELDS", "ghost", "ghost_conv"]

GHOST_FIELDS = frozenset({"ghost_ratio", "cheap_kernel_size"})
"""Fields of an operator whose dense convolutions can be ghost modules."""


def ghost_conv(
    builder: Builder,
    x: Value,
    block: BlockSpec,
    name: str,
    *,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    activation: str,
) -> Value:
    """Convolution in the block's groups, norm, activation; of ghost ratio s > 1 a ghost module.

    The dense convolution then has ceil(n / s) outputs; each of them gives s - 1 more through
    d x d depthwise filters (with norm and activation), and n of all are kept.

    Source: GhostNet, arXiv 1911.11907, section 3.1, equations 2 and 3.
    """
    ratio = block.ghost_ratio
    intrinsic = math.ceil(out_channels / ratio)
    y = builder.conv(
        x, name, intrinsic, kernel_size=kernel_size, stride=stride, groups=block.groups
    )
    y = builder.activation(y, f"{name}_act", activation)
    if ratio == 1:
        return y
    cheap = builder.conv(
        y,
        f"{name}_cheap",
        intrinsic * (ratio - 1),
        kernel_size=block.cheap_kernel_size,
        groups=intrinsic,
    )
    cheap = builder.activation(cheap, f"{name}_cheap_act", activation)
    z = builder.concat([y, cheap], f"{name}_concat")
    return builder.select_channels(z, f"{name}_kept", first=0, count=out_channels)


def ghost(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """Ghost bottleneck: ghost module, [depthwise k x k], [SE], linear ghost module, shortcut.

    The depthwise convolution is there at stride > 1 only, without activation. The shortcut is
    the input where the shapes agree, else depthwise k x k, norm, 1x1, norm.

    Source: GhostNet, arXiv 1911.11907, section 3.2 and figure 3.
    """
    hidden = block.hidden_channels or x.shape[0]
    y = ghost_conv(
        builder, x, block, f"{name}.expand", out_channels=hidden, activation=block.activation
    )
    if block.stride > 1:
        y = builder.depthwise(
            y, f"{name}.depthwise", kernel_size=block.kernel_size, stride=block.stride
        )
    y = squeeze_excitation(builder, y, block, name)
    y = ghost_conv(
        builder, y, block, f"{name}.project", out_channels=block.out_channels, activation="none"
    )
    shortcut = x
    if x.shape != y.shape:
        shortcut = builder.depthwise(
            x, f"{name}.shortcut.depthwise", kernel_size=block.kernel_size, stride=block.stride
        )
        shortcut = builder.conv(shortcut, f"{name}.shortcut.project", block.out_channels)
    return builder.add(shortcut, y, f"{name}.add")


OPERATORS.add(
    "ghost",
    Operator(
        ghost,
        GHOST_FIELDS | {"kernel_size", "hidden_channels", "activation", "se_channels", "se_gate"},
    ),
)
