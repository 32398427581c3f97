"""The trials of a search: each network is timed as it ships, judged, and written down."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from featherweight.budget import Latency
from featherweight.errors import DivergedError, UnsupportedError, WorkerLostError
from featherweight.fitting.candidate import Candidate, Measured
from featherweight.fitting.context import FitContext
from featherweight.fitting.evaluator import (
    CHECK,
    SCORE,
    STOPPED,
    Evaluator,
    Scored,
    agreement_of,
)
from featherweight.fitting.stages.first_networks import Speeds, candidate_of
from featherweight.measuring.bench import Bench
from featherweight.records import Record
from featherweight.searching.agreement import Agreement
from featherweight.searching.features import PointFeatures
from featherweight.searching.reward import Reward
from featherweight.searching.sampler import GENERATION, Fate, Judge, NoNetworkLeft, Sampler
from featherweight.searching.space import Point, Space
from featherweight.searching.speeds import foretell_speeds
from featherweight.searching.study import Rescore, Study, Trial
from featherweight.searching.trials_file import TrialRow, note_trials

__all__ = ["Judged", "Searcher"]

logger = logging.getLogger(__name__)

_LEAST_PROPOSALS = 4 * GENERATION
"""Looked at before a search gives up for want of time with nothing trained."""
_MOST_DOUBT = 0.1
"""Share of its milliseconds by which a network that is foretold to be too slow may be timed yet."""
_MOST_PROPOSALS = 10
"""For each trial that is wanted: further ones are too slow, one after the other."""


class _TimedRecord(Record):
    """What a network took, and whether that is fast enough."""

    latency: Latency
    fits: bool


class Judged(NamedTuple):
    """The network of a trial.

    Attributes:
        measured: the network.
        accuracy: on val, in 0..1, as the trial told it.
    """

    measured: Measured
    accuracy: float


@dataclass
class Searcher:
    """Goes through the trials of a study, or on with them.

    Attributes:
        context: of the search.
        space, study, sampler: what is searched, where trials are kept, who proposes.
        reward: of accuracy and milliseconds; one that is hard judges nothing too slow.
        evaluator: judges networks.
        features: of the space.
        speeds: what was timed before the first trial.
        wanted: judged networks.
        most_s: of all trials; `None` = no limit.
        judged: what came out, by the number of the trial.
    """

    context: FitContext
    space: Space
    study: Study
    sampler: Sampler
    reward: Reward
    evaluator: Evaluator
    features: PointFeatures
    speeds: Speeds
    wanted: int
    most_s: float | None
    judged: dict[int, Judged] = field(default_factory=dict)
    _agreement: Agreement | None = field(default=None, repr=False)

    def go(self) -> list[Trial]:
        """Do what is missing of the trials; return all of them."""
        bench = self.context.bench("trials")
        self._read_back(bench)
        while not self._is_over():
            running = [one for one in self.study.trials() if one.state == "running"]
            self._end(running or self._begin_generation(), bench)
            note_trials(self.context.run.path, self.rows())
            self._say_agreement()
        note_trials(self.context.run.path, self.rows())
        return self.study.trials()

    def _say_agreement(self) -> None:
        """Say once what a cheap evaluator is worth."""
        found = agreement_of(self.study.trials())
        if found is None or self._agreement == found:
            return
        self._agreement = found
        words = (
            "the others are judged by it"
            if found.is_worth_it
            else "no better than multiply-adds: the others are trained alone"
        )
        logger.warning(
            "the evaluator's rank correlation with %d networks trained alone is %.2f, that of "
            "multiply-adds %.2f: %s",
            found.networks,
            found.tau,
            found.tau_of_macs,
            words,
        )

    def rows(self) -> list[TrialRow]:
        """Return the finished trials as people read them, all with the reward of now."""
        trials = self.study.trials()
        reward = self.reward_at(len(trials) + GENERATION)
        return [
            TrialRow(
                trial=one.number,
                state=one.state,
                network=one.notes.get("network"),
                options={
                    choice.name: choice.options[option]
                    for choice, option in zip(self.space.choices, one.point, strict=True)
                },
                accuracy=one.notes.get("accuracy"),
                latency_ms=one.notes.get("latency_ms"),
                reward=(
                    reward(float(one.notes["accuracy"]), float(one.notes["latency_ms"]))
                    if one.state == "trained"
                    else None
                ),
                macs=one.notes.get("macs"),
                score=one.notes.get(SCORE),
                alone=one.notes.get(CHECK),
                stopped=one.notes.get(STOPPED),
                reason=one.notes.get("reason"),
            )
            for one in trials
            if one.state != "running"
        ]

    def _read_back(self, bench: Bench[Candidate]) -> None:
        """Take finished trials from the study and their stages."""
        trials = self.study.trials()
        judge = self._judge(len(trials), {self.space.key(one.point) for one in trials})
        self.study.decide_interrupted(
            self.sampler, seed=self.context.seed, judge=judge, reward=self._rescore(len(trials))
        )
        done = [one for one in self.study.trials() if one.state == "trained"]
        for one, measured, _ in self._time(done, bench):
            self.judged[one.number] = Judged(measured, float(one.notes["accuracy"]))

    def _is_over(self) -> bool:
        trials = self.study.trials()
        running = any(one.state == "running" for one in trials)
        trained = sum(one.state == "trained" for one in trials)
        if running:
            return False
        if trained >= self.wanted:
            return True
        if self.study.is_exhausted:
            logger.warning("no further network of %s is fast enough", self.space.name)
            return True
        tried = trained or len(trials) >= _LEAST_PROPOSALS
        if self.most_s is not None and self.context.run.elapsed_s > self.most_s and tried:
            logger.warning("the time for trials is over after %d of %d", trained, self.wanted)
            return True
        if len(trials) >= _MOST_PROPOSALS * self.wanted:
            logger.warning("%d networks were proposed, %d are fast enough", len(trials), trained)
            return True
        return False

    def _begin_generation(self) -> list[Trial]:
        """Begin the trials up to the next complete generation, or as many as are wanted."""
        trials = self.study.trials()
        left = self.wanted - sum(one.state == "trained" for one in trials)
        first = len(trials)
        known = {self.space.key(one.point) for one in trials}
        judge = self._judge(first, known)
        reward = self._rescore(first)
        begun: list[Trial] = []
        for _ in range(min(GENERATION - first % GENERATION, left)):
            try:
                begun.append(
                    self.study.next(
                        self.sampler, seed=self.context.seed, judge=judge, reward=reward
                    )
                )
                known.add(self.space.key(begun[-1].point))
            except NoNetworkLeft:
                break
        return begun

    def reward_at(self, trial: int) -> Reward:
        """Return the reward of a trial, which may follow from complete generations before it."""
        points = [
            (float(one.notes["accuracy"]), float(one.notes["latency_ms"]))
            for one in self.study.trials()
            if one.state == "trained" and one.number < _generation(trial)
        ]
        return self.reward.told(points)

    def _rescore(self, trial: int) -> Rescore | None:
        """Return what trials before one are worth with the reward of now."""
        if not self.reward.is_fitted:
            return None
        reward = self.reward_at(trial)
        return lambda one: reward(float(one.notes["accuracy"]), float(one.notes["latency_ms"]))

    def _judge(self, trial: int, known: set[str]) -> Judge:
        """Return what tells the fate of points, from all that was timed before a generation.

        Args:
            trial: of the generation.
            known: keys of all networks that were proposed; whoever proposes one adds it.
        """
        before = _generation(trial)
        timed = self.speeds.timed
        for one in self.study.trials():
            if one.number < before and "latency_ms" in one.notes:
                timed[one.point] = float(one.notes["latency_ms"])
        foretold = foretell_speeds(self.features, timed)
        logger.info(
            "latencies are foretold from %d networks, typically %.1f %% off",
            len(timed),
            100.0 * foretold.error,
        )
        target_ms = self.context.samples.margin * self.context.settings.latency_ms
        doubt = min(foretold.error, _MOST_DOUBT)
        fates: dict[Point, Fate] = {}
        keys: dict[Point, str] = {}

        def judge(point: Point) -> Fate:
            if point not in keys:
                keys[point] = self.space.key(point)
            if keys[point] in known:
                return "known"
            if point not in fates:
                # Where the forecast cannot tell, the network is timed; that costs no training.
                least_ms = timed.get(point, foretold(point) * (1.0 - doubt))
                is_slow = least_ms > target_ms
                fates[point] = "slow" if is_slow and self.reward.kind == "hard" else "new"
            return fates[point]

        return judge

    def _end(self, running: Sequence[Trial], bench: Bench[Candidate]) -> None:
        """Time and judge the networks of running trials, and write down what came out."""
        fast = []
        for one, measured, fits in self._time(running, bench):
            if self.reward.kind == "soft" or fits:
                fast.append((one, measured))
                continue
            self.context.ledger.note(measured, status="rejected", reason="too slow", stage="trial")
            self.study.finish(one, "slow", notes=_notes_of(measured))
        self._judge_networks(fast)

    def _time(
        self, trials: Sequence[Trial], bench: Bench[Candidate]
    ) -> list[tuple[Trial, Measured, bool]]:
        """Time the networks of trials, each a stage, and say which are fast enough.

        What the runtime cannot hold has failed, and is left out.
        """
        run, named = self.context.run, [(one, self._candidate(one)) for one in trials]
        refused = bench.measure_each(
            [one for _, one in named if run.stage_done(f"timed:{one.key}", inputs={}) is None],
        )
        found = []
        for trial, candidate in named:
            if candidate in refused:
                self._fail(trial, refused[candidate])
                continue

            def work(candidate: Candidate = candidate) -> _TimedRecord:
                fits = bench.fits(candidate, self.context.settings.latency_ms)
                return _TimedRecord(latency=bench.latency(candidate), fits=fits)

            timed = run.stage(f"timed:{candidate.key}", inputs={}, outputs=_TimedRecord, work=work)
            found.append((trial, Measured(candidate, timed.latency), timed.fits))
        return found

    def _candidate(self, trial: Trial) -> Candidate:
        precision = self.context.settings.precisions[0]
        return candidate_of(self.space, trial.point, precision=precision)

    def _judge_networks(self, trials: Sequence[tuple[Trial, Measured]]) -> None:
        """Judge the networks of trials that run, those that train at the same time."""
        known = self.study.trials()
        begun = []
        for one, measured in trials:
            before = [other for other in known if other.number < _generation(one.number)]
            begun.append((one, measured, self.evaluator.begin(one, measured, before)))
        for one, measured, finish in begun:
            try:
                self._note(one, measured, finish())
            except (DivergedError, UnsupportedError, WorkerLostError) as failure:
                self._fail(one, str(failure), measured)
            except (MemoryError, torch.OutOfMemoryError):
                self._fail(one, "its training needs more memory than there is", measured)

    def _fail(self, trial: Trial, reason: str, measured: Measured | None = None) -> None:
        logger.warning("trial %d failed: %s", trial.number, reason)
        notes = {} if measured is None else _notes_of(measured)
        self.study.finish(trial, "failed", notes={**notes, "reason": reason})

    def _note(self, trial: Trial, measured: Measured, scored: Scored) -> None:
        self.judged[trial.number] = Judged(measured, scored.accuracy)
        reward = self.reward_at(trial.number)(scored.accuracy, measured.latency.median_ms)
        if scored.trained is not None:
            self.context.ledger.note_trained(
                scored.trained,
                status="raced",
                reason=f"trial {trial.number}: reward {reward:.4f}",
            )
        notes = {
            **_notes_of(measured),
            **scored.notes,
            "accuracy": scored.accuracy,
            "macs": measured.candidate.macs,
        }
        self.study.finish(trial, "trained", reward=reward, notes=notes)


def _generation(number: int) -> int:
    """Return the first trial of the generation that a trial belongs to."""
    return number // GENERATION * GENERATION


def _notes_of(measured: Measured) -> dict[str, Any]:
    return {"latency_ms": measured.latency.median_ms, "network": measured.candidate.label}
