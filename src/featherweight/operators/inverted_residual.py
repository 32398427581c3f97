"""The inverted residual with linear bottleneck of MobileNetV2, with V3's squeeze-and-excitation."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.layers import OPERATORS, Builder, Operator, Value
from featherweight.operators.shortcut import add_shortcut
from featherweight.operators.squeeze_excitation import squeeze_excitation

__all__ = ["inverted_residual"]


def inverted_residual(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """[1x1 expansion], depthwise k x k, [SE], linear 1x1, [skip].

    The expansion is there exactly when `hidden_channels` is given. Squeeze-and-excitation comes
    after the depthwise activation and before the projection.

    Source: MobileNetV2, arXiv 1801.04381, table 1; MobileNetV3, arXiv 1905.02244, figure 4.
    """
    y = x
    if block.hidden_channels is not None:
        y = builder.conv(y, f"{name}.expand", block.hidden_channels)
        y = builder.activation(y, f"{name}.expand_act", block.activation)
    y = builder.depthwise(
        y, f"{name}.depthwise", kernel_size=block.kernel_size, stride=block.stride
    )
    y = builder.activation(y, f"{name}.depthwise_act", block.activation)
    y = squeeze_excitation(builder, y, block, name)
    y = builder.conv(y, f"{name}.project", block.out_channels)
    return add_shortcut(builder, x, y, block, name)


OPERATORS.add(
    "inverted_residual",
    Operator(
        inverted_residual,
        frozenset(
            {"kernel_size", "hidden_channels", "activation", "se_channels", "se_gate", "skip"}
        ),
    ),
)
