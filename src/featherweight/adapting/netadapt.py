"""NetAdapt: a network becomes faster step by step, each the least harmful of several.

Source: Yang et al., NetAdapt, ECCV 2018, arXiv 1804.03230, algorithm 1: every step must save a
share of the latency; of the proposals that do, one per layer, each fine-tuned for a short time,
the one that answers a hold-out best is taken. Here the layers are hidden widths of inverted
residuals, the savings come from a table measured on the platform, and the network that results
is measured as a whole: a step whose interval does not lie below the one before is rejected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from featherweight.adapting.savings import Savings
from featherweight.adapting.shrink import DROPPED, hidden_widths, shrink_network
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.nn.network import Network

__all__ = ["Adapted", "Step", "netadapt"]

logger = logging.getLogger(__name__)

_STEPS = 4
"""Steps that the whole way is divided into."""
_PROPOSALS = 6
"""Blocks tried in a step: those that lose the smallest share of their filters' L2 norm."""


@dataclass(frozen=True)
class Step:
    """One accepted step.

    Attributes:
        position: of the block that became thinner.
        width: its hidden channels now.
        loss: mean on the hold-out, after the short fine-tuning.
        latency: of the whole network.
        tried: proposals that were fine-tuned.
        rejected: of those that answered better, how many were not surely faster.
    """

    position: int
    width: int
    loss: float
    latency: Latency
    tried: int
    rejected: int


@dataclass(frozen=True)
class Adapted:
    """The network at the end, and how it got there."""

    network: Network
    latency: Latency
    steps: tuple[Step, ...]


def netadapt(
    network: Network,
    savings: Savings,
    *,
    target_ms: float,
    clock: Callable[[Architecture], Latency],
    tune: Callable[[Network], None],
    loss: Callable[[Network], float],
    is_over: Callable[[], bool] = lambda: False,
) -> Adapted:
    """Make hidden widths smaller, step by step, until the network meets a latency.

    Args:
        network: where it starts; it stays as it is.
        savings: milliseconds each width of each block saves, measured on the platform.
        target_ms: latency that is asked for.
        clock: measures a whole network as it would ship.
        tune: fine-tunes a proposal for a short time, in place.
        loss: mean loss on pictures that `tune` never sees.
        is_over: asked before every step: whether there is no time for it.

    Returns:
        what was reached; above `target_ms` where no step was surely faster any more, or the time
        was over.
    """
    present, latency = network, clock(network.architecture)
    stride_ms = (latency.median_ms - target_ms) / _STEPS
    steps: list[Step] = []
    refused: set[tuple[int, int]] = set()
    while latency.median_ms > target_ms and not is_over():
        need_ms = min(stride_ms, latency.median_ms - target_ms)
        proposals = []
        for position, width in _options(present, savings, need_ms=need_ms, refused=refused):
            proposal = shrink_network(present, {position: width})
            tune(proposal)
            proposals.append((loss(proposal), position, width, proposal))
        found = _surely_faster(proposals, latency, clock=clock, refused=refused)
        if found is None:
            break
        (worth, position, width, present), latency, rejected = found
        steps.append(Step(position, width, worth, latency, len(proposals), rejected))
        logger.info(
            "netadapt: block %d to %d channels: %.3f ms, hold-out loss %.3f (%d tried)",
            position,
            width,
            latency.median_ms,
            worth,
            len(proposals),
        )
    return Adapted(present, latency, tuple(steps))


_Proposal = tuple[float, int, int, Network]


def _surely_faster(
    proposals: list[_Proposal],
    before: Latency,
    *,
    clock: Callable[[Architecture], Latency],
    refused: set[tuple[int, int]],
) -> tuple[_Proposal, Latency, int] | None:
    """Return the best proposal that is surely faster; those that are not are never tried again."""
    for rejected, proposal in enumerate(sorted(proposals, key=lambda one: one[0])):
        latency = clock(proposal[3].architecture)
        if latency.interval_ms[1] < before.interval_ms[0]:
            return proposal, latency, rejected
        refused.add(proposal[1:3])
        logger.info(
            "netadapt: block %d to %d channels is not surely faster: %.3f ms",
            proposal[1],
            proposal[2],
            latency.median_ms,
        )
    return None


def _options(
    network: Network, savings: Savings, *, need_ms: float, refused: set[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return (position, width) of at most `_PROPOSALS` blocks: the widest that saves enough.

    Where no block alone saves enough, the most that each can save.
    """
    widths = hidden_widths(network.architecture)
    enough, most = [], []
    for position, present in widths.items():
        table = savings.get(position, {})
        thinner = sorted(
            (w for w in table if DROPPED < w < present and (position, w) not in refused),
            reverse=True,
        )
        saved = {w: table[w] - table.get(present, 0.0) for w in thinner}
        fits = [w for w in thinner if saved[w] >= need_ms]
        if fits:
            enough.append((position, fits[0]))
        elif thinner and saved[thinner[-1]] > 0.0:
            most.append((position, thinner[-1]))
    chosen = enough or most
    return sorted(chosen, key=lambda option: _norm_lost(network, *option))[:_PROPOSALS]


def _norm_lost(network: Network, position: int, width: int) -> float:
    """Return the share of the squared L2 norm of a block's depthwise filters that would go."""
    weight: Tensor = network.state_dict()[f"blocks.{position}.depthwise.conv.weight"]
    norms = np.sort(weight.detach().double().square().flatten(1).sum(1).numpy())
    return float(norms[: len(norms) - width].sum() / norms.sum())
