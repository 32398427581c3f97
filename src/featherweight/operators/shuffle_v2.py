"""The units of ShuffleNetV2: half of the channels pass, the other half is computed."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import OPERATORS, Builder, Operator, Value
from featherweight.operators.shortcut import add_shortcut
from featherweight.operators.squeeze_excitation import squeeze_excitation

__all__ = ["shuffle_v2"]

_HALVES = 2


def shuffle_v2(builder: Builder, x: Value, block: BlockSpec, name: str) -> Value:
    """Split or copy, compute one branch, concatenate, shuffle.

    At stride 1 and equal widths the first half of the channels passes and the second goes through
    1x1, activation, depthwise k x k, 1x1, activation, [SE]; skip `identity` adds that half's
    input to it (the residual form of the large networks). Otherwise both branches read all
    channels, and the shortcut is depthwise k x k, 1x1, activation with `shortcut_channels`.

    Source: ShuffleNetV2, arXiv 1807.11164, figure 3 (c) and (d); appendix figure 2 (SE, residual).

    Raises:
        ArchitectureError: the widths cannot be halved, or leave nothing for the branch.
    """
    keeps = block.stride == 1 and x.shape[0] == block.out_channels
    if block.out_channels % _HALVES:
        raise ArchitectureError(f"{name}: shuffle_v2 cannot halve {block.out_channels} channels")
    half = block.out_channels // _HALVES
    if keeps:
        shortcut = builder.select_channels(x, f"{name}.passed", first=0, count=half)
        entry = builder.select_channels(x, f"{name}.entry", first=half, count=half)
        width = half
    else:
        passed = block.shortcut_channels or half
        width = block.out_channels - passed
        if width < 1:
            raise ArchitectureError(
                f"{name}: a shortcut of {passed} channels leaves none of {block.out_channels}",
                allowed=f"1 to {block.out_channels - 1}",
            )
        shortcut = builder.depthwise(
            x, f"{name}.shortcut.depthwise", kernel_size=block.kernel_size, stride=block.stride
        )
        shortcut = builder.conv(shortcut, f"{name}.shortcut.project", passed)
        shortcut = builder.activation(shortcut, f"{name}.shortcut.act", block.activation)
        entry = x
    y = _branch(builder, entry, block, name, width=width)
    if keeps:
        y = add_shortcut(builder, entry, y, block, name)
    elif block.skip != "none":
        raise ArchitectureError(
            f"{name}: skip {block.skip!r} in a unit that changes the map", allowed="skip 'none'"
        )
    y = builder.concat([shortcut, y], f"{name}.concat")
    return builder.shuffle(y, f"{name}.shuffle", groups=_HALVES)


def _branch(builder: Builder, x: Value, block: BlockSpec, name: str, *, width: int) -> Value:
    hidden = block.hidden_channels or block.out_channels // _HALVES
    y = builder.conv(x, f"{name}.expand", hidden)
    y = builder.activation(y, f"{name}.expand_act", block.activation)
    y = builder.depthwise(
        y, f"{name}.depthwise", kernel_size=block.kernel_size, stride=block.stride
    )
    y = builder.conv(y, f"{name}.project", width)
    y = builder.activation(y, f"{name}.project_act", block.activation)
    return squeeze_excitation(builder, y, block, name)


OPERATORS.add(
    "shuffle_v2",
    Operator(
        shuffle_v2,
        frozenset(
            {
                "kernel_size",
                "hidden_channels",
                "shortcut_channels",
                "activation",
                "se_channels",
                "se_gate",
                "skip",
            }
        ),
    ),
)
