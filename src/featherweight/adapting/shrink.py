"""Thinner blocks and fewer of them: on the architecture, and on a network with its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.networks.slicing import slice_network
from featherweight.nn.network import Network

__all__ = [
    "DROPPED",
    "hidden_widths",
    "is_droppable",
    "shrink_network",
    "shrunk",
    "shrunk_name",
]

DROPPED = 0
"""Hidden width that stands for leaving the block out."""
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def hidden_widths(architecture: Architecture) -> dict[int, int]:
    """Return the hidden width of every block that can be made thinner: position -> channels.

    These are the inverted residuals with an expansion: nothing outside a block sees its hidden
    channels.
    """
    return {
        position: block.hidden_channels
        for position, block in enumerate(architecture.blocks)
        if block.op == "inverted_residual" and block.hidden_channels is not None
    }


def is_droppable(architecture: Architecture, position: int) -> bool:
    """Whether the network is still one without the block: what it adds to is its own input."""
    block = architecture.blocks[position]
    return block.skip == "identity" and block.stride == 1


def shrunk(
    architecture: Architecture, hidden: Mapping[int, int], *, name: str | None = None
) -> Architecture:
    """Return the architecture with other hidden widths; `DROPPED` leaves the block out.

    Args:
        architecture: of blocks.
        hidden: position of a block -> its new hidden width.
        name: of the result; by default the parent's.

    Raises:
        UsageError: a block cannot be dropped, has no hidden width, or would become wider.
    """
    return _without(_thinner(architecture, hidden), hidden, name=name)


def shrink_network(
    network: Network,
    hidden: Mapping[int, int],
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    name: str | None = None,
) -> Network:
    """Return the shrunk network with the most important channels of its parent, in eval mode.

    Args:
        network: the parent; it stays as it is.
        hidden: position of a block -> its new hidden width; `DROPPED` leaves the block out.
        importance: of the channels of layers (see `channel_importance`); the L2 norm of their
            filters ranks those that it does not name.
        name: of the result; by default the parent's.

    Raises:
        UsageError: see `shrunk`.
        UnsupportedError: the network's channels cannot be sliced.
    """
    thin = slice_network(network, _thinner(network.architecture, hidden), importance=importance)
    kept = [k for k in range(len(thin.architecture.blocks)) if hidden.get(k) != DROPPED]
    places = {old: new for new, old in enumerate(kept)}
    result = Network(_without(thin.architecture, hidden, name=name))
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


def _thinner(architecture: Architecture, hidden: Mapping[int, int]) -> Architecture:
    """Return the architecture with its hidden widths changed and every block still there."""
    widths = hidden_widths(architecture)
    blocks = list(architecture.blocks)
    for position, width in hidden.items():
        if width == DROPPED:
            if not is_droppable(architecture, position):
                raise UsageError(
                    f"block {position} of {architecture.name} cannot be left out",
                    allowed="blocks of stride 1 that are added to their own input",
                )
        elif not 0 < width <= widths.get(position, 0):
            raise UsageError(
                f"block {position} of {architecture.name} cannot have {width} hidden channels",
                allowed=f"1 to {widths[position]}" if position in widths else "no other number",
            )
        else:
            changed = blocks[position].model_copy(update={"hidden_channels": width})
            blocks[position] = changed
    return architecture.changed(blocks=tuple(blocks))


def _without(
    architecture: Architecture, hidden: Mapping[int, int], *, name: str | None
) -> Architecture:
    """Return the architecture without the dropped blocks."""
    kept = [block for k, block in enumerate(architecture.blocks) if hidden.get(k) != DROPPED]
    return architecture.changed(blocks=tuple(kept), name=name or architecture.name)
