"""The last training of a fit: how long it may take, who teaches it, and what comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.policy import TeacherPolicy
from featherweight.fitting.stages.int8_finetune import is_worth_finetuning
from featherweight.fitting.time_plan import (
    ENOUGH_TRAINING_SHARE,
    INT8_SHARE,
    LEAST_INT8_S,
    LEAST_TRAINING_SHARE,
    TEACHER_SHARE,
    TimePlan,
)
from featherweight.fitting.train_candidate import Length, train_candidate
from featherweight.records import Record

__all__ = ["TrainingTimes", "plan_training", "teacher_of", "train"]

logger = logging.getLogger(__name__)


class TrainingTimes(Record):
    """Seconds of what comes after the race; `None` = it goes by epochs.

    Attributes:
        teacher_s, training_s, int8_s: of each training.
        begun_s: what the run had worked when this was planned.
        end_s: what is kept for the end.
    """

    teacher_s: float | None
    training_s: float | None
    int8_s: float | None
    begun_s: float = 0.0
    end_s: float = 0.0


def train(
    context: FitContext, winner: Measured, raced: Sequence[Trained], *, times: TrainingTimes
) -> Trained:
    """Train the winner with the time that is left, taught by itself at a larger size if it may."""
    candidate, settings = winner.candidate, context.settings
    larger = teacher_of(candidate, plan=context.plan, policy=context.policy.teacher)
    teacher = None
    if larger is not None:
        length = Length(times.teacher_s, settings.epochs)
        teacher = _train_teacher(context, larger, raced, length=length)
    _tell(context, "train", candidate, times.training_s)
    spent_s = 0.0
    if times.training_s is not None:
        # What a killed attempt lost, and what a teacher left over, counts.
        spent_s = context.run.elapsed_s - times.begun_s - (times.teacher_s or 0.0)
    training = train_candidate(
        context,
        candidate,
        Phase(kind="train"),
        length=Length(times.training_s, settings.epochs, spent_s),
        teacher=teacher,
    )
    # A last training cut short by a slow machine can end below what the race already had.
    same = [
        trained
        for trained in raced
        if trained.candidate.family == candidate.family
        and trained.candidate.precision == candidate.precision
        and trained.candidate.size <= candidate.size
    ]
    return min([Trained.of(winner, training), *same], key=lambda trained: trained.val_loss)


def _train_teacher(
    context: FitContext, larger: Candidate, raced: Sequence[Trained], *, length: Length
) -> Training | None:
    """Train the teacher; `None` = it did not become better than every network of the race."""
    _tell(context, "teacher", larger, length.time_s)
    try:
        teacher = train_candidate(context, larger, Phase(kind="teacher"), length=length)
    except DivergedError as failure:
        logger.warning("training goes on without a teacher: %s: %s", larger.title, failure)
        return None
    best = min((trained.val_loss for trained in raced), default=float("inf"))
    if teacher.val_loss < best:
        return teacher
    logger.warning(
        "training goes on without a teacher: %s has val loss %.3f, the race reached %.3f",
        larger.title,
        teacher.val_loss,
        best,
    )
    return None


def _tell(context: FitContext, phase: str, candidate: Candidate, time_s: float | None) -> None:
    length = f"{context.settings.epochs} epochs" if time_s is None else f"{time_s:.0f} s"
    logger.info("%s: %s for %s", phase, candidate.title, length)


def teacher_of(winner: Candidate, *, plan: TimePlan, policy: TeacherPolicy) -> Candidate | None:
    """Return the winner at a larger resolution, if it can teach more than it costs.

    Only networks with weights from a larger data set: they learn the larger size in a few epochs.
    """
    family = winner.family
    if family.source is None or family.axis != "resolution" or family.anchored:
        return None
    if plan.asked_s is not None and plan.asked_s < policy.least_s:
        return None
    size = max(one for one in family.sizes if one <= policy.growth * winner.size)
    if size < policy.least_growth * winner.size:
        return None
    return Candidate(family, size, "fp32")


def plan_training(
    context: FitContext, winner: Candidate, raced: Sequence[Trained]
) -> TrainingTimes:
    """Share out all that is left but the end, once: a resumed attempt goes on with the same plan.

    Time for learning to be rounded to int8 is set aside only where a network of the race has
    shown that it costs accuracy, or where nothing was raced: set aside for nothing, it is lost.
    """
    plan, run = context.plan, context.run
    total_s = plan.total_s
    if total_s is None:
        return TrainingTimes(teacher_s=None, training_s=None, int8_s=None)
    taught = teacher_of(winner, plan=plan, policy=context.policy.teacher) is not None

    # Before the stage: what this costs is a stage of its own.
    finetunes = winner.precision == "int8" and _may_finetune(
        context, winner, raced, time_s=total_s - run.elapsed_s
    )

    def work() -> TrainingTimes:
        end_s = context.ending.seconds
        int8_s = INT8_SHARE * (total_s - run.elapsed_s - end_s) if finetunes else 0.0
        begun_s = run.elapsed_s
        left_s = max(total_s - begun_s - end_s, LEAST_TRAINING_SHARE * total_s)
        int8_s = int8_s if int8_s >= LEAST_INT8_S else 0.0
        teacher_s = TEACHER_SHARE * (left_s - int8_s) if taught else 0.0
        times = TrainingTimes(
            teacher_s=teacher_s,
            training_s=left_s - int8_s - teacher_s,
            int8_s=int8_s,
            begun_s=begun_s,
            end_s=end_s,
        )
        _tell_shares(times, training_s=left_s, asked_s=plan.asked_s)
        return times

    return run.stage(
        "plan",
        inputs={
            "winner": winner.key,
            "total_s": plan.asked_s,
            "teacher": taught,
            "int8": INT8_SHARE,
        },
        outputs=TrainingTimes,
        work=work,
    )


def _may_finetune(
    context: FitContext, winner: Candidate, raced: Sequence[Trained], *, time_s: float
) -> bool:
    """Whether the last training may need an end that learns to be rounded."""
    if INT8_SHARE * time_s < LEAST_INT8_S or winner.family.anchored:
        return False
    own = [trained for trained in raced if trained.candidate.key == winner.key]
    return not own or is_worth_finetuning(context, own[-1])


def _tell_shares(times: TrainingTimes, *, training_s: float, asked_s: float | None) -> None:
    logger.info(
        "plan: %.0f s until here, %.0f s of training, %.0f s for the end",
        times.begun_s,
        training_s,
        times.end_s,
    )
    if asked_s is not None and training_s < ENOUGH_TRAINING_SHARE * asked_s:
        logger.warning(
            "only %.0f %% of the time is left for the last training: give it more --time",
            100 * training_s / asked_s,
        )
