"""The seam of evaluators: how the networks of a search are judged.

A cheap way is held against trainings alone on the networks of the first generations, and goes no
further where it does not put them into a better order than multiply-adds do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Measured, Phase, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.train_candidate import Length, begin_training
from featherweight.registry import Registry
from featherweight.searching.agreement import CHECKED, Agreement, agreement
from featherweight.searching.hopeless import Curve, foretell_end, hopeless_below
from featherweight.searching.sampler import GENERATION
from featherweight.searching.space import Point, Space
from featherweight.searching.study import Trial

__all__ = [
    "CHECK",
    "CURVE",
    "EVALUATORS",
    "SCORE",
    "STOPPED",
    "WEIGHTS",
    "Checked",
    "Evaluator",
    "EvaluatorKind",
    "Ground",
    "Scored",
    "Shares",
    "agreement_of",
    "begin_trial",
]

logger = logging.getLogger(__name__)

WEIGHTS = "weights"
"""Note of a trial: folder of its network in the run directory, trained from scratch."""
SCORE = "score"
"""Note of a trial: what the cheap way said."""
CHECK = "accuracy alone"
"""Note of a trial that was judged both ways: the accuracy after a training alone."""
CURVE = "curve"
"""Note of a trial that was trained alone to its end: `hopeless.Curve`, its accuracy on the way."""
STOPPED = "stopped"
"""Note of a trial whose training had no hope: the share of it after which it was stopped."""


class Scored(NamedTuple):
    """What came out about a network.

    Attributes:
        accuracy: on val, in 0..1; foretold where the network was not trained alone.
        notes: further ones for the study.
        trained: the training, where there was one.
    """

    accuracy: float
    notes: Mapping[str, Any]
    trained: Trained | None


class Evaluator(Protocol):
    """Judges networks."""

    def begin(
        self, trial: Trial, measured: Measured, known: Sequence[Trial]
    ) -> Callable[[], Scored]:
        """Begin to judge a network; return what waits for the end.

        Args:
            trial: of the network.
            measured: the network.
            known: trials of the complete generations before.
        """


class Shares(NamedTuple):
    """How an evaluator divides the time for trials.

    Attributes:
        alone: share for trainings alone.
        alone_trials: how many there are; `None` = all.
        cheap: share for what is cheap.
        cheap_trainings: into how many trainings that is divided; `None` = one a trial.
    """

    alone: float
    alone_trials: int | None = None
    cheap: float = 0.0
    cheap_trainings: int | None = None


@dataclass(frozen=True)
class Ground:
    """What evaluators judge on.

    Attributes:
        context: of the search.
        space: of the networks.
        alone: length of a training alone.
        cheap: length of a cheap training.
        draw: a network that is foretold to be fast enough.
        is_by_accuracy: whether the accuracy alone tells which network is better.
    """

    context: FitContext
    space: Space
    alone: Length
    cheap: Length
    draw: Callable[[np.random.Generator], Point]
    is_by_accuracy: bool = True


class EvaluatorKind(NamedTuple):
    """An evaluator by name.

    Attributes:
        make: the evaluator.
        shares: of the time.
    """

    make: Callable[[Ground], Evaluator]
    shares: Shares


EVALUATORS: Registry[EvaluatorKind] = Registry(
    "evaluator", plugins="featherweight.fitting.evaluators"
)


def begin_trial(
    context: FitContext,
    measured: Measured,
    kind: Literal["trial", "inherited"],
    *,
    length: Length,
    whole: Sequence[Curve] | None = None,
) -> Callable[[], Scored]:
    """Begin to train a network of a trial; return what waits for the end.

    Args:
        context: of the search.
        measured: the network, and what it starts from.
        kind: of the training.
        length: of it.
        whole: trainings that went to their end: without hope beside them it is stopped; `None` =
            it goes to its end.
    """
    phase = Phase(kind=kind)
    floor = hopeless_below(whole or (), pictures=context.trainer.count("val"))
    finish = begin_training(context, measured.candidate, phase, length=length, floor=floor)

    def work() -> Scored:
        training = finish()
        trained = Trained.of(measured, training)
        if training.is_hopeless:
            share, accuracy = training.curve[-1]
            end = foretell_end(whole or (), share=share, accuracy=accuracy)
            return Scored(end, {STOPPED: share}, trained)
        if kind == "inherited":
            return Scored(trained.val.value, {}, trained)
        folder = context.trainer.network_folder(measured.candidate, phase)
        weights = str(folder.relative_to(context.run.path))
        return Scored(trained.val.value, {WEIGHTS: weights, CURVE: training.curve}, trained)

    return work


@dataclass(frozen=True)
class Checked:
    """Judges by a cheap way as soon as that was held against trainings alone.

    Attributes:
        alone: trains every network for itself.
        whole: likewise, each to its end.
        cheap: the other way.
        from_trained: whether the cheap way goes on from trained networks: the first generation is
            then trained alone and nothing else.
    """

    alone: Evaluator
    whole: Evaluator
    cheap: Evaluator
    from_trained: bool

    def begin(
        self, trial: Trial, measured: Measured, known: Sequence[Trial]
    ) -> Callable[[], Scored]:
        """Begin to judge a network: both ways, the cheap one alone, or that which is believed."""
        if self.from_trained and not any(WEIGHTS in one.notes for one in known):
            return self.whole.begin(trial, measured, known)
        found = agreement_of(known)
        if found is None:
            return self._both(trial, measured, known)
        if not found.is_worth_it:
            return self.alone.begin(trial, measured, known)
        finish = self.cheap.begin(trial, measured, known)

        def work() -> Scored:
            score, notes, trained = finish()
            return Scored(found.accuracy(score), {**notes, SCORE: score}, trained)

        return work

    def _both(
        self, trial: Trial, measured: Measured, known: Sequence[Trial]
    ) -> Callable[[], Scored]:
        cheap = self.cheap.begin(trial, measured, known)
        alone = self.whole.begin(trial, measured, known)

        def work() -> Scored:
            try:
                score = cheap().accuracy
            except DivergedError as failure:  # it counts against the cheap way, not the network
                logger.warning("trial %d, judged the cheap way: %s", trial.number, failure)
                score = 0.0
            accuracy, notes, trained = alone()
            return Scored(accuracy, {**notes, CHECK: accuracy, SCORE: score}, trained)

        return work


def agreement_of(trials: Sequence[Trial]) -> Agreement | None:
    """Return what a cheap way is worth, by the first generations with enough networks.

    Args:
        trials: of complete generations.

    Returns:
        `None` = too few networks were judged both ways so far.
    """
    checks: list[Trial] = []
    for first in range(0, len(trials), GENERATION):
        checks += [
            one for one in trials if first <= one.number < first + GENERATION and CHECK in one.notes
        ]
        if len(checks) >= CHECKED:
            return agreement(
                [float(one.notes[SCORE]) for one in checks],
                [float(one.notes["macs"]) for one in checks],
                [float(one.notes[CHECK]) for one in checks],
            )
    return None
