"""The depthwise-separable block of MobileNetV1."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.layers import OPERATORS, Builder, Operator, Value

__all__ = ["separable"]


def separable(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """Depthwise k x k, norm, activation, 1x1, norm, activation.

    Source: MobileNetV1, arXiv 1704.04861, section 3.1 and figure 3.
    """
    y = builder.depthwise(
        x, f"{name}.depthwise", kernel_size=block.kernel_size, stride=block.stride
    )
    y = builder.activation(y, f"{name}.depthwise_act", block.activation)
    y = builder.conv(y, f"{name}.pointwise", block.out_channels)
    return builder.activation(y, f"{name}.pointwise_act", block.activation)


OPERATORS.add("separable", Operator(separable, frozenset({"kernel_size", "activation"})))
