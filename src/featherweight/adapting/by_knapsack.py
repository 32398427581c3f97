"""Make a network that is too slow smaller until it meets a latency, all widths at once.

What goes is what a knapsack over a measured table leaves out: importance per millisecond, as HALP
(arXiv 2110.10811). The table is measured block by block; the proposal as a whole, and corrected.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.changes import apply, changed, shrunk_name
from featherweight.adapting.groups import Change, Drop
from featherweight.adapting.propose import propose_changes
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.networks.norms import with_carried_norms
from featherweight.nn.network import Network

__all__ = ["Shrunk", "shrink_by_knapsack"]

logger = logging.getLogger(__name__)

_OVERSHOOT, _LEAST_AIM = 1.25, 0.005
"""What is too slow by some share is aimed a quarter more below that, and by so much of the target:
widths come in steps, and without it several proposals missed by a hundredth one after the other."""
_ROUNDS = 6
"""Proposals, each corrected by what the one before measured."""
_CLOSE = 0.95
"""Share of the target from which a proposal is close enough."""


@dataclass(frozen=True)
class Shrunk:
    """A network that meets the latency, and how it got there.

    Attributes:
        network: with the weights of its start, in eval mode.
        changes: what was done to its start.
        latency: measured as a whole.
    """

    network: Network
    changes: tuple[Change, ...]
    latency: Latency


def shrink_by_knapsack(  # noqa: PLR0913 - one call says all of a cut
    network: Network,
    *,
    importance: Mapping[str, NDArray[np.float64]],
    pictures: Tensor,
    savings: Sequence[Saving],
    time_network: Callable[[Architecture], Latency],
    present_ms: float,
    target_ms: float,
    name: str,
    repairs: bool = False,
) -> Shrunk | None:
    """Shrink a network to a latency.

    Args:
        network: with the weights that are kept; it stays as it is.
        importance: of its channels, as `channel_importance` tells of a trained one.
        pictures: training pictures, normalised (N, C, H, W), that norms are set by.
        savings: see `measure_savings`.
        time_network: measures a proposal as it would ship.
        present_ms: latency of the network as it is.
        target_ms: latency that is asked for.
        name: of the network, to which `shrunk_name` adds.
        repairs: whether weights that lose inputs are fitted again by the pictures.

    Returns:
        the largest proposal that measures within the target; `None` = there is none.
    """
    parent = network.architecture
    found = _propose(
        parent,
        savings=savings,
        importance=importance,
        time_network=time_network,
        present_ms=present_ms,
        target_ms=target_ms,
        name=name,
    )
    if found is None:
        return None
    changes, latency = found
    named = shrunk_name(name, changed(parent, changes))
    plainly = functools.partial(apply, changes=changes, importance=importance, name=named)
    repaired = functools.partial(plainly, repaired_by=pictures if repairs else None)
    thin = with_carried_norms(network, repaired, pictures, plainly=plainly)
    return Shrunk(thin, changes, latency)


def _propose(
    parent: Architecture,
    *,
    savings: Sequence[Saving],
    importance: Mapping[str, NDArray[np.float64]],
    time_network: Callable[[Architecture], Latency],
    present_ms: float,
    target_ms: float,
    name: str,
) -> tuple[tuple[Change, ...], Latency] | None:
    """Return the changes of the largest proposal that measures within the target."""
    aim_ms = target_ms
    model = SavingModel(parent, savings, present_ms=present_ms)
    best: tuple[tuple[Change, ...], Latency] | None = None
    for _ in range(_ROUNDS):
        changes = propose_changes(parent, model, importance, target_ms=aim_ms)
        if not changes:  # out of reach, or the parent is fast enough now: no gap of this kind
            break
        proposal = changed(parent, changes)
        proposal = proposal.changed(name=shrunk_name(name, proposal))
        latency = time_network(proposal)
        logger.info(
            "%s: %.3f ms, target %.3f ms: %s",
            proposal.name,
            latency.median_ms,
            target_ms,
            ", ".join(map(_words, changes)),
        )
        least_ms = 0.0 if best is None else best[1].median_ms
        if least_ms < latency.median_ms <= target_ms:
            best = changes, latency
        if _CLOSE * target_ms <= latency.median_ms <= target_ms:
            break
        missed_ms = latency.median_ms - target_ms
        aim_ms -= missed_ms if missed_ms < 0.0 else _OVERSHOOT * missed_ms + _LEAST_AIM * target_ms
    return best


def _words(change: Change) -> str:
    if isinstance(change, Drop):
        return f"without what ends at {change.add}"
    return f"{change.group}: {change.channels}"
