"""What of a network can be made smaller: channels that are cut together, and branches.

Channels that an addition, a gate or a depthwise filter ties together are one group: they are kept
or left out together. Groups follow from the layers, so that they are found in every network of
blocks and in every imported one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from featherweight.architecture import Architecture, make_divisible
from featherweight.layers import INPUT, Layer
from featherweight.networks.channels import Kind, Numbers, channels_of, is_depthwise, mixes_channels
from featherweight.records import Record

__all__ = [
    "CHANNEL_STEP",
    "Change",
    "Drop",
    "GroupKind",
    "Narrow",
    "Place",
    "WidthGroup",
    "block_of",
    "width_groups",
]

CHANNEL_STEP = 8
"""Widths are multiples of it. Odd ones can be slower than the whole network: three times, in
onnxruntime (Torch-Pruning, issue 38)."""

GroupKind = Literal["hidden", "trunk", "gate", "head"]
"""Inside a block, or written by one convolution of an imported network; between blocks; inside a
squeeze-and-excitation; between pooling and classes."""

_FIELDS: dict[str, tuple[GroupKind, str]] = {
    "expand": ("hidden", "hidden_channels"),
    "first": ("hidden", "hidden_channels"),
    "se.reduce": ("gate", "se_channels"),
}
"""Name of a convolution in its block -> kind of group, and the field that says its width."""
_TRUNK: tuple[GroupKind, str] = ("trunk", "out_channels")
_DENSE = (".shortcut.project", ".se.reduce")
"""Ends of the names of convolutions that are dense in blocks of ghost modules as well."""
_FOLLOWS = ".se.expand"
"""End of the name of what is as wide as the map it scales: no field says it."""


class Place(NamedTuple):
    """Where an architecture says a width.

    Attributes:
        where: `blocks.3`, `head.0`, or the name of a primitive.
        field: of the block or primitive; empty of a head.
    """

    where: str
    field: str


class WidthGroup(NamedTuple):
    """Channels that are cut together.

    Attributes:
        name: of the group, as `Narrow` says it.
        kind: where in the network it is.
        layers: the convolutions and linear layers whose outputs these channels are, in their
            order; depthwise ones that the channels pass through are not among them.
        channels: how many there are.
        step: widths are multiples of it.
        places: where the architecture says the width.
        copies: channels that go together: 2 of a ghost module of ratio 2.
    """

    name: str
    kind: GroupKind
    layers: tuple[str, ...]
    channels: int
    step: int
    places: tuple[Place, ...]
    copies: int = 1

    def narrowed(self, shares: Sequence[float]) -> tuple[Narrow, ...]:
        """Return the changes to shares of the present width, widest first, none twice."""
        widths = dict.fromkeys(make_divisible(share * self.channels, self.step) for share in shares)
        return tuple(
            Narrow(group=self.name, channels=width) for width in widths if width < self.channels
        )


class Narrow(Record):
    """A group becomes narrower: it keeps so many channels."""

    group: str
    channels: int


class Drop(Record):
    """A branch is left out: the addition that ends it gives its other operand."""

    add: str


Change = Narrow | Drop


def block_of(layer: str) -> int | None:
    """Return the position of the block that a layer is inside of; `None` = of none."""
    first, _, rest = layer.partition(".")
    return int(rest.partition(".")[0]) if first == "blocks" else None


@functools.lru_cache(maxsize=64)
def width_groups(architecture: Architecture, *, step: int = CHANNEL_STEP) -> tuple[WidthGroup, ...]:
    """Return what can be made narrower, in the order of the layers.

    Left out are channels of the input and of the answer; those that are partly concatenated with
    zeros; and those that shuffles and selections send different ways.

    Args:
        architecture: of blocks, or imported.
        step: widths are multiples of it.

    Raises:
        UnsupportedError: the network has a layer whose channels nobody knows.
    """
    listed, numbers, kinds = channels_of(architecture)
    fixed = {*numbers[INPUT], *numbers[listed[-1].name]}
    groups = []
    for writers in _tied([one for one in listed if mixes_channels(one)], numbers):
        channels = set(numbers[writers[0].name])
        alike = all(set(numbers[one.name]) == channels for one in writers)
        if not alike or channels & fixed or not _are_of_one_kind(kinds, channels):
            continue
        divisors = _divisors(listed, numbers, channels)
        group = _group(architecture, writers, count=len(channels), step=math.lcm(step, *divisors))
        if group is not None:
            groups.append(group)
    return tuple(groups)


def _tied(writers: Sequence[Layer], numbers: Numbers) -> list[list[Layer]]:
    """Return the layers that write common channels, together, in the order of the first."""
    sets: list[tuple[set[int], list[Layer]]] = []
    for layer in writers:
        own, members = set(numbers[layer.name]), [layer]
        apart = []
        for channels, others in sets:
            if channels & own:
                own |= channels
                members = [*others, *members]
            else:
                apart.append((channels, others))
        sets = [*apart, (own, members)]
    order = {layer.name: position for position, layer in enumerate(writers)}
    found = [sorted(members, key=lambda one: order[one.name]) for _, members in sets]
    return sorted(found, key=lambda members: order[members[0].name])


def _are_of_one_kind(kinds: Mapping[int, Kind], channels: set[int]) -> bool:
    """Whether any channel can go, as far as the layers tell; groups of a convolution apart."""
    seen = {tuple(place for place, _ in kinds[channel]) for channel in channels}
    return len(seen) == 1


def _divisors(listed: Sequence[Layer], numbers: Numbers, channels: set[int]) -> set[int]:
    """Return what a width must be a multiple of: groups of convolutions and of shuffles."""
    return {
        layer.groups
        for layer in listed
        if layer.groups > 1
        and not is_depthwise(layer)
        and not channels.isdisjoint([*numbers[layer.name], *numbers[layer.inputs[0]]])
    }


def _group(
    architecture: Architecture, writers: Sequence[Layer], *, count: int, step: int
) -> WidthGroup | None:
    """Return the group that some layers write; `None` where the widths said for it differ."""
    said = [_said(architecture, layer) for layer in writers if not layer.name.endswith(_FOLLOWS)]
    widths = {width for _, _, width in said}
    if len(widths) != 1 or None in widths:
        return None
    width = said[0][2] or 0
    if width % count:
        return None
    kinds = {kind for kind, _, _ in said}
    kind = kinds.pop() if len(kinds) == 1 else "trunk"
    where, field = said[0][1]
    own_name = not field or bool(architecture.primitives)
    return WidthGroup(
        name=where if own_name else f"{where}.{kind}",
        kind=kind,
        layers=tuple(layer.name for layer in writers),
        channels=width,
        step=math.lcm(step, width // count),
        places=tuple(dict.fromkeys(place for _, place, _ in said)),
        copies=width // count,
    )


def _said(architecture: Architecture, layer: Layer) -> tuple[GroupKind, Place, int | None]:
    """Return the kind of a layer's output, where the architecture says its width, and the width.

    `None` = what is said there is the width of something else: half of it, in a shuffle unit.
    """
    width = layer.output_shape[0]
    if architecture.primitives:
        return "hidden", Place(layer.name, "out_channels"), width
    position = block_of(layer.name)
    if position is None:
        return "head", Place(layer.name.rpartition(".")[0], ""), width
    block = architecture.blocks[position]
    kind, field = _FIELDS.get(layer.name.removeprefix(f"blocks.{position}."), _TRUNK)
    own = width if layer.name.endswith(_DENSE) else width * block.ghost_ratio
    said: int | None = getattr(block, field) or own
    return kind, Place(f"blocks.{position}", field), said if said == own else None
