"""What of a network can be made smaller, the changes, and the networks they make.

Channels that a depthwise convolution or a gate ties together are one group: they are kept or left
out together. So far these are the hidden channels of inverted residuals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture, make_divisible
from featherweight.errors import UsageError
from featherweight.layers import layers
from featherweight.networks.slicing import slice_network
from featherweight.nn.network import Network
from featherweight.records import Record

__all__ = [
    "Change",
    "Drop",
    "Narrow",
    "WidthGroup",
    "apply",
    "changed",
    "droppable_blocks",
    "shrunk_name",
    "width_groups",
]

_CHANNEL_STEP = 8
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


class WidthGroup(NamedTuple):
    """Channels that are cut together.

    Attributes:
        name: of the group, as `Narrow` says it.
        block: position of the block that the channels are inside of.
        layers: the convolutions with a norm whose outputs these channels are, in their order.
        channels: how many there are.
        step: widths are multiples of it.
    """

    name: str
    block: int
    layers: tuple[str, ...]
    channels: int
    step: int

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
    """A block is left out, by its position: what it adds to is its own input."""

    block: int


Change = Narrow | Drop


def width_groups(architecture: Architecture) -> tuple[WidthGroup, ...]:
    """Return what can be made narrower, in the order of the blocks.

    These are the hidden channels of inverted residuals with an expansion: nothing outside a block
    sees them.
    """
    groups = []
    listed = layers(architecture)
    for position, block in enumerate(architecture.blocks):
        if block.op != "inverted_residual" or block.hidden_channels is None:
            continue
        inside = f"blocks.{position}."
        writers = tuple(
            layer.name
            for layer in listed
            if layer.name in {f"{inside}expand", f"{inside}depthwise"}
        )
        groups.append(
            WidthGroup(f"{inside}hidden", position, writers, block.hidden_channels, _CHANNEL_STEP)
        )
    return tuple(groups)


def droppable_blocks(architecture: Architecture) -> tuple[int, ...]:
    """Return the positions of blocks without which the network is still one."""
    return tuple(
        position
        for position, block in enumerate(architecture.blocks)
        if block.skip == "identity" and block.stride == 1
    )


def changed(
    architecture: Architecture, changes: Iterable[Change], *, name: str | None = None
) -> Architecture:
    """Return the architecture after changes.

    Args:
        architecture: of blocks.
        changes: groups and blocks are those of `architecture`, also where blocks before them go.
        name: of the result; by default the parent's.

    Raises:
        UsageError: a block cannot be dropped, or there is no such group, or it is narrower.
    """
    changes = tuple(changes)
    return _without(_narrowed(architecture, changes), _dropped(architecture, changes), name=name)


def apply(
    network: Network,
    changes: Iterable[Change],
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    name: str | None = None,
) -> Network:
    """Return a network after changes, with its most important channels, in eval mode.

    Args:
        network: it stays as it is.
        changes: see `changed`.
        importance: of the channels of layers (see `channel_importance`); the L2 norm of their
            filters ranks those that it does not name.
        name: of the result; by default the parent's.

    Raises:
        UsageError: see `changed`.
        UnsupportedError: the network's channels cannot be sliced.
    """
    changes = tuple(changes)
    parent = network.architecture
    dropped = _dropped(parent, changes)
    thin = slice_network(network, _narrowed(parent, changes), importance=importance)
    kept = [k for k in range(len(parent.blocks)) if k not in dropped]
    places = {old: new for new, old in enumerate(kept)}
    result = Network(_without(thin.architecture, dropped, name=name))
    moved = {}
    for key, tensor in thin.state_dict().items():
        match = _BLOCK.fullmatch(key)
        if match is None:
            moved[key] = tensor
        elif int(match[1]) in places:
            moved[f"blocks.{places[int(match[1])]}.{match[2]}"] = tensor
    result.load_state_dict(moved)
    return result.eval()


def shrunk_name(base: str, architecture: Architecture) -> str:
    """Return what a network is called that was made from the one called `base`."""
    return f"{base}-shrunk-{architecture.digest[:6]}"


def _dropped(architecture: Architecture, changes: Sequence[Change]) -> set[int]:
    allowed = droppable_blocks(architecture)
    dropped = {change.block for change in changes if isinstance(change, Drop)}
    for position in sorted(dropped.difference(allowed)):
        raise UsageError(
            f"block {position} of {architecture.name} cannot be left out",
            allowed="blocks of stride 1 that are added to their own input: "
            + (", ".join(map(str, allowed)) or "none here"),
        )
    return dropped


def _narrowed(architecture: Architecture, changes: Sequence[Change]) -> Architecture:
    """Return the architecture with its groups narrowed and every block still there."""
    groups = {group.name: group for group in width_groups(architecture)}
    blocks = list(architecture.blocks)
    for change in changes:
        if isinstance(change, Drop):
            continue
        group = groups.get(change.group)
        if group is None:
            raise UsageError(
                f"{architecture.name} has no group {change.group!r}",
                allowed=", ".join(groups) or "none: no width of it can be changed",
            )
        if not 0 < change.channels <= group.channels:
            raise UsageError(
                f"{change.group} of {architecture.name} cannot have {change.channels} channels",
                allowed=f"1 to {group.channels}",
            )
        block = blocks[group.block]
        blocks[group.block] = block.model_copy(update={"hidden_channels": change.channels})
    return architecture.changed(blocks=tuple(blocks))


def _without(architecture: Architecture, dropped: set[int], *, name: str | None) -> Architecture:
    kept = [block for k, block in enumerate(architecture.blocks) if k not in dropped]
    return architecture.changed(blocks=tuple(kept), name=name or architecture.name)
