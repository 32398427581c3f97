"""NetAdapt: a network becomes faster step by step, each the least harmful of several.

Source: Yang et al., NetAdapt, ECCV 2018, arXiv 1804.03230, algorithm 1: every step must save a
given time; of each layer that can, the largest width that does is proposed; every proposal is
fine-tuned for a short time; the one that answers a hold-out best is taken. Proposals and the other
rule of selection, accuracy lost per time saved: MobileNetV3, arXiv 1905.02244, section 4.2.

Here the layers are the width groups of a network, those inside blocks and those between them. What
a proposal saves is predicted from a table measured on the platform; what is taken is measured as a
whole, and a step whose interval does not lie below the one before is rejected: no network that
comes out is slower than the one before it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.groups import Narrow
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.steps import Proposal, Schedule, Step
from featherweight.adapting.walk import Walk
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.data.metrics import difference_interval
from featherweight.nn.network import Network

__all__ = [
    "Adapted",
    "Clock",
    "Passed",
    "Proposer",
    "Setting",
    "Tuned",
    "Worth",
    "netadapt",
]

logger = logging.getLogger(__name__)

_LEAST_SHARE = 0.5
"""Of what a step must save: what saves less is taken only where nothing saves as much."""


class Tuned(NamedTuple):
    """A proposal after its short fine-tuning.

    Attributes:
        network: in eval mode.
        losses: of every picture of the hold-out, (N,).
        score: mean score on the hold-out, in 0..1.
    """

    network: Network
    losses: NDArray[np.float64]
    score: float


Worth = Mapping[str, NDArray[np.float64]]
"""Importance of the channels of each layer, by its name."""


class Proposer(Protocol):
    """Makes proposals and judges them."""

    def judge(self, network: Network) -> Tuned:
        """Judge a network as it is."""
        ...

    def tune(
        self, present: Network, changes: Sequence[Narrow], *, worth: Worth | None
    ) -> list[Tuned]:
        """Make each change of the present network alone, and fine-tune each for a short time.

        Args:
            present: stays as it is.
            changes: of it.
            worth: importance of its channels, which says those that go; `None` = the norms of
                their filters do.
        """
        ...


class Passed(NamedTuple):
    """A network on the way that meets a latency.

    Attributes:
        target_ms: what was asked for.
        network: the first one within it.
        latency: of it.
    """

    target_ms: float
    network: Network
    latency: Latency


@dataclass(frozen=True)
class Adapted:
    """The network at the end, and how it got there.

    Attributes:
        network: after the last step.
        latency: of it.
        steps: all of them.
        passed: the first network within each of the latencies on the way, in their order.
        ended: why: `met`, `time`, or `stuck` = nothing that is left is surely faster.
    """

    network: Network
    latency: Latency
    steps: tuple[Step, ...]
    ended: Literal["met", "time", "stuck"]
    passed: tuple[Passed, ...] = ()


Clock = Callable[[Sequence[Architecture]], Sequence[Latency]]
"""Measures networks that take turns in one process; intervals are of the ratios to the first."""


@dataclass(frozen=True)
class Setting:
    """What every step of a way has in common.

    Attributes:
        model: what changes of the parent save.
        start: latency of the parent.
        clock: measures whole networks, in turns, as they would ship.
        proposer: fine-tunes and judges.
        schedule: how large the steps are and which proposal is taken.
        seed: of the intervals of differences.
        worth: tells the importance of the channels of the present network, before every step;
            `None` = the norms of their filters, as in the paper.
        indistinct: share by which networks may differ on the clock that are equal: what is surely
            faster lies below the one before by more.
    """

    model: SavingModel
    start: Latency
    clock: Clock
    proposer: Proposer
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    worth: Callable[[Network], Worth] | None = None
    indistinct: float = 0.0


def netadapt(
    network: Network,
    setting: Setting,
    *,
    target_ms: float,
    on_the_way_ms: Sequence[float] = (),
    so_far: Sequence[Step] = (),
    told: Callable[[Step, Network], None] = lambda _step, _network: None,
    is_over: Callable[[], bool] = lambda: False,
    steps_left: Callable[[], float] = lambda: math.inf,
) -> Adapted:
    """Make groups narrower, step by step, until the network meets a latency.

    Args:
        network: where it goes on: the parent, or the network after `so_far`; it stays as it is.
        setting: of the way.
        target_ms: latency that is asked for.
        on_the_way_ms: larger latencies that are asked for as well: one path answers them all, and
            its steps end at each of them.
        so_far: steps that an earlier attempt made; what they passed is not passed again.
        told: called after every step, with the network after it.
        is_over: asked before every step: whether there is no time for it.
        steps_left: asked before every step: for how many there is time; they are larger then.
    """
    walk = Walk(setting.model, setting.schedule, start=setting.start, so_far=so_far)
    proposer, present, steps = setting.proposer, network, list(so_far)
    ahead = sorted(ms for ms in on_the_way_ms if target_ms < ms < walk.latency.median_ms)
    passed: list[Passed] = []

    def end(why: Literal["met", "time", "stuck"]) -> Adapted:
        return Adapted(present, walk.latency, tuple(steps), why, tuple(passed))

    loss = steps[-1].loss if steps else float(proposer.judge(network).losses.mean())
    while walk.latency.median_ms > target_ms:
        if is_over():
            return end("time")
        needed = walk.needed_ms(
            ahead[-1] if ahead else target_ms, end_ms=target_ms, steps_left=steps_left()
        )
        worth = None if setting.worth is None else setting.worth(present)
        changes = walk.options(present, needed_ms=needed, worth=worth)
        if not changes:
            return end("stuck")
        tuned = dict(zip(changes, proposer.tune(present, changes, worth=worth), strict=True))
        torn = _without_loss(tuned, walk)
        order = _ranked(tuned, walk, setting, before=loss)
        proposals, taken = _first_surely_faster(
            present, order, tuned, walk, setting, needed_ms=needed
        )
        if taken is not None:
            present, loss = tuned[taken].network, float(tuned[taken].losses.mean())
        step = Step(
            number=len(steps) + 1,
            needed_ms=needed,
            proposals=(*proposals, *torn),
            change=taken,
            loss=loss,
            score=None if taken is None else tuned[taken].score,
            latency=walk.latency,
        )
        steps.append(step)
        told(step, present)
        _log(step)
        while ahead and walk.latency.median_ms <= ahead[-1]:
            passed.append(Passed(ahead.pop(), present, walk.latency))
    return end("met")


def _without_loss(tuned: dict[Narrow, Tuned], walk: Walk) -> list[Proposal]:
    """Take out the changes after which the loss is no number, and refuse them."""
    found = []
    for change in [one for one, told in tuned.items() if not np.isfinite(told.losses).all()]:
        logger.warning("netadapt: %s: the loss is no number", change.group)
        predicted_ms = walk.predicted_ms(change)
        found.append(
            Proposal(change=change, loss=None, predicted_ms=predicted_ms, status="rejected")
        )
        walk.refuse(change)
        del tuned[change]
    return found


def _ranked(
    tuned: Mapping[Narrow, Tuned], walk: Walk, setting: Setting, *, before: float
) -> list[Narrow]:
    """Return the changes in the order in which they are taken if they are surely faster."""
    if not tuned:
        return []
    means = {change: float(one.losses.mean()) for change, one in tuned.items()}
    by_loss = sorted(tuned, key=means.__getitem__)
    saved = {change: walk.latency.median_ms - walk.predicted_ms(change) for change in tuned}
    if setting.schedule.select == "ratio" and means[by_loss[0]] >= before:
        return sorted(by_loss, key=lambda one: (means[one] - before) / max(saved[one], 1e-9))
    best = tuned[by_loss[0]].losses
    tied = [
        change
        for change in by_loss
        if change == by_loss[0]
        or difference_interval(tuned[change].losses, best, seed=setting.seed)[0] <= 0.0
    ]
    return sorted(tied, key=lambda one: -saved[one]) + [one for one in by_loss if one not in tied]


def _first_surely_faster(
    present: Network,
    order: Sequence[Narrow],
    tuned: Mapping[Narrow, Tuned],
    walk: Walk,
    setting: Setting,
    *,
    needed_ms: float,
) -> tuple[tuple[Proposal, ...], Narrow | None]:
    """Measure the best proposal beside the present network, then all others, and take one.

    Its interval, of the ratio to the present network, lies below that. Of those the first that
    saves nearly what the step must: a table can be far off for one group.
    """
    seen = _measured(present, order[:1], tuned, setting)
    if order and not seen[order[0]].saves(_LEAST_SHARE * needed_ms):
        seen |= _measured(present, order[1:], tuned, setting)
    faster = [change for change in order if change in seen and seen[change].is_faster]
    enough = [change for change in faster if seen[change].saves(_LEAST_SHARE * needed_ms)]
    taken = next(iter(enough or faster), None)
    predicted = {change: walk.predicted_ms(change) for change in order}
    for change, one in seen.items():
        if not one.is_faster:
            walk.refuse(change)
    if taken is None:
        walk.fruitless += 1
    else:
        walk.take(taken, seen[taken].latency)
    proposals = []
    for change in order:
        proposal = Proposal(
            change=change,
            loss=float(tuned[change].losses.mean()),
            predicted_ms=predicted[change],
            status="taken" if change == taken else "tried",
        )
        if change in seen:
            one = seen[change]
            proposal = proposal.model_copy(
                update={
                    "latency": one.latency,
                    "beside": one.beside,
                    "status": proposal.status if one.is_faster else "rejected",
                }
            )
        proposals.append(proposal)
    return tuple(proposals), taken


class _Seen(NamedTuple):
    latency: Latency
    beside: Latency
    indistinct: float

    @property
    def is_faster(self) -> bool:
        return self.latency.interval_ms[1] < (1.0 - self.indistinct) * self.beside.interval_ms[0]

    def saves(self, ms: float) -> bool:
        """Whether it is surely faster, and by so much."""
        return self.is_faster and self.beside.median_ms - self.latency.median_ms >= ms


def _measured(
    present: Network,
    changes: Sequence[Narrow],
    tuned: Mapping[Narrow, Tuned],
    setting: Setting,
) -> dict[Narrow, _Seen]:
    """Measure proposals in turns with the present network."""
    if not changes:
        return {}
    architectures = [tuned[change].network.architecture for change in changes]
    beside, *latencies = setting.clock([present.architecture, *architectures])
    return {
        change: _Seen(latency, beside, setting.indistinct)
        for change, latency in zip(changes, latencies, strict=True)
    }


def _log(step: Step) -> None:
    rejected = sum(proposal.status == "rejected" for proposal in step.proposals)
    what = (
        "nothing is surely faster"
        if step.change is None
        else f"{step.change.group} to {step.change.channels} channels"
    )
    logger.info(
        "netadapt: step %d: %s: %.3f ms, hold-out loss %.3f (%d tried, %d rejected)",
        step.number,
        what,
        step.latency.median_ms,
        step.loss,
        len(step.proposals),
        rejected,
    )
