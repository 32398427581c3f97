"""Explore a space: time its first networks, go through the trials, and name the best."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, NamedTuple

from featherweight.errors import FailedError
from featherweight.fitting.context import FitContext
from featherweight.fitting.evaluator import SCORE, STOPPED, agreement_of
from featherweight.fitting.kept_seconds import kept_seconds
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.first_networks import time_first_networks
from featherweight.fitting.stages.judging import TRIALS_SHARE, open_evaluator
from featherweight.fitting.stages.trials import Judged, Searcher
from featherweight.searching.agreement import Agreement
from featherweight.searching.features import PointFeatures
from featherweight.searching.reward import Reward
from featherweight.searching.sampler import GENERATION, SAMPLERS
from featherweight.searching.space import Space
from featherweight.searching.study import Study, Trial
from featherweight.searching.trials_file import TrialRow

__all__ = ["Found", "Nothing", "Objective", "SearchRequest", "explore"]

Objective = Literal["hard", "soft"]

logger = logging.getLogger(__name__)

_RETRAINED = 3
"""The best trials, trained in full: a short training errs about which of them is best."""


@dataclass(frozen=True)
class SearchRequest:
    """What was asked for.

    Attributes:
        space: of the networks.
        trials: that are wanted.
        sampler, objective, evaluator: names.
        weight: w of the soft objective, and whether it is fitted instead.
        adapt: whether NetAdapt's steps follow.
        settings: of the run.
        storage: address of the study's database; `None` = in the run directory.
    """

    space: Space
    trials: int
    sampler: str
    objective: Objective
    weight: tuple[float, bool]
    evaluator: str
    adapt: bool
    settings: FitSettings
    storage: str | None


class Found(NamedTuple):
    """The trials of a search, and the best of them by their rewards; `weight` is w of soft ones."""

    rows: list[TrialRow]
    best: list[Judged]
    agreement: Agreement | None
    weight: float | None


class Nothing(NamedTuple):
    """A search that found nothing fast enough, and the fastest that it timed."""

    rows: list[TrialRow]
    fastest_ms: float


def explore(context: FitContext, study: Study, request: SearchRequest) -> Found | Nothing:
    """Time the first networks and go through the trials.

    Args:
        context: of the search, with the latency that is searched for.
        study: of the trials.
        request: what was asked for.

    Raises:
        FailedError: no training succeeded.
    """
    space, settings = request.space, context.settings
    is_limited = request.objective == "hard"
    features = PointFeatures(space)
    speeds = time_first_networks(context, space, features=features)
    if is_limited and not any(speeds.fits):
        return Nothing([], speeds.nearest_ms)
    total_s = context.plan.total_s
    searcher = Searcher(
        context,
        space,
        study,
        SAMPLERS[request.sampler](space),
        Reward(settings.latency_ms, request.objective, *request.weight),
        open_evaluator(
            context,
            space,
            request.evaluator,
            trials=request.trials,
            is_limited=is_limited,
            speeds=speeds,
            features=features,
        ),
        features,
        speeds,
        wanted=request.trials,
        most_s=(
            None
            if total_s is None
            else kept_seconds(context.run, "trials-end", lambda: TRIALS_SHARE * total_s)
        ),
    )
    trials = searcher.go()
    rows = searcher.rows()
    if not searcher.judged:
        reasons = [one.reason for one in rows if one.state == "failed"]
        if reasons:
            raise FailedError(f"no training of {space.name} succeeded: {reasons[-1]}")
        slow_ms = [one.latency_ms for one in rows if one.latency_ms is not None]
        return Nothing(rows, min(slow_ms, default=speeds.nearest_ms))
    found = agreement_of(trials)
    reward = searcher.reward_at(len(trials) + GENERATION)
    if searcher.reward.is_fitted:
        logger.info(
            "w = %.3f %s", reward.exponent, "is fitted" if reward.was_fitted else "as given"
        )
    rewards = {one.number: _reward(one, found, reward) for one in trials}
    ranked = sorted(searcher.judged, key=lambda number: -rewards[number])
    best = [searcher.judged[number] for number in ranked[:_RETRAINED]]
    if request.adapt:  # one that keeps the budget as it is, whatever the steps come to
        most_ms = context.samples.margin * request.settings.latency_ms
        ranked_judged = [searcher.judged[number] for number in ranked]
        fast = [one for one in ranked_judged if one.measured.latency.median_ms <= most_ms]
        if fast and fast[0] not in best:
            best[-1] = fast[0]
    return Found(rows, best, found, None if reward.kind == "hard" else reward.exponent)


def _reward(trial: Trial, found: Agreement | None, reward: Reward) -> float:
    """Return what a trial is ranked by: where scores are believed, all by their scores.

    A foretold accuracy lies nearer to the mean than one after a training alone, which may be luck.
    """
    if trial.state != "trained":
        return 0.0
    accuracy = float(trial.notes["accuracy"])
    if found is not None and found.is_worth_it and SCORE in trial.notes:
        accuracy = found.accuracy(float(trial.notes[SCORE]))
    worth = reward(accuracy, float(trial.notes["latency_ms"]))
    return worth - 1.0 if STOPPED in trial.notes else worth
