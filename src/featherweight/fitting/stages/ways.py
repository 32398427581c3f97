"""The stages of `adapt` that make the parent smaller: a table of savings, then one stage a way."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight.adapting.changes import shrunk_name
from featherweight.adapting.importance import REPAIRED, channel_importance
from featherweight.adapting.knapsack import NoChoiceError
from featherweight.adapting.netadapt import Setting
from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.proposals import (
    PictureProposer,
    WorkerProposer,
    judged,
    tune_briefly,
)
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.step_watch import StepWatch
from featherweight.adapting.steps import Schedule, Selection, Step
from featherweight.adapting.ways import WAYS, Means, Smaller
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.errors import UnsupportedError
from featherweight.fitting.adapt_pace import Pace, find_pace
from featherweight.fitting.adapt_pictures import draw_pictures
from featherweight.fitting.candidate import Candidate, Measured, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.families import stored_family
from featherweight.fitting.kept_seconds import kept_seconds
from featherweight.fitting.stages.savings_table import SavingsTable, measure_savings_table
from featherweight.fitting.steps_file import StepsFile
from featherweight.measuring.bench import Untrained
from featherweight.measuring.measurement import (
    COPIES_DIFFER,
    Measurement,
    latencies_in_turns,
    medians_in_turns,
)
from featherweight.nn.network import Network
from featherweight.parallel import HereExecutor
from featherweight.records import Record

__all__ = ["Screened", "make_smaller"]

logger = logging.getLogger(__name__)

_TABLE_SAMPLES = 60
"""Of each excerpt of a network: timed alone, a saving is a large part of a short time."""
_CLOCK_SAMPLES = 160
"""Of each whole network: they take turns, so that what slows the machine slows all of them."""

_LEAST_STEPS_SHARE = 0.5
"""Of the time for the ways, for steps and screening, however long the table took."""


class Screened(Record):
    """What a way came to, before the long training; a stage writes it down.

    Attributes:
        way: its name.
        folder: of the network, relative to the run; `None` = there is none.
        latency: of it.
        loss: on the hold-out, after a few steps of training.
        reason: why there is none.
        least_ms: the least latency that was measured so far.
    """

    way: str
    folder: str | None = None
    latency: Latency | None = None
    loss: float | None = None
    reason: str = ""
    least_ms: float


def make_smaller(
    context: FitContext,
    parent: Trained,
    methods: Sequence[str],
    *,
    importance: str,
    path_s: float | None,
    select: Selection = "accuracy",
) -> tuple[list[tuple[Screened, Measured]], float]:
    """Make the parent fast enough in every way that is asked for.

    Args:
        context: of the run.
        parent: as it was measured.
        methods: names in `WAYS`.
        importance: a name in `IMPORTANCES`.
        path_s: most seconds for the table and for short fine-tunings, those of NetAdapt's steps
            and of screening; `None` = all of the table and a fixed number of steps.
        select: how NetAdapt chooses among proposals (`adapting.steps.Schedule`).

    Returns:
        what each way came to, the lowest loss after a few steps first, without those that came to
        nothing; and the least latency that was measured, in ms.

    Raises:
        UsageError: a way that was asked for alone cannot be gone, or too few pictures.
    """
    search = _Search(
        context, parent, len(methods), importance=importance, path_s=path_s, select=select
    )
    search.say_reach()
    found: dict[str, tuple[Screened, Measured]] = {}
    for method in methods:
        screened = search.go(method, is_alone=len(methods) == 1)
        measured = search.measured(screened)
        if measured is None:
            logger.info("%s: out of reach this way: %s", method, screened.reason)
            continue
        key, loss = measured.candidate.key, screened.loss or 0.0
        if key not in found or loss < (found[key][0].loss or 0.0):  # one network is trained once
            found[key] = screened, measured
    return sorted(found.values(), key=lambda one: one[0].loss or 0.0), search.least_ms


class _Search:
    def __init__(
        self,
        context: FitContext,
        parent: Trained,
        ways: int,
        *,
        importance: str,
        path_s: float | None,
        select: Selection,
    ) -> None:
        self._context, self._policy, self._select = context, context.policy.adapt, select
        self._parent, self._importance, self._path_s = parent, importance, path_s
        self._network = context.trainer.load(parent.candidate, parent.phase).classifier
        self._architecture = self._network.architecture
        self._steps = StepsFile(context.run.path)
        stepped = [step.latency.median_ms for step in self._steps.read()]
        self.least_ms = min([parent.measured.latency.median_ms, *stepped])
        self._begun_s("ways")
        self._judging, self._samples = draw_pictures(context, parent)
        self._pace = self._find_pace(ways)
        self._tuning = self._samples.part(0, self._pace.pictures)

    def say_reach(self) -> None:
        """Say how fast the parent can become, before anything is tried."""
        text = f"widths and branches reach about {self._table().reach_ms:.3f} ms"
        if not self._architecture.fixed_size:
            text += ", smaller pictures less"
        logger.info(
            "adapt: %.3f ms now, %.3f ms asked for; %s",
            self._parent.measured.latency.median_ms,
            self._context.budget.latency_ms,
            text,
        )

    @property
    def _target_ms(self) -> float:
        return self._context.samples.margin * self._context.budget.latency_ms

    def go(self, method: str, *, is_alone: bool) -> Screened:
        """Go one way: a stage."""

        def work() -> Screened:
            try:
                found = WAYS[method](self._means())
            except (UnsupportedError, NoChoiceError) as refusal:
                if is_alone:
                    raise
                return Screened(way=method, reason=str(refusal), least_ms=self.least_ms)
            if found is None:
                reason = f"{self._target_ms:.3f} ms is not reached"
                return Screened(way=method, reason=reason, least_ms=self.least_ms)
            return self._screen(method, found)

        screened = self._context.run.stage(
            f"way:{method}",
            inputs={
                "parent": self._parent.candidate.key,
                "target_ms": self._target_ms,
                "importance": self._importance,
            },
            outputs=Screened,
            work=work,
        )
        self.least_ms = min(self.least_ms, screened.least_ms)
        return screened

    def measured(self, screened: Screened) -> Measured | None:
        """Return the network that a way came to, as a candidate."""
        if screened.folder is None or screened.latency is None:
            return None
        before = self._parent.candidate.family
        family, size = stored_family(
            self._context.run.path / screened.folder,
            source=before.source,
            weights_of=before.weights_of,
        )
        precision = self._parent.candidate.precision
        return Measured(Candidate(family.up_to(size), size, precision), screened.latency)

    def _screen(self, method: str, found: Smaller) -> Screened:
        """Train a way's network for a few steps, and judge it; what goes on is not trained yet."""
        architecture = found.network.architecture
        base = self._parent.candidate.family.weights_of
        named = architecture.changed(
            name=base if method == "resolution" else shrunk_name(base, architecture)
        )
        network = Network(named)
        network.load_state_dict(found.network.state_dict())
        folder = self._save(network.eval(), f"{named.digest[:16]}-{method}")
        resolution = named.resolution
        tune_briefly(network, self._tuning.at(resolution))
        loss = float(judged(network, self._judging.at(resolution)).losses.mean())
        logger.info(
            "%s: %s: %.3f ms, hold-out loss %.3f after a few steps",
            method,
            named.name,
            found.latency.median_ms,
            loss,
        )
        if not math.isfinite(loss):
            reason = f"its loss is {loss} after a few steps of training"
            return Screened(way=method, reason=reason, least_ms=self.least_ms)
        return Screened(
            way=method, folder=folder, latency=found.latency, loss=loss, least_ms=self.least_ms
        )

    def _save(self, network: Network, name: str) -> str:
        folder = Path("networks") / name
        trainer = self._context.trainer
        trainer.save(network, self._parent.candidate, folder=trainer.folder / folder)
        return str(folder)

    def _means(self) -> Means:
        images = [batch for batch, _ in self._samples.part(0, self._policy.carrying).batches()]
        return Means(
            network=self._network,
            start=self._parent.measured.latency,
            target_ms=self._target_ms,
            clock=self._clock,
            savings=self._table().savings,
            importance=self._worth(),
            pictures=torch.cat(images),
            repairs=self._importance in REPAIRED,
            walk=self._setting,
            so_far=lambda: (self._steps.read(), self._steps.network()),
            told=self._told,
            watch=self._watch,
        )

    def _watch(self) -> StepWatch:
        """Return what tells the time for NetAdapt's steps, from now on; after a cut, from then."""
        begun_s, most_s = self._begun_s("netadapt"), math.inf
        if self._path_s is not None:
            left_s = self._path_s - (begun_s - self._begun_s("ways"))
            most_s = max(left_s, _LEAST_STEPS_SHARE * self._path_s)
        return StepWatch(
            most_s,
            seconds=lambda: self._context.run.elapsed_s - begun_s,
            steps=lambda: len(self._steps.read()),
        )

    def _begun_s(self, what: str) -> float:
        """Return the seconds of the run at which something began."""
        run = self._context.run
        return kept_seconds(
            run,
            f"{what}-begun",
            lambda: run.elapsed_s,
            inputs={"parent": self._parent.candidate.key, "target_ms": self._target_ms},
        )

    def _told(self, step: Step, network: Network) -> None:
        before, folder = self._steps.folder(), None
        if step.change is not None:
            folder = self._save(network, f"netadapt-{step.number}")
        self._steps.append(step.model_copy(update={"folder": folder}))
        if folder is not None and before is not None:
            shutil.rmtree(self._context.run.path / before)
        self._context.run.heartbeat()

    def _setting(self, model: SavingModel) -> Setting:
        repairs = self._importance in REPAIRED
        here = PictureProposer(self._tuning, self._judging, repairs)
        workers = self._context.workers
        is_here = isinstance(workers, HereExecutor)
        folder = self._context.run.path / "artifacts" / "proposals"
        proposer = here if is_here else WorkerProposer(here, workers, folder)
        return Setting(
            model=model,
            start=self._parent.measured.latency,
            clock=self._clock,
            proposer=proposer,
            schedule=self._schedule(),
            seed=self._context.seed,
            worth=self._worth_of,
            indistinct=COPIES_DIFFER,
        )

    def _schedule(self) -> Schedule:
        policy, steps = self._policy, self._pace.steps
        way = 1.0 - self._target_ms / self._parent.measured.latency.median_ms
        share = way * (1.0 - policy.decay) / (1.0 - policy.decay**steps)
        return Schedule(
            initial=min(max(share, 1e-3), 0.5),
            decay=policy.decay,
            proposals=self._pace.proposals,
            select=self._select,
        )

    def _find_pace(self, ways: int) -> Pace:
        """Return what fits into the time: a stage, so that a cut changes no step."""
        steps_s = self._steps_s
        return self._context.run.stage(
            "tuning-pace",
            inputs={"parent": self._parent.candidate.key, "target_ms": self._target_ms},
            outputs=Pace,
            work=lambda: find_pace(
                self._network,
                tuning=self._samples,
                judging=self._judging,
                ways=ways,
                path_s=steps_s,
                policy=self._policy,
            ),
        )

    def _table(self) -> SavingsTable:
        return measure_savings_table(
            self._context,
            self._parent,
            self._architecture,
            time=lambda networks: medians_in_turns(self._time(networks, samples=_TABLE_SAMPLES)),
            ways_s=self._path_s,
        )

    @property
    def _steps_s(self) -> float | None:
        """Seconds that the table leaves for steps and screening."""
        if self._path_s is None:
            return None
        return max(self._path_s - self._table().seconds, _LEAST_STEPS_SHARE * self._path_s)

    def _worth(self) -> dict[str, NDArray[np.float64]]:
        """Return the importance of the channels; estimated once, kept in the run."""
        file = self._context.run.path / "networks" / f"importance-{self._importance}.npz"
        if not file.exists():
            found = self._told_by(self._network, self._samples)
            partial = file.with_suffix(".part")
            with partial.open("wb") as opened:
                np.savez(opened, **found)  # type: ignore[arg-type]
            partial.replace(file)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _worth_of(self, network: Network) -> dict[str, NDArray[np.float64]]:
        """Return the importance of the channels of a network on NetAdapt's way."""
        return self._told_by(network, self._tuning)

    def _told_by(self, network: Network, pictures: PictureSet) -> dict[str, NDArray[np.float64]]:
        return channel_importance(
            network,
            pictures.batches(),
            loss=self._context.trainer.objective.loss,
            method=self._importance,
            seed=self._context.seed,
        )

    def _clock(self, networks: Sequence[Architecture]) -> list[Latency]:
        """Return latencies as on the machine of the start: the parent takes turns with them."""
        own, *others = self._time([self._architecture, *networks], samples=_CLOCK_SAMPLES)
        scale = self._parent.measured.latency.median_ms / own.median_ms
        found = (
            latencies_in_turns(others, scale=scale)
            if len(others) > 1
            else latencies_in_turns([own, *others], scale=scale)[1:]
        )
        self.least_ms = min([self.least_ms, *(one.median_ms for one in found)])
        return found

    def _time(self, networks: Sequence[Architecture], *, samples: int) -> list[Measurement]:
        folder = self._context.run.path / "artifacts" / "adapt"
        precision = self._parent.candidate.precision
        wanted = [Untrained(one.name, one, precision) for one in networks]
        return self._context.measure(wanted, folder, samples)
