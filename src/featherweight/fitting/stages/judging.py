"""What judges the networks of a search, with its part of the time for trials."""

from __future__ import annotations

from featherweight.fitting.context import FitContext
from featherweight.fitting.evaluator import EVALUATORS, Evaluator, Ground, Shares
from featherweight.fitting.stages.first_networks import FastDraws, Speeds
from featherweight.fitting.train_candidate import Length
from featherweight.records import Record
from featherweight.searching.features import PointFeatures
from featherweight.searching.sampler import GENERATION
from featherweight.searching.space import Space

__all__ = ["TRIALS_SHARE", "open_evaluator"]

TRIALS_SHARE = 0.6
"""Of the whole time, for all trials."""
_EPOCHS_SHARE = 5
"""A trial has one fifth of the epochs of the last trainings; a super-network a fifth of what so
many trials alone would have."""
_LEAST_S = 1.0
"""Of a training."""
_HEIRS_SHARE = 3
"""A training that goes on from a relative's weights has a third of the epochs of one alone."""


def open_evaluator(
    context: FitContext,
    space: Space,
    name: str,
    *,
    trials: int,
    is_limited: bool,
    speeds: Speeds,
    features: PointFeatures,
) -> Evaluator:
    """Return the evaluator of a name.

    Args:
        context: of the search.
        space: of the networks.
        name: in `EVALUATORS`.
        trials: that are wanted.
        is_limited: whether what is too slow is not judged.
        speeds: what was timed before.
        features: of the space.
    """
    kind = EVALUATORS[name]
    alone, cheap = _lengths(context, kind.shares, trials)
    most_ms = context.samples.margin * context.settings.latency_ms
    draw = FastDraws(
        space, features, speeds, most_ms=most_ms if is_limited else None, seed=context.seed
    )
    return kind.make(Ground(context, space, alone, cheap, draw, is_by_accuracy=is_limited))


def _lengths(context: FitContext, shares: Shares, trials: int) -> tuple[Length, Length]:
    """Return the lengths of a training alone and of a cheap one."""
    settings, total_s = context.settings, context.plan.total_s
    if total_s is None:
        assert settings.epochs is not None
        epochs = max(1, settings.epochs // _EPOCHS_SHARE)
        cheap = (
            epochs / _HEIRS_SHARE
            if shares.cheap_trainings is None
            else epochs * trials / _EPOCHS_SHARE
        )
        return Length(None, epochs), Length(None, max(1, round(cheap)))
    at_once = GENERATION / -(-GENERATION // context.width)

    def work() -> _Seconds:
        left_s = max(TRIALS_SHARE * total_s - context.run.elapsed_s, 1.0)
        together = at_once if shares.cheap_trainings is None else 1.0
        alone_s = shares.alone * left_s * at_once / (shares.alone_trials or trials)
        cheap_s = shares.cheap * left_s * together / (shares.cheap_trainings or trials)
        return _Seconds(alone=max(alone_s, _LEAST_S), cheap=max(cheap_s, _LEAST_S))

    found = context.run.stage("trial-time", inputs={}, outputs=_Seconds, work=work)
    return Length(found.alone, None), Length(found.cheap, None)


class _Seconds(Record):
    alone: float
    cheap: float
