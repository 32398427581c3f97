"""The last training of a fit: how long it may take, who teaches it, and what comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from featherweight.errors import DivergedError
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.finish import FINISH_SHARE, LEAST_FINISH_S, is_worth_finishing
from featherweight.fitting.halving import Length, Ranked, train_stage
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import TimePlan
from featherweight.run_directory import RunDirectory

__all__ = ["TrainingTimes", "last_training", "teacher_of", "training_times"]

logger = logging.getLogger(__name__)

_TEACHER_SHARE = 0.5
"""Of the time that is left for the last training."""
_LEAST_TEACHING_S = 7200.0
"""A shorter fit has no time for a teacher: on 3,000 photographs eight minutes of plain fine-tuning
reached a val loss of 0.392 (104 pixels, benchmarks/results/fit_clothing_15m.json), seventeen with a
teacher 0.473 (96 pixels, fit_clothing.json as of commit 758a954)."""
_GROWTH = 1.75
"""Multiple of the winner's resolution that its teacher sees; twice would take too long to learn."""
_LEAST_SHARE = 0.05
"""Of the whole time, for the last training of a fit that is late."""
_LEAST_TRAINING_SHARE = 0.5
"""Of the whole time, below which a fit says that the time is short."""
_LEAST_GROWTH = 1.25
"""Below this multiple a teacher hardly sees more."""


def last_training(
    run: RunDirectory,
    winner: Entry,
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    plan: TimePlan,
    times: TrainingTimes,
    settings: FitSettings,
) -> Ranked:
    """Train the winner with the time that is left, taught by itself at a larger size if it may."""
    senior = teacher_of(winner, plan=plan)
    teacher_s, time_s = times.teacher_s, times.training_s
    if senior is not None:
        _tell("teacher", senior, teacher_s, settings)
        if not _learned(
            senior, raced, trainer=trainer, run=run, length=Length(teacher_s, settings.epochs)
        ):
            senior = None
    _tell("train", winner, time_s, settings)
    # What a killed attempt lost, and what a teacher left over, counts.
    spent_s = 0.0 if time_s is None else run.elapsed_s - times.begun_s - (teacher_s or 0.0)
    trained = train_stage(
        winner,
        "train",
        trainer=trainer,
        run=run,
        length=Length(time_s, settings.epochs, spent_s),
        teacher=None if senior is None else (senior, "teacher"),
    )
    # A last training cut short by a slow machine can end below what the race already had.
    same = [
        ranked
        for ranked in raced
        if ranked.entry.family == winner.family
        and ranked.entry.candidate.precision == winner.candidate.precision
        and ranked.entry.value <= winner.value
    ]
    return min([trained, *same], key=lambda ranked: ranked.val_loss)


def _learned(
    senior: Entry,
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    run: RunDirectory,
    length: Length,
) -> bool:
    """Train the teacher; it may teach if it became better than every network of the race."""
    try:
        trained = train_stage(senior, "teacher", trainer=trainer, run=run, length=length)
    except DivergedError as failure:
        logger.warning("nobody teaches: %s: %s", senior.title, failure)
        return False
    best = min((ranked.val_loss for ranked in raced), default=float("inf"))
    if trained.val_loss >= best:
        logger.warning(
            "nobody teaches: %s has val loss %.3f, the race reached %.3f",
            senior.title, trained.val_loss, best,
        )  # fmt: skip
        return False
    return True


def _tell(phase: str, entry: Entry, time_s: float | None, settings: FitSettings) -> None:
    length = f"{settings.epochs} epochs" if time_s is None else f"{time_s:.0f} s"
    logger.info("%s: %s for %s", phase, entry.title, length)


def teacher_of(winner: Entry, *, plan: TimePlan) -> Entry | None:
    """Return the winner at a larger resolution, if it can teach more than it costs.

    Only networks with weights from a larger data set: they learn the larger size in a few epochs.
    """
    family = winner.family
    if family.source is None or family.knob != "resolution":
        return None
    if plan.asked_s is not None and plan.asked_s < _LEAST_TEACHING_S:
        return None
    value = max(v for v in family.values if v <= _GROWTH * winner.value)
    if value < _LEAST_GROWTH * winner.value:
        return None
    senior = winner.at(value)
    return replace(senior, candidate=senior.candidate.model_copy(update={"precision": "fp32"}))


class TrainingTimes(NamedTuple):
    """Seconds of what comes after the race; `None` = it goes by epochs.

    `begun_s` is what the run had worked when this was planned.
    """

    teacher_s: float | None
    training_s: float | None
    finish_s: float | None
    begun_s: float


def training_times(
    run: RunDirectory,
    winner: Entry,
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    plan: TimePlan,
    ending: EndingTime,
) -> TrainingTimes:
    """Share out all that is left but the end, once: a resumed attempt goes on with the same plan.

    Time for learning to be rounded to int8 is set aside only where a network of the race has
    shown that it costs accuracy, or where nothing was raced: set aside for nothing, it is lost.
    """
    if plan.total_s is None:
        return TrainingTimes(None, None, None, 0.0)
    teacher = teacher_of(winner, plan=plan) is not None
    inputs = {
        "winner": winner.key, "total_s": plan.asked_s, "teacher": teacher, "finish": FINISH_SHARE,
    }  # fmt: skip
    done = run.stage_done("plan", inputs=inputs)
    if done is None:
        finish_s = 0.0
        if winner.candidate.precision == "int8" and _may_finish(
            run, winner, raced, trainer=trainer, time_s=plan.total_s - run.elapsed_s
        ):
            finish_s = FINISH_SHARE * (plan.total_s - run.elapsed_s - ending.seconds)
        begun_s = run.elapsed_s
        left_s = max(plan.total_s - begun_s - ending.seconds, _LEAST_SHARE * plan.total_s)
        finish_s = finish_s if finish_s >= LEAST_FINISH_S else 0.0
        teacher_s = _TEACHER_SHARE * (left_s - finish_s) if teacher else 0.0
        done = {
            "teacher_s": teacher_s,
            "training_s": left_s - finish_s - teacher_s,
            "finish_s": finish_s,
            "begun_s": begun_s,
            "end_s": ending.seconds,
        }
        run.finish_stage("plan", inputs=inputs, outputs=done, seconds=0.0)
        _tell_shares(done, asked_s=plan.asked_s)
    return TrainingTimes(
        float(done["teacher_s"]),
        float(done["training_s"]),
        float(done["finish_s"]),
        float(done["begun_s"]),
    )


def _may_finish(
    run: RunDirectory, winner: Entry, raced: Sequence[Ranked], *, trainer: Trainer, time_s: float
) -> bool:
    """Whether the last training may need an end that learns to be rounded."""
    if FINISH_SHARE * time_s < LEAST_FINISH_S:
        return False
    own = [ranked for ranked in raced if ranked.entry.key == winner.key]
    return not own or is_worth_finishing(run, own[-1], trainer=trainer)


def _tell_shares(planned: dict[str, float], *, asked_s: float | None) -> None:
    training_s = planned["training_s"] + planned["teacher_s"] + planned["finish_s"]
    logger.info(
        "plan: %.0f s until here, %.0f s of training, %.0f s for the end",
        planned["begun_s"], training_s, planned["end_s"],
    )  # fmt: skip
    if asked_s is not None and training_s < _LEAST_TRAINING_SHARE * asked_s:
        logger.warning(
            "only %.0f %% of the time is left for the last training: give it more --time",
            100 * training_s / asked_s,
        )
