"""Squeeze-and-excitation: a gate per channel computed from the mean of the map."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.layers import Builder, Value

__all__ = ["squeeze_excitation"]


def squeeze_excitation(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """mean -> 1x1 (bias) -> ReLU -> 1x1 (bias) -> gate -> scale; nothing when not asked for.

    Source: MobileNetV3, arXiv 1905.02244, section 5.3 (the gate is a hard sigmoid there).
    """
    if block.se_channels == 0:
        return x
    y = builder.global_pool(x, f"{name}.se.pool")  # (C, 1, 1)
    y = builder.conv(y, f"{name}.se.reduce", block.se_channels, norm=False)
    y = builder.activation(y, f"{name}.se.act", "relu")
    y = builder.conv(y, f"{name}.se.expand", x.shape[0], norm=False)
    y = builder.activation(y, f"{name}.se.gate", block.se_gate)
    return builder.multiply(x, y, f"{name}.se.scale")
