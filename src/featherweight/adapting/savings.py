"""What narrower and fewer blocks save on a platform, measured block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featherweight.adapting.groups import (
    Change,
    Drop,
    WidthGroup,
    changed,
    droppable_blocks,
    width_groups,
)
from featherweight.architecture import Architecture, BlockSpec
from featherweight.layers import layers
from featherweight.records import Record

__all__ = ["Saving", "change_options", "measure_savings"]

_SHARES = (0.75, 0.5, 0.25)
"""Of the width of a group."""


class Saving(Record):
    """Milliseconds that a change of a network saves; `block` is where."""

    block: int
    change: Change
    saved_ms: float


def change_options(architecture: Architecture) -> dict[WidthGroup, tuple[Change, ...]]:
    """Return the changes considered for every group, from the least to the most."""
    droppable = droppable_blocks(architecture)
    return {
        group: (
            *group.narrowed(_SHARES),
            *(Drop(block=k) for k in (group.block,) if k in droppable),
        )
        for group in width_groups(architecture)
    }


def measure_savings(
    architecture: Architecture, *, time: Callable[[Sequence[Architecture]], Sequence[float]]
) -> tuple[Saving, ...]:
    """Return what every change of `change_options` saves, by itself.

    Each block is timed alone, where a saving is a large part of the whole: in a network of the
    block as it is (if it can be dropped) and the changed block. What surrounds it is the same in
    every such network, and falls out of the difference.

    Args:
        architecture: the parent, at its resolution.
        time: networks -> medians in ms; interleaved, of files as they would ship.
    """
    options = change_options(architecture)
    present = {group.block: _alone(architecture, group.block, None) for group in options}
    wanted = {
        (group.block, change): _alone(architecture, group.block, change)
        for group, changes in options.items()
        for change in changes
    }
    distinct = {one.digest: one for one in (*present.values(), *wanted.values())}
    medians = dict(zip(distinct, time(list(distinct.values())), strict=True))
    return tuple(
        Saving(
            block=block,
            change=change,
            saved_ms=max(0.0, medians[present[block].digest] - medians[network.digest]),
        )
        for (block, change), network in wanted.items()
    )


def _alone(architecture: Architecture, position: int, change: Change | None) -> Architecture:
    """Return the changed block, behind itself where it could be dropped, as a network of its own.

    A file takes pictures of three channels: a 1x1 convolution makes the block's input of them.
    """
    present = architecture.blocks[position]
    channels, height, width = _input_shape(architecture, position)
    blocks = [BlockSpec(op="conv", out_channels=channels, kernel_size=1)]
    if position in droppable_blocks(architecture):
        blocks.append(present)
    if not isinstance(change, Drop):
        after = architecture if change is None else changed(architecture, [change])
        blocks.append(after.blocks[position])
    return architecture.changed(
        name=f"block-{position}",
        input_shape=(3, height, width),
        blocks=tuple(blocks),
        head_channels=(),
        num_classes=2,
    )


def _input_shape(architecture: Architecture, position: int) -> tuple[int, int, int]:
    """Return (C, H, W) of what enters a block."""
    prefix = f"blocks.{position}."
    first = next(layer for layer in layers(architecture) if layer.name.startswith(prefix))
    channels, height, width = first.input_shape
    return channels, height, width
