"""The universal inverted bottleneck of MobileNetV4."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import OPERATORS, Builder, Operator, Value
from featherweight.operators.shortcut import add_shortcut
from featherweight.operators.squeeze_excitation import squeeze_excitation

__all__ = ["universal_inverted_bottleneck"]


def universal_inverted_bottleneck(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """[depthwise], 1x1 expansion, [depthwise], [SE], linear 1x1, [skip].

    Both depthwise convolutions are optional, which gives four blocks in one: `start_kernel_size`
    = `None` leaves out the first (no activation follows it), `kernel_size` = 1 the second. The
    stride is that of the second, or of the first where there is no second.

    Source: MobileNetV4, arXiv 2404.10518, section 3 and figure 4.

    Raises:
        ArchitectureError: a stride without a depthwise convolution.
    """
    has_middle = block.kernel_size > 1
    if block.stride > 1 and not has_middle and block.start_kernel_size is None:
        raise ArchitectureError(
            f"{name}: stride {block.stride} needs a depthwise convolution",
            allowed="a start_kernel_size, or a kernel_size above 1",
        )
    y = x
    if block.start_kernel_size is not None:
        y = builder.depthwise(
            y,
            f"{name}.start",
            kernel_size=block.start_kernel_size,
            stride=1 if has_middle else block.stride,
        )
    y = builder.conv(y, f"{name}.expand", block.hidden_channels or y.shape[0])
    y = builder.activation(y, f"{name}.expand_act", block.activation)
    if has_middle:
        y = builder.depthwise(
            y, f"{name}.depthwise", kernel_size=block.kernel_size, stride=block.stride
        )
        y = builder.activation(y, f"{name}.depthwise_act", block.activation)
    y = squeeze_excitation(builder, y, block, name)
    y = builder.conv(y, f"{name}.project", block.out_channels)
    return add_shortcut(builder, x, y, block, name)


OPERATORS.add(
    "universal_inverted_bottleneck",
    Operator(
        universal_inverted_bottleneck,
        frozenset(
            {
                "kernel_size",
                "start_kernel_size",
                "hidden_channels",
                "activation",
                "se_channels",
                "se_gate",
                "skip",
            }
        ),
    ),
)
