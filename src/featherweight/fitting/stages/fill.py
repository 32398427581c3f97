"""The stage before the last training, where the budget is not used up: a larger parent, shrunk.

Resolutions come in steps, and some networks end before a budget does. Here the winner at a larger
resolution, up to 1.6 times too slow, loses hidden channels and blocks: all at once by a knapsack
(`adapting.by_knapsack`), and in long fits also step by step (`adapting.by_steps`). What comes out
ships only if it learns clearly more in the same time than the winner as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from featherweight.adapting.by_knapsack import shrink_by_knapsack
from featherweight.adapting.changes import shrunk_name
from featherweight.adapting.groups import GroupKind, width_groups
from featherweight.adapting.importance import channel_importance
from featherweight.adapting.netadapt import Setting, netadapt
from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.proposals import PictureProposer
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving, change_options
from featherweight.adapting.steps import Schedule, Step
from featherweight.adapting.table import measure_table
from featherweight.architecture import Architecture
from featherweight.budget import Budget, Latency
from featherweight.data.metrics import difference_interval
from featherweight.data.rows import spaced_rows
from featherweight.errors import DivergedError, UnsupportedError
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.families import stored_family
from featherweight.fitting.family import Family
from featherweight.fitting.policy import FillPolicy
from featherweight.fitting.time_plan import (
    FILL_STEPS_LEAST_S,
    FILL_STEPS_SHARE,
    FILL_TRAINING_SHARE,
    FILL_TRAINING_SHARE_OF_3,
)
from featherweight.fitting.train_candidate import Length, train_candidate
from featherweight.fitting.trainer import Trainer
from featherweight.measuring.bench import Bench, Untrained
from featherweight.measuring.measurement import (
    COPIES_DIFFER,
    Measurement,
    latencies_in_turns,
    medians_in_turns,
)
from featherweight.networks.modules import as_classifier
from featherweight.nn.network import Network, resized
from featherweight.records import Record

__all__ = ["fill", "parent_size", "training_pictures"]

logger = logging.getLogger(__name__)

_PHASE = Phase(kind="fill")
_KINDS: tuple[GroupKind, ...] = ("hidden",)
"""Of groups: what is inside a block is measured fastest, and each saving stands alone."""
_SAMPLES = 60
"""Of each block: timed alone, one block's saving is a large part of a short time."""
_CARRYING = 128
"""Pictures of those that tell the importance, which set the norms of what is left."""


class _ShrunkRecord(Record):
    """What a search came to; `folder` is that of the network, `None` = nothing fits."""

    folder: str | None = None
    latency: Latency | None = None
    reason: str = ""
    savings: tuple[Saving, ...] = ()
    steps: tuple[Step, ...] = ()


def fill(context: FitContext, winner: Measured) -> tuple[Measured, list[Trained]]:
    """Return what the last training should train, and what was trained to find out."""
    plan, one = context.plan, winner.candidate
    size = parent_size(winner, budget=context.budget, policy=context.policy.fill)
    if plan.fill_s == 0.0 or size is None:
        return winner, []
    with_steps = plan.fill_s >= FILL_STEPS_LEAST_S
    share = FILL_TRAINING_SHARE_OF_3 if with_steps else FILL_TRAINING_SHARE
    length = Length(share * plan.fill_s, None)
    own = Trained.of(winner, train_candidate(context, one, _PHASE, length=length))
    search = _Search(context, winner, size)
    found = [search.by_knapsack()]
    if with_steps:
        found.append(search.by_steps(within_s=FILL_STEPS_SHARE * plan.fill_s))
    tried, better = [own], []
    for smaller in found:
        if smaller is None:
            continue
        try:
            training = train_candidate(context, smaller.candidate, _PHASE, length=length)
        except DivergedError as failure:  # the winner as it is goes on, as in a race
            logger.warning("fill: %s is out: %s", smaller.candidate.title, failure)
            continue
        other = Trained.of(smaller, training)
        tried.append(other)
        if _learned_more(context, other, own):
            better.append(other)
    return min(better, key=lambda trained: trained.val_loss, default=own).measured, tried


def _learned_more(context: FitContext, other: Trained, own: Trained) -> bool:
    """Return whether the shrunk network surely learned more; both are noted."""
    low, high = difference_interval(other.losses, own.losses, seed=context.seed)
    compared = (
        f"val loss {other.val_loss:.3f} shrunk, {own.val_loss:.3f} as it was; "
        f"difference {low:.3f} to {high:.3f}"
    )
    logger.info("fill: %s: %s", other.candidate.title, compared)
    for trained in (own, other):
        context.ledger.note_trained(trained, status="finalist", reason=compared, stage="fill")
    return high < 0.0


def parent_size(winner: Measured, *, budget: Budget, policy: FillPolicy) -> float | None:
    """Return the resolution of the parent; `None` = the budget or the time is used up, or none.

    Latency is taken to grow with the multiply-adds.
    """
    one, latency_ms = winner.candidate, winner.latency.median_ms
    if latency_ms >= budget.share_ms(policy.used_up) or one.is_held_back:
        return None
    if one.family.axis != "resolution" or one.family.anchored or not _may_shrink(one.plain):
        return None
    most = budget.share_ms(policy.most_excess) / latency_ms * one.macs
    larger = [size for size in one.family.sizes if size > one.size and one.at(size).macs <= most]
    return max(larger, default=None)


def _may_shrink(architecture: Architecture) -> bool:
    return any(group.kind in _KINDS for group in width_groups(architecture))


class _Search:
    """Looks for shrunk forms of the winner; each way is a stage, and is not repeated.

    Args:
        context: of the fit.
        winner: trained in phase `fill`: those weights tell the importance; what is saved by the
            knapsack starts from where the winner's own trainings start.
        size: the parent's resolution, which is too slow.
    """

    def __init__(self, context: FitContext, winner: Measured, size: float) -> None:
        self._context, self._policy = context, context.policy.fill
        self._winner = winner.candidate
        self._parent = winner.candidate.at(size)
        self._savings: tuple[Saving, ...] = ()

    def by_knapsack(self) -> Measured | None:
        """Return the parent with all widths chosen at once."""
        record = self._stage("fill", self._knapsack)
        self._savings = record.savings
        return self._read(record)

    def by_steps(self, *, within_s: float) -> Measured | None:
        """Return the parent adapted step by step, from the savings that the knapsack measured."""
        if not self._savings:
            return None
        return self._read(
            self._stage("fill-steps", lambda bench: self._steps(bench, within_s=within_s))
        )

    def _knapsack(self, bench: Bench[Candidate]) -> _ShrunkRecord:
        parent, context = self._parent, self._context
        pictures = training_pictures(context.trainer, parent, pictures=self._policy.pictures)
        options = change_options(parent.plain, kinds=_KINDS)
        bench.measure([parent])
        savings = measure_table(
            parent.plain,
            options,
            time=self._time_blocks,
            present_ms=bench.latency(parent).median_ms,
        )
        importance = channel_importance(
            self._trained_parent(), pictures.batches(), loss=context.trainer.objective.loss
        )
        found = shrink_by_knapsack(
            self._untrained_parent(),
            importance=importance,
            pictures=torch.cat([images for images, _ in pictures.part(0, _CARRYING).batches()]),
            savings=savings,
            time_network=lambda network: self._time_whole(bench, network),
            present_ms=bench.latency(parent).median_ms,
            target_ms=bench.target_ms(context.budget.latency_ms),
            name=parent.family.name,
        )
        if found is None:
            logger.info("fill: %s cannot be shrunk to the budget", parent.label)
            return _ShrunkRecord(reason="cannot be shrunk to the budget", savings=savings)
        folder = self._save(found.network)
        return _ShrunkRecord(folder=folder, latency=found.latency, savings=savings)

    def _steps(self, bench: Bench[Candidate], *, within_s: float) -> _ShrunkRecord:
        parent, context = self._parent, self._context
        pictures = training_pictures(context.trainer, parent, pictures=self._policy.step_pictures)
        count = len(pictures.targets)
        held = max(1, round(self._policy.held_out * count))
        target_ms = bench.target_ms(context.budget.latency_ms)
        start = self._time_once(parent.plain)
        setting = Setting(
            model=SavingModel(parent.plain, self._savings, present_ms=start.median_ms),
            start=start,
            clock=self._time,
            proposer=PictureProposer(pictures.part(held, count), pictures.part(0, held)),
            schedule=self._schedule(start, target_ms=target_ms),
            seed=context.seed,
            indistinct=COPIES_DIFFER,
        )
        deadline = time.monotonic() + within_s
        adapted = netadapt(
            self._trained_parent(),
            setting,
            target_ms=target_ms,
            is_over=lambda: time.monotonic() > deadline,
        )
        steps = adapted.steps
        too_slow = _ShrunkRecord(reason="the steps end above the budget", steps=steps)
        if not steps or adapted.ended != "met":
            logger.info("fill: %s: %s", parent.label, too_slow.reason)
            return too_slow
        architecture = adapted.network.architecture
        named = architecture.changed(name=shrunk_name(parent.family.name, architecture))
        latency = self._time_whole(bench, named)
        if latency.median_ms > target_ms:
            return too_slow
        network = Network(named)
        network.load_state_dict(adapted.network.state_dict())
        return _ShrunkRecord(folder=self._save(network.eval()), latency=latency, steps=steps)

    def _schedule(self, start: Latency, *, target_ms: float) -> Schedule:
        """Return few equal steps, of the groups that savings were measured of."""
        step_ms = max(start.median_ms - target_ms, 1e-3 * start.median_ms) / self._policy.steps
        return Schedule(
            initial=step_ms / start.median_ms,
            decay=1.0,
            proposals=self._policy.proposals,
            kinds=_KINDS,
        )

    def _stage(
        self, name: str, search: Callable[[Bench[Candidate]], _ShrunkRecord]
    ) -> _ShrunkRecord:
        def work() -> _ShrunkRecord:
            try:
                return search(self._context.bench("fill"))
            except UnsupportedError as refusal:  # its channels cannot be sliced
                logger.warning("fill: %s stays as it is: %s", self._winner.title, refusal)
                return _ShrunkRecord(reason=str(refusal))

        return self._context.run.stage(
            name, inputs={"winner": self._winner.key}, outputs=_ShrunkRecord, work=work
        )

    def _trained_parent(self) -> Network:
        network = self._context.trainer.load(self._winner, _PHASE).classifier
        return resized(network, self._parent.resolution)

    def _untrained_parent(self) -> Network:
        """Return what the winner's own trainings start with, at the parent's resolution."""
        network = self._context.trainer.start(self._winner, _PHASE)
        return resized(as_classifier(network), self._parent.resolution)

    def _time_blocks(self, networks: Sequence[Architecture]) -> list[float]:
        return medians_in_turns(self._take_turns(networks))

    def _time_once(self, network: Architecture) -> Latency:
        (latency,) = self._time([network])
        return latency

    def _time(self, networks: Sequence[Architecture]) -> list[Latency]:
        return latencies_in_turns(self._take_turns(networks))

    def _take_turns(self, networks: Sequence[Architecture]) -> list[Measurement]:
        folder = self._context.run.path / "artifacts" / "fill"
        wanted = [Untrained(one.name, one, self._winner.precision) for one in networks]
        return self._context.measure(wanted, folder, _SAMPLES)

    def _time_whole(self, bench: Bench[Candidate], network: Architecture) -> Latency:
        size = self._parent.size
        family = self._parent.family.of_one_size(size, network, name=network.name)
        one = Candidate(family, size, self._winner.precision)
        bench.remeasure([one])
        return bench.latency(one)

    def _save(self, network: Network) -> str:
        """Save a network; return its folder, relative to the run."""
        trainer = self._context.trainer
        folder = Path("networks") / f"{network.architecture.digest[:16]}-start"
        trainer.save(network, self._parent, folder=trainer.folder / folder)
        return str(folder)

    def _read(self, record: _ShrunkRecord) -> Measured | None:
        if record.folder is None or record.latency is None:
            return None
        before: Family = self._winner.family
        family, size = stored_family(
            self._context.run.path / record.folder,
            source=before.source,
            weights_of=before.weights_of,
            weights_unsliced=before.weights_unsliced,
        )
        return Measured(Candidate(family, size, self._winner.precision), record.latency)


def training_pictures(trainer: Trainer, candidate: Candidate, *, pictures: int) -> PictureSet:
    """Return evenly spaced training pictures as val pictures are prepared.

    Args:
        trainer: has the pictures.
        candidate: whose preparation and resolution is used.
        pictures: at most this many.
    """
    preprocessing = candidate.family.preprocessing
    rows = spaced_rows(trainer.count("train"), most=pictures)
    images = trainer.store.held_out("train", candidate.resolution, preprocessing, rows=rows)
    return PictureSet.of(images, preprocessing, seed=trainer.seed)
