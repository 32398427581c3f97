"""Make a network that is too slow smaller until it meets a latency, all widths at once.

What goes is what a knapsack over a measured table leaves out: importance per millisecond, as HALP
(arXiv 2110.10811). The table is measured block by block; the proposal as a whole, and corrected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.importance import channel_importance
from featherweight.adapting.propose import propose_widths
from featherweight.adapting.savings import Savings
from featherweight.adapting.shrink import shrink_network, shrunk, shrunk_name
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.networks.norms import with_carried_norms
from featherweight.nn.network import Network

__all__ = ["Shrunk", "shrink_by_knapsack"]

logger = logging.getLogger(__name__)

_ROUNDS = 3
"""Proposals, each corrected by what the one before measured."""
_CLOSE = 0.95
"""Share of the target from which a proposal is close enough."""
_CARRYING_BATCHES = 4
"""Of those that tell the statistics of norms: all at once through the network."""


@dataclass(frozen=True)
class Shrunk:
    """A network that meets the latency, and how it got there.

    Attributes:
        network: with the weights of its start, in eval mode.
        widths: position of a block -> its new hidden width.
        latency: measured as a whole.
    """

    network: Network
    widths: dict[int, int]
    latency: Latency


def shrink_by_knapsack(
    trained: Network,
    start: Callable[[], Network],
    pictures: Sequence[tuple[Tensor, Tensor]],
    *,
    savings: Savings,
    time_network: Callable[[Architecture], Latency],
    present_ms: float,
    target_ms: float,
    name: str,
) -> Shrunk | None:
    """Shrink a network to a latency.

    Args:
        trained: its weights tell the importance of channels; it stays as it is.
        start: returns the same network with the weights that are kept.
        pictures: training pictures, normalised (N, C, H, W), and their labels (N,).
        savings: measured block by block (`measure_savings`).
        time_network: measures a proposal as it would ship.
        present_ms: latency of the network as it is.
        target_ms: latency that is asked for.
        name: of the network, to which `shrunk_name` adds.

    Returns:
        the largest proposal that measures within the target; `None` = there is none.
    """
    importance = channel_importance(trained, pictures)
    parent = trained.architecture
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
    widths, latency = found
    named = shrunk_name(name, shrunk(parent, widths))
    network = with_carried_norms(
        start(),
        lambda whole: shrink_network(whole, widths, importance=importance, name=named),
        torch.cat([images for images, _ in pictures[:_CARRYING_BATCHES]]),
    )
    return Shrunk(network, widths, latency)


def _propose(
    parent: Architecture,
    *,
    savings: Savings,
    importance: Mapping[str, NDArray[np.float64]],
    time_network: Callable[[Architecture], Latency],
    present_ms: float,
    target_ms: float,
    name: str,
) -> tuple[dict[int, int], Latency] | None:
    """Return the widths of the largest proposal that measures within the target."""
    aim_ms = target_ms
    best: tuple[dict[int, int], Latency] | None = None
    for _ in range(_ROUNDS):
        widths = propose_widths(savings, importance, present_ms=present_ms, target_ms=aim_ms)
        if not widths:  # out of reach, or the parent is fast enough now: no gap of this kind
            break
        proposal = shrunk(parent, widths)
        proposal = proposal.changed(name=shrunk_name(name, proposal))
        latency = time_network(proposal)
        logger.info(
            "%s: %.3f ms, target %.3f ms: %s",
            proposal.name,
            latency.median_ms,
            target_ms,
            ", ".join(f"block {k}: {w or 'dropped'}" for k, w in sorted(widths.items())),
        )
        least_ms = 0.0 if best is None else best[1].median_ms
        if least_ms < latency.median_ms <= target_ms:
            best = widths, latency
        if _CLOSE * target_ms <= latency.median_ms <= target_ms:
            break
        aim_ms += target_ms - latency.median_ms
    return best
