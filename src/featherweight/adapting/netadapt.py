"""NetAdapt: a network becomes faster step by step, each the least harmful of several.

Source: Yang et al., NetAdapt, ECCV 2018, arXiv 1804.03230, algorithm 1: every step must save a
share of the latency; of the proposals that do, one per layer, each fine-tuned for a short time,
the one that answers a hold-out best is taken. Here the layers are the width groups of a network,
the savings come from a table measured on the platform, and the network that results is measured
as a whole: a step whose interval does not lie below the one before is rejected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from featherweight.adapting.groups import Narrow, WidthGroup, apply, width_groups
from featherweight.adapting.savings import Saving
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.nn.network import Network

__all__ = ["Adapted", "Step", "netadapt"]

logger = logging.getLogger(__name__)

_STEPS = 4
"""Steps that the whole way is divided into."""
_PROPOSALS = 6
"""Groups tried in a step: those that lose the smallest share of their filters' L2 norm."""


@dataclass(frozen=True)
class Step:
    """One accepted step.

    Attributes:
        change: of the network of the step before.
        loss: mean on the hold-out, after the short fine-tuning.
        latency: of the whole network.
        tried: proposals that were fine-tuned.
        rejected: of those that answered better, how many were not surely faster.
    """

    change: Narrow
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
    savings: Sequence[Saving],
    *,
    target_ms: float,
    clock: Callable[[Architecture], Latency],
    tune: Callable[[Network], None],
    loss: Callable[[Network], float],
    is_over: Callable[[], bool] = lambda: False,
) -> Adapted:
    """Make groups narrower, step by step, until the network meets a latency.

    Args:
        network: where it starts; it stays as it is.
        savings: milliseconds that changes of `network` save, measured on the platform; those that
            leave a block out are not used.
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
    table = {one.change: one.saved_ms for one in savings if isinstance(one.change, Narrow)}
    steps: list[Step] = []
    refused: set[Narrow] = set()
    while latency.median_ms > target_ms and not is_over():
        need_ms = min(stride_ms, latency.median_ms - target_ms)
        proposals = []
        for change in _options(present, table, need_ms=need_ms, refused=refused):
            proposal = apply(present, [change])
            tune(proposal)
            proposals.append(_Proposal(loss(proposal), change, proposal))
        found = _surely_faster(proposals, latency, clock=clock, refused=refused)
        if found is None:
            break
        taken, latency, rejected = found
        present = taken.network
        steps.append(Step(taken.change, taken.loss, latency, len(proposals), rejected))
        logger.info(
            "netadapt: %s to %d channels: %.3f ms, hold-out loss %.3f (%d tried)",
            taken.change.group,
            taken.change.channels,
            latency.median_ms,
            taken.loss,
            len(proposals),
        )
    return Adapted(present, latency, tuple(steps))


class _Proposal(NamedTuple):
    loss: float
    change: Narrow
    network: Network


def _surely_faster(
    proposals: list[_Proposal],
    before: Latency,
    *,
    clock: Callable[[Architecture], Latency],
    refused: set[Narrow],
) -> tuple[_Proposal, Latency, int] | None:
    """Return the best proposal that is surely faster; those that are not are never tried again."""
    for rejected, proposal in enumerate(sorted(proposals, key=lambda one: one.loss)):
        latency = clock(proposal.network.architecture)
        if latency.interval_ms[1] < before.interval_ms[0]:
            return proposal, latency, rejected
        refused.add(proposal.change)
        logger.info(
            "netadapt: %s to %d channels is not surely faster: %.3f ms",
            proposal.change.group,
            proposal.change.channels,
            latency.median_ms,
        )
    return None


def _options(
    network: Network, table: Mapping[Narrow, float], *, need_ms: float, refused: set[Narrow]
) -> list[Narrow]:
    """Return changes of at most `_PROPOSALS` groups: of each the widest that saves enough.

    Where no group alone saves enough, the most that each can save.
    """
    enough, most = [], []
    for group in width_groups(network.architecture):
        present_ms = table.get(Narrow(group=group.name, channels=group.channels), 0.0)
        offered = [
            change
            for change in sorted(table, key=lambda change: -change.channels)
            if change.group == group.name
            and change.channels < group.channels
            and change not in refused
        ]
        fits = [change for change in offered if table[change] - present_ms >= need_ms]
        if fits:
            enough.append((_norm_lost(network, group, fits[0]), fits[0]))
        elif offered and table[offered[-1]] > present_ms:
            most.append((_norm_lost(network, group, offered[-1]), offered[-1]))
    ranked = sorted(enough or most, key=lambda option: option[0])
    return [change for _, change in ranked[:_PROPOSALS]]


def _norm_lost(network: Network, group: WidthGroup, change: Narrow) -> float:
    """Return the share of the squared L2 norm of a group's last filters that would go."""
    weight: Tensor = network.state_dict()[f"{group.layers[-1]}.conv.weight"]
    norms = np.sort(weight.detach().double().square().flatten(1).sum(1).numpy())
    return float(norms[: len(norms) - change.channels].sum() / norms.sum())
