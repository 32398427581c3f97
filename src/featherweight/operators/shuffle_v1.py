"""The unit of ShuffleNetV1: grouped 1x1 convolutions that a channel shuffle connects."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import OPERATORS, Builder, Operator, Value

__all__ = ["shuffle_v1"]


def shuffle_v1(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """Grouped 1x1, activation, shuffle, depthwise k x k, grouped 1x1, joined with the input.

    A unit that keeps the width adds its input; one that widens computes the new channels only
    and puts the input (averaged over 3 x 3 at stride > 1) before them. `hidden_channels` is a
    quarter of `out_channels` unless given. `entry_groups` = 1 for the first unit of the network,
    whose input is narrow.

    Source: ShuffleNet, arXiv 1707.01083, figure 2 (b) and (c), section 3.2.

    Raises:
        ArchitectureError: the unit would have to narrow.
    """
    narrow = block.out_channels - x.shape[0]
    if narrow < 0:
        raise ArchitectureError(
            f"{name}: shuffle_v1 cannot narrow {x.shape[0]} channels to {block.out_channels}"
        )
    hidden = block.hidden_channels or max(1, block.out_channels // 4)
    y = builder.conv(x, f"{name}.expand", hidden, groups=block.entry_groups or block.groups)
    y = builder.activation(y, f"{name}.expand_act", block.activation)
    y = builder.shuffle(y, f"{name}.shuffle", groups=block.groups)
    y = builder.depthwise(
        y, f"{name}.depthwise", kernel_size=block.kernel_size, stride=block.stride
    )
    y = builder.conv(y, f"{name}.project", narrow or block.out_channels, groups=block.groups)
    shortcut = x
    if block.stride > 1:
        shortcut = builder.pool(
            x, f"{name}.shortcut", function="average", kernel_size=3, stride=block.stride
        )
    if narrow:
        y = builder.concat([shortcut, y], f"{name}.concat")
    else:
        y = builder.add(shortcut, y, f"{name}.add")
    return builder.activation(y, f"{name}.act", block.activation)


OPERATORS.add(
    "shuffle_v1",
    Operator(
        shuffle_v1,
        frozenset({"kernel_size", "groups", "entry_groups", "hidden_channels", "activation"}),
    ),
)
