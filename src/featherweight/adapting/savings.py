"""What narrower groups and fewer branches save on a platform, each measured where it matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from featherweight.adapting.branches import branch_layers, droppable
from featherweight.adapting.changes import changed
from featherweight.adapting.groups import (
    Change,
    Drop,
    GroupKind,
    WidthGroup,
    block_of,
    width_groups,
)
from featherweight.architecture import Architecture, BlockSpec
from featherweight.layers import layers
from featherweight.networks.channels import channels_of
from featherweight.records import Record

__all__ = ["Saving", "change_options", "measure_savings"]

_SHARES = (0.75, 0.5, 0.25)
"""Of the width of a group."""


class Saving(Record):
    """Milliseconds that a change of a network saves by itself."""

    change: Change
    saved_ms: float


def change_options(
    architecture: Architecture,
    *,
    shares: Sequence[float] = _SHARES,
    kinds: Iterable[GroupKind] = ("hidden", "trunk", "gate", "head"),
) -> tuple[Change, ...]:
    """Return the changes considered: of every group from the least to the most, then branches."""
    kinds = frozenset(kinds)
    groups = [group for group in width_groups(architecture) if group.kind in kinds]
    narrowed = [change for group in groups for change in group.narrowed(shares)]
    return (*narrowed, *droppable(architecture))


def measure_savings(
    architecture: Architecture,
    options: Sequence[Change],
    *,
    time: Callable[[Sequence[Architecture]], Sequence[float]],
) -> tuple[Saving, ...]:
    """Return what every change saves, by itself, in the precision that `time` times.

    Timed are the blocks that a change touches: those that write the channels and those that read
    them, as a network of their own, where a saving is a large part of the whole. What surrounds
    the change is the same with and without it, and falls out of the difference. An imported
    network has no blocks: it is timed whole.

    Args:
        architecture: the parent, at its resolution.
        options: see `change_options`.
        time: networks -> medians in ms; interleaved, of files as they would ship.
    """
    touched = _touched_blocks(architecture, options)
    present, wanted = {}, {}
    for change in options:
        place = touched[change]
        present[change] = _excerpt(architecture, place, None)
        wanted[change] = _excerpt(architecture, place, change)
    distinct = {one.digest: one for one in (*present.values(), *wanted.values())}
    medians = dict(zip(distinct, time(list(distinct.values())), strict=True))
    return tuple(
        Saving(
            change=change,
            saved_ms=max(0.0, medians[present[change].digest] - medians[network.digest]),
        )
        for change, network in wanted.items()
    )


class _Place(NamedTuple):
    """The first and the last block that a change touches, and whether what follows is touched."""

    first: int
    last: int
    head: bool


def _touched_blocks(
    architecture: Architecture, options: Sequence[Change]
) -> dict[Change, _Place | None]:
    """Return where each change is; `None` = an imported network has no blocks."""
    if architecture.primitives:
        return dict.fromkeys(options)
    groups = {group.name: group for group in width_groups(architecture)}
    touching = _touching_layers(architecture, groups.values())
    last = len(architecture.blocks) - 1
    places: dict[Change, _Place | None] = {}
    for change in options:
        names = {change.add} if isinstance(change, Drop) else touching[change.group]
        positions = {block_of(name) for name in names}
        blocks = {position for position in positions if position is not None}
        head = None in positions
        places[change] = _Place(min(blocks, default=last), last if head else max(blocks), head)
    return places


def _touching_layers(
    architecture: Architecture, groups: Iterable[WidthGroup]
) -> dict[str, set[str]]:
    """Return the layers that write or read the channels of each group, by its name."""
    listed, numbers, _ = channels_of(architecture)
    owner = {number: group.name for group in groups for number in numbers[group.layers[0]]}
    touching: dict[str, set[str]] = {}
    for layer in listed:
        for name in (layer.name, *layer.inputs):
            for number in numbers[name]:
                if number in owner:
                    touching.setdefault(owner[number], set()).add(layer.name)
    return touching


def _excerpt(
    architecture: Architecture, place: _Place | None, change: Change | None
) -> Architecture:
    """Return the touched blocks, as they are or changed, as a network of their own.

    A file takes pictures of three channels: a 1x1 convolution makes the first block's input of
    them. A single block that could be left out stands behind itself, so that without it there is
    still one.
    """
    after = architecture if change is None else changed(architecture, [change])
    if place is None:
        return after
    gone = len(architecture.blocks) - len(after.blocks)
    blocks = list(after.blocks[place.first : place.last + 1 - gone])
    shape = architecture.input_shape
    if place.first > 0:
        channels, height, width = _input_shape(architecture, place.first)
        shape = (3, height, width)
        lead = [BlockSpec(op="conv", out_channels=channels, kernel_size=1)]
        alone = place.first == place.last and not place.head
        if alone and _is_droppable(architecture, place.first):
            lead.append(architecture.blocks[place.first])
        blocks = [*lead, *blocks]
    return after.changed(
        name=f"blocks-{place.first}-{place.last}",
        input_shape=shape,
        blocks=tuple(blocks),
        head_channels=after.head_channels if place.head else (),
        num_classes=after.num_classes if place.head else 2,
    )


def _is_droppable(architecture: Architecture, position: int) -> bool:
    return any(block_of(name) == position for name in branch_layers(architecture))


def _input_shape(architecture: Architecture, position: int) -> tuple[int, int, int]:
    """Return (C, H, W) of what enters a block."""
    prefix = f"blocks.{position}."
    first = next(layer for layer in layers(architecture) if layer.name.startswith(prefix))
    channels, height, width = first.input_shape
    return channels, height, width
