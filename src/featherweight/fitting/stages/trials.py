"""The trials of a search: each network is timed as it ships, trained briefly, and written down."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from featherweight.budget import Latency
from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.family import Family
from featherweight.fitting.train_candidate import Length, begin_training
from featherweight.measuring.bench import Bench
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import Record
from featherweight.searching.features import PointFeatures
from featherweight.searching.reward import Reward
from featherweight.searching.sampler import GENERATION, Fate, Judge, NoNetworkLeft, Sampler
from featherweight.searching.space import Point, Space, mutated, random_point
from featherweight.searching.speeds import Foretold, foretell_speeds
from featherweight.searching.study import Study, Trial
from featherweight.searching.trials_file import TrialRow, note_trials

__all__ = ["Searcher", "Speeds", "time_first_networks"]

logger = logging.getLogger(__name__)

_PHASE = Phase(kind="trial")
_FIRST_TIMED, _FEWEST_TIMED = 48, 12
"""Networks that are timed before the first trial; in a short search fewer."""
_S_PER_TIMED, _TIMED_SHARE = 0.8, 0.2
"""Seconds that a network takes to be written and timed, and the share of the time for them."""
_LEAST_PROPOSALS = 4 * GENERATION
"""Looked at before a search gives up for want of time with nothing trained."""
_FASTEST_DRAWS, _FASTEST_STEPS = 300, 300
_FASTEST_TIMED = 4
_MOST_PROPOSALS = 10
"""For each trial that is wanted: further ones are too slow, one after the other."""


class Speeds(Record):
    """Networks that were timed before the first trial, as they ship.

    Attributes:
        points: of the space.
        latencies: of each.
        fits: whether each is fast enough.
    """

    points: tuple[Point, ...]
    latencies: tuple[Latency, ...]
    fits: tuple[bool, ...]

    @property
    def timed(self) -> dict[Point, float]:
        """Milliseconds by point."""
        return {
            point: latency.median_ms
            for point, latency in zip(self.points, self.latencies, strict=True)
        }

    @property
    def nearest_ms(self) -> float:
        """Upper end of the interval of the fastest one."""
        return min(latency.interval_ms[1] for latency in self.latencies)


def _candidate_of(space: Space, point: Point, *, precision: str) -> Candidate:
    """Return the network of a point as a candidate of one size."""
    drawn = space.decode(point)
    name = f"{space.name}:network={drawn.digest[:8]},resolution={drawn.resolution}"
    named = drawn.changed(name=name)
    family = Family(
        name=name,
        axis="resolution",
        sizes=(float(drawn.resolution),),
        build=lambda _: named,
        source=None,
        preprocessing=Preprocessing(),
        weights_of=space.name,
    )
    return Candidate(family, float(drawn.resolution), precision)


def time_first_networks(context: FitContext, space: Space, *, features: PointFeatures) -> Speeds:
    """Time even draws of a space, and where none is fast enough the fastest there may be: a stage.

    Args:
        context: of the search.
        space: of the networks.
        features: of the space.
    """
    bench = context.bench("first networks")
    generator = np.random.default_rng((context.seed, 2**32))

    def work() -> Speeds:
        points: dict[str, Point] = {}
        count = _count_of_first(context.plan.total_s)
        for _ in range(20 * count):
            point = random_point(space, generator)
            points.setdefault(space.key(point), point)
            if len(points) == count:
                break
        found = _timed(context, bench, space, list(points.values()))
        if any(found.fits):
            return found
        fastest = _fastest(space, foretell_speeds(features, found.timed), generator)
        more = _timed(context, bench, space, [one for one in fastest if one not in found.points])
        return Speeds(
            points=found.points + more.points,
            latencies=found.latencies + more.latencies,
            fits=found.fits + more.fits,
        )

    return context.run.stage("first-networks", inputs={}, outputs=Speeds, work=work)


def _count_of_first(total_s: float | None) -> int:
    if total_s is None:
        return _FIRST_TIMED
    return max(_FEWEST_TIMED, min(_FIRST_TIMED, int(_TIMED_SHARE * total_s / _S_PER_TIMED)))


def _timed(
    context: FitContext, bench: Bench[Candidate], space: Space, points: Sequence[Point]
) -> Speeds:
    precision = context.settings.precisions[0]
    candidates = [_candidate_of(space, point, precision=precision) for point in points]
    bench.measure(candidates)
    return Speeds(
        points=tuple(points),
        latencies=tuple(bench.latency(one) for one in candidates),
        fits=tuple(bench.fits(one, context.settings.latency_ms) for one in candidates),
    )


def _fastest(space: Space, foretold: Foretold, generator: np.random.Generator) -> list[Point]:
    """Return points that a forecast takes for the fastest: changed one choice at a time."""
    drawn = [random_point(space, generator) for _ in range(_FASTEST_DRAWS)]
    best = sorted(dict.fromkeys(drawn), key=foretold)[:_FASTEST_TIMED]
    for place in range(len(best)):
        for _ in range(_FASTEST_STEPS):
            other = mutated(space, best[place], generator)
            if foretold(other) < foretold(best[place]):
                best[place] = other
    return list(dict.fromkeys(best))


class _TimedRecord(Record):
    """What a network took, and whether that is fast enough."""

    latency: Latency
    fits: bool


@dataclass
class Searcher:
    """Goes through the trials of a study, or on with them.

    Attributes:
        context: of the search.
        space, study, sampler: what is searched, where trials are kept, who proposes.
        reward: of accuracy and milliseconds; one that is hard trains nothing too slow.
        features: of the space.
        speeds: what was timed before the first trial.
        wanted: trained networks.
        length: of each training.
        most_s: of all trials; `None` = no limit.
    """

    context: FitContext
    space: Space
    study: Study
    sampler: Sampler
    reward: Reward
    features: PointFeatures
    speeds: Speeds
    wanted: int
    length: Length
    most_s: float | None
    trained: dict[int, Trained] = field(default_factory=dict)

    def go(self) -> list[Trial]:
        """Do what is missing of the trials; return all of them."""
        bench = self.context.bench("trials")
        self._read_back(bench)
        while not self._is_over():
            running = [one for one in self.study.trials() if one.state == "running"]
            self._end(running or self._begin_generation(), bench)
            note_trials(self.context.run.path, self.rows())
        note_trials(self.context.run.path, self.rows())
        return self.study.trials()

    def rows(self) -> list[TrialRow]:
        """Return the finished trials as people read them."""
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
                reward=one.reward,
                reason=one.notes.get("reason"),
            )
            for one in self.study.trials()
            if one.state != "running"
        ]

    def _read_back(self, bench: Bench[Candidate]) -> None:
        """Take the trainings of finished trials from their stages."""
        trials = self.study.trials()
        judge = self._judge(len(trials), {self.space.key(one.point) for one in trials})
        self.study.decide_interrupted(self.sampler, seed=self.context.seed, judge=judge)
        done = [one for one in self.study.trials() if one.state == "trained"]
        self._train(done, bench)

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
        begun: list[Trial] = []
        for _ in range(min(GENERATION - first % GENERATION, left)):
            try:
                begun.append(self.study.next(self.sampler, seed=self.context.seed, judge=judge))
                known.add(self.space.key(begun[-1].point))
            except NoNetworkLeft:
                break
        return begun

    def _judge(self, trial: int, known: set[str]) -> Judge:
        """Return what tells the fate of points, from all that was timed before a generation.

        Args:
            trial: of the generation.
            known: keys of all networks that were proposed; whoever proposes one adds it.
        """
        before = trial // GENERATION * GENERATION
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
        fates: dict[Point, Fate] = {}
        keys: dict[Point, str] = {}

        def judge(point: Point) -> Fate:
            if point not in keys:
                keys[point] = self.space.key(point)
            if keys[point] in known:
                return "known"
            if point not in fates:
                is_slow = timed.get(point, foretold(point)) > target_ms
                fates[point] = "slow" if is_slow and self.reward.kind == "hard" else "new"
            return fates[point]

        return judge

    def _end(self, running: Sequence[Trial], bench: Bench[Candidate]) -> None:
        """Time and train the networks of running trials, and write down what came out."""
        fast = []
        for one, measured, fits in self._time(running, bench):
            if self.reward.kind == "soft" or fits:
                fast.append(one)
                continue
            self.context.ledger.note(
                measured, status="rejected", reason="too slow", stage=str(_PHASE)
            )
            notes = {
                "latency_ms": measured.latency.median_ms,
                "network": measured.candidate.label,
            }
            self.study.finish(one, "slow", notes=notes)
        self._train(fast, bench)

    def _time(
        self, trials: Sequence[Trial], bench: Bench[Candidate]
    ) -> list[tuple[Trial, Measured, bool]]:
        """Time the networks of trials, each a stage, and say which are fast enough."""
        run, named = self.context.run, [(one, self._candidate(one)) for one in trials]
        bench.measure(
            [one for _, one in named if run.stage_done(f"timed:{one.key}", inputs={}) is None]
        )
        found = []
        for trial, candidate in named:

            def work(candidate: Candidate = candidate) -> _TimedRecord:
                fits = bench.fits(candidate, self.context.settings.latency_ms)
                return _TimedRecord(latency=bench.latency(candidate), fits=fits)

            timed = run.stage(f"timed:{candidate.key}", inputs={}, outputs=_TimedRecord, work=work)
            found.append((trial, Measured(candidate, timed.latency), timed.fits))
        return found

    def _candidate(self, trial: Trial) -> Candidate:
        precision = self.context.settings.precisions[0]
        return _candidate_of(self.space, trial.point, precision=precision)

    def _train(self, trials: Sequence[Trial], bench: Bench[Candidate]) -> None:
        """Train the networks of trials, or read back what an earlier attempt trained."""
        begun = [
            (
                one,
                measured,
                begin_training(self.context, measured.candidate, _PHASE, length=self.length),
            )
            for one, measured, _ in self._time(trials, bench)
        ]
        for one, measured, finish in begun:
            try:
                self.trained[one.number] = Trained.of(measured, finish())
            except DivergedError as failure:
                logger.warning("trial %d failed: %s", one.number, failure)
                self.study.finish(one, "failed", notes={"reason": str(failure)})
                continue
            if one.state == "running":
                self._note(one, self.trained[one.number])

    def _note(self, trial: Trial, trained: Trained) -> None:
        latency_ms, accuracy = trained.measured.latency.median_ms, trained.val.value
        reward = self.reward(accuracy, latency_ms)
        self.context.ledger.note_trained(
            trained, status="raced", reason=f"trial {trial.number}: reward {reward:.4f}"
        )
        self.study.finish(
            trial,
            "trained",
            reward=reward,
            notes={
                "latency_ms": latency_ms,
                "accuracy": accuracy,
                "network": trained.candidate.label,
                "macs": trained.candidate.macs,
            },
        )
