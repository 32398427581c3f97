"""The last trainings of a command that compares several networks: each has an equal part."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Kind, Measured, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.kept_seconds import kept_seconds
from featherweight.fitting.time_plan import LEAST_SHARE
from featherweight.fitting.train_candidate import Length, train_candidate
from featherweight.records import Record

__all__ = ["train_in_turn"]

logger = logging.getLogger(__name__)


def train_in_turn(
    context: FitContext,
    wanted: Sequence[Measured],
    *,
    teacher: Training | None = None,
    reason: Callable[[Training], str],
    until_s: float | None = None,
    kind: Kind = "train",
) -> list[Trained]:
    """Train networks one after the other with equal parts of the time that is left.

    Args:
        context: of the run.
        wanted: the networks.
        teacher: whose answers all of them imitate.
        reason: what is written down about a training.
        until_s: seconds of the run after which they end; `None` = all but those of the proof.
        kind: of the trainings: an architecture may be trained once in each.

    Returns:
        those whose training ended well.

    Raises:
        DivergedError: none did.
    """
    trained: list[Trained] = []
    for position, measured in enumerate(wanted):
        seconds = _training_s(context, kind, left=len(wanted) - position, until_s=until_s)
        place = f"{kind}-diverged:{measured.candidate.key}"
        if context.run.stage_done(place, inputs={}) is not None:
            continue
        try:
            training = train_candidate(
                context,
                measured.candidate,
                Phase(kind=kind),
                length=Length(seconds, context.settings.epochs),
                teacher=teacher,
            )
        except DivergedError as failure:
            if not trained and measured is wanted[-1]:
                raise
            logger.warning("%s: %s", measured.candidate.title, failure)
            told = functools.partial(_Diverged, reason=str(failure))
            context.run.stage(place, inputs={}, outputs=_Diverged, work=told)
            continue
        trained.append(Trained.of(measured, training))
        context.ledger.note_trained(trained[-1], status="finalist", reason=reason(training))
    return trained


def _training_s(
    context: FitContext, kind: Kind, *, left: int, until_s: float | None
) -> float | None:
    """Return the seconds of the next of so many trainings: a stage, which a cut does not change."""
    total_s = context.plan.total_s
    if total_s is None:
        return None

    def reckon() -> float:
        end_s = total_s - context.ending.seconds if until_s is None else until_s
        rest_s = end_s - context.run.elapsed_s
        return max(rest_s, LEAST_SHARE * total_s) / left

    return kept_seconds(context.run, f"{kind}-time-{left}", reckon)


class _Diverged(Record):
    reason: str
