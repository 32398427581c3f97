"""The networks that changes make, and their weights: the most important channels of the parent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.branches import branch_layers, dropped_primitives
from featherweight.adapting.groups import Change, Drop, Narrow, WidthGroup, block_of, width_groups
from featherweight.adapting.repair import repair_readers
from featherweight.architecture import Architecture, BlockSpec, Primitive
from featherweight.errors import ArchitectureError, UnsupportedError, UsageError
from featherweight.layers import layers
from featherweight.networks.channels import channels_of, is_depthwise
from featherweight.networks.slicing import kept_channels, slice_network
from featherweight.nn.network import Network

__all__ = ["Narrowed", "apply", "changed", "narrow", "shrunk_name"]

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_KEEPS_CHANNELS = frozenset({"max_pool"})
"""Operators whose width is that of the block before."""


def changed(
    architecture: Architecture, changes: Iterable[Change], *, name: str | None = None
) -> Architecture:
    """Return the architecture after changes.

    Args:
        architecture: of blocks, or imported.
        changes: groups and branches are those of `architecture`, also where blocks before them go.
        name: of the result; by default the parent's.

    Raises:
        UsageError: a branch cannot be left out, or there is no such group, or it is narrower.
        UnsupportedError: the network cannot have that width.
    """
    changes = tuple(changes)
    drops = _drops(architecture, changes)
    narrow = _narrowed(architecture, changes)
    return _without(narrow, drops).changed(name=name or architecture.name)


def apply(
    network: Network,
    changes: Iterable[Change],
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    name: str | None = None,
    repaired_by: Tensor | None = None,
) -> Network:
    """Return a network after changes, with its most important channels, in eval mode.

    Args:
        network: it stays as it is.
        changes: see `changed`.
        importance: of the channels of layers (see `adapting.importance`); the L2 norm of their
            filters ranks those that it does not name.
        name: of the result; by default the parent's.
        repaired_by: normalised pictures (N, C, H, W) that the weights which lose inputs are fitted
            by (`adapting.repair`); `None` = they stay.

    Raises:
        UsageError, UnsupportedError: see `changed`.
    """
    changes = tuple(changes)
    parent = network.architecture
    drops = _drops(parent, changes)
    narrows = [change for change in changes if isinstance(change, Narrow)]
    thin = narrow(network, narrows, importance=importance, repaired_by=repaired_by).network
    with torch.device("meta"):  # nothing is drawn
        result = Network(_without(thin.architecture, drops).changed(name=name or parent.name))
    places = {} if parent.primitives else _places(parent, drops)
    given = {_moved(key, places): tensor for key, tensor in thin.state_dict().items()}
    result.load_state_dict({key: given[key] for key in result.state_dict()}, assign=True)
    return result.eval()


def _moved(key: str, places: Mapping[int, int]) -> str:
    """Return what a weight is called once its block has another place, or none."""
    match = _BLOCK.fullmatch(key) if places else None
    if match is None:
        return key
    place = places.get(int(match[1]))
    return f"blocks.{place}.{match[2]}" if place is not None else f"dropped.{key}"


class Narrowed(NamedTuple):
    """A narrower network, in eval mode, and which channels of its parent it has (by layer)."""

    network: Network
    kept: Mapping[str, NDArray[np.int64]]


def narrow(
    network: Network,
    changes: Iterable[Narrow],
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    repaired_by: Tensor | None = None,
) -> Narrowed:
    """Return a network with narrower groups, and where its channels come from; see `apply`."""
    thin = _narrowed(network.architecture, tuple(changes))
    kept = kept_channels(network, thin, importance=importance)
    sliced = slice_network(network, thin, kept=kept)
    if repaired_by is not None:
        repair_readers(sliced, network, kept, repaired_by)
    return Narrowed(sliced, kept)


def shrunk_name(base: str, architecture: Architecture) -> str:
    """Return what a network is called that was made from the one called `base`."""
    return f"{base}-shrunk-{architecture.digest[:6]}"


def _drops(architecture: Architecture, changes: Sequence[Change]) -> tuple[Drop, ...]:
    allowed = branch_layers(architecture)
    drops = tuple(dict.fromkeys(change for change in changes if isinstance(change, Drop)))
    for drop in drops:
        if drop.add not in allowed:
            raise UsageError(
                f"what ends at {drop.add} of {architecture.name} cannot be left out",
                allowed="branches that are added to their own input: "
                + (", ".join(allowed) or "none here"),
            )
    return drops


def _narrowed(architecture: Architecture, changes: Sequence[Change]) -> Architecture:
    """Return the architecture with its groups narrowed and every branch still there."""
    groups = {group.name: group for group in width_groups(architecture)}
    widths: dict[WidthGroup, int] = {}
    for change in changes:
        if isinstance(change, Drop):
            continue
        group = groups.get(change.group)
        if group is None:
            raise UsageError(
                f"{architecture.name} has no group {change.group!r}",
                allowed=", ".join(groups) or "none: no width of it can be changed",
            )
        _check_width(architecture, group, change)
        widths[group] = change.channels
    try:
        narrow = (_narrow_primitives if architecture.primitives else _narrow_blocks)(
            architecture, widths
        )
        layers(narrow)
    except ArchitectureError as failure:
        raise UnsupportedError(f"{architecture.name} cannot have that width: {failure}") from None
    return narrow


def _check_width(architecture: Architecture, group: WidthGroup, change: Narrow) -> None:
    if not 0 < change.channels <= group.channels or change.channels % group.copies:
        raise UsageError(
            f"{change.group} of {architecture.name} cannot have {change.channels} channels",
            allowed=f"1 to {group.channels}"
            + (f", a multiple of {group.copies}" if group.copies > 1 else ""),
        )


def _narrow_blocks(architecture: Architecture, widths: Mapping[WidthGroup, int]) -> Architecture:
    blocks = list(architecture.blocks)
    heads = list(architecture.head_channels)
    for group, width in widths.items():
        for place in group.places:
            part, _, index = place.where.partition(".")
            if part == "head":
                heads[int(index)] = width
            else:
                fields = {**blocks[int(index)].model_dump(), place.field: width}
                blocks[int(index)] = BlockSpec.model_validate(fields)
    for k, block in enumerate(blocks):
        if block.op in _KEEPS_CHANNELS and k > 0:
            width = blocks[k - 1].out_channels
            blocks[k] = block.model_copy(update={"out_channels": width})
    return architecture.changed(blocks=tuple(blocks), head_channels=tuple(heads))


def _narrow_primitives(
    architecture: Architecture, widths: Mapping[WidthGroup, int]
) -> Architecture:
    """Give every primitive the width that is left; of one group any channels will do."""
    found = channels_of(architecture)
    listed, numbers = {layer.name: layer for layer in found.layers}, found.numbers
    gone: set[int] = set()
    for group, width in widths.items():
        own = list(dict.fromkeys(numbers[group.layers[0]]))
        gone.update(own[width // group.copies :])

    def left(given: Sequence[int]) -> int:
        return sum(number not in gone for number in given)

    def fitted(primitive: Primitive) -> Primitive:
        fields: dict[str, int] = {}
        given = numbers[primitive.inputs[0]]
        if primitive.out_channels is not None:
            fields["out_channels"] = left(numbers[primitive.name])
        if is_depthwise(listed[primitive.name]):
            fields["groups"] = left(given)
        if primitive.first_channel:
            fields["first_channel"] = left(given[: primitive.first_channel])
        return primitive.model_copy(update=fields)

    return architecture.changed(primitives=tuple(map(fitted, architecture.primitives)))


def _without(architecture: Architecture, drops: Sequence[Drop]) -> Architecture:
    if not drops:
        return architecture
    if architecture.primitives:
        return architecture.changed(primitives=dropped_primitives(architecture, drops))
    kept = _places(architecture, drops)
    return architecture.changed(blocks=tuple(architecture.blocks[k] for k in kept))


def _places(architecture: Architecture, drops: Sequence[Drop]) -> dict[int, int]:
    """Return where each block goes that stays."""
    gone = {block_of(drop.add) for drop in drops}
    kept = [k for k in range(len(architecture.blocks)) if k not in gone]
    return {old: new for new, old in enumerate(kept)}
