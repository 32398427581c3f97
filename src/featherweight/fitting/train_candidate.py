"""Train candidates: each training is a stage that an attempt after a cut does not repeat."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from featherweight.fitting.candidate import Candidate, Phase, Trained, Training, TrainingRecord
from featherweight.fitting.context import FitContext
from featherweight.fitting.ranking import keep_losses, kept_losses, losses_on_val, val_evaluation
from featherweight.journal import Journal
from featherweight.parallel import HereExecutor
from featherweight.records import to_plain
from featherweight.training.job import TrainingJob, TrainingOutcome, run_job
from featherweight.training.progress import ProgressLog
from featherweight.training.recipe import int8_recipe
from featherweight.training.results import EpochRecord, Floor

__all__ = ["Length", "begin_training", "train_candidate"]

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 10.0
"""Between two notes of how long a run has worked, while other processes train."""


class Length(NamedTuple):
    """How long a training is.

    Attributes:
        time_s: wall clock; `None` = it goes by epochs.
        epochs: passes over the pictures; `None` = it goes by time.
        spent_s: part of `time_s` that is gone already; below 0 = there is more.
    """

    time_s: float | None
    epochs: int | None
    spent_s: float = 0.0


def train_candidate(
    context: FitContext,
    candidate: Candidate,
    phase: Phase,
    *,
    length: Length,
    teacher: Training | None = None,
    before: Trained | None = None,
) -> Training:
    """Train one candidate in one phase, or return what an earlier attempt trained.

    Args:
        context: of the fit.
        candidate: what is trained.
        phase: names the stage and its folders.
        length: of the training.
        teacher: the training to learn from.
        before: go on from that network, in int8, and keep to its answers.

    Raises:
        DivergedError: the loss is not finite, whatever was tried.
    """
    return begin_training(
        context, candidate, phase, length=length, teacher=teacher, before=before
    )()


def begin_training(
    context: FitContext,
    candidate: Candidate,
    phase: Phase,
    *,
    length: Length,
    teacher: Training | None = None,
    before: Trained | None = None,
    floor: Floor = (),
) -> Callable[[], Training]:
    """Give a training to the workers of a fit; return what waits for its end (`train_candidate`).

    Without other processes nothing happens before it is waited for. Below a `floor` it ends early.
    """
    name = f"{phase}:{candidate.key}"
    inputs = {"phase": str(phase), "candidate": candidate.key, "epochs": length.epochs}
    if before is not None:
        inputs["before"] = str(before.phase)
    folder = context.trainer.network_folder(candidate, phase)
    ends = None
    if context.run.stage_done(name, inputs=inputs) is None:
        job = _job(context, candidate, phase, length=length, teacher=teacher, before=before)
        ends = _begin(context, replace(job, floor=floor), candidate, phase)
    files: list[Path] = []

    def work() -> TrainingRecord:
        assert ends is not None, "a finished stage is read back"
        started = time.monotonic()
        record = _record(context, candidate, phase, ends(), files=files)
        return record.model_copy(update={"seconds": time.monotonic() - started})

    def finish() -> Training:
        record = context.run.stage(
            name, inputs=inputs, outputs=TrainingRecord, work=work, files=lambda: files
        )
        return Training(
            candidate=candidate,
            phase=phase,
            losses=kept_losses(folder),
            val=record.val,
            images_seen=record.images_seen,
            seconds=record.seconds,
            curve=record.curve,
            is_hopeless=record.is_hopeless,
        )

    return finish


def _record(
    context: FitContext,
    candidate: Candidate,
    phase: Phase,
    outcome: TrainingOutcome,
    *,
    files: list[Path],
) -> TrainingRecord:
    """Rank a trained network's file on val; name the files that belong to its stage."""
    trainer = context.trainer
    losses = losses_on_val(
        trainer,
        candidate,
        trainer.load(candidate, phase).network,
        phase=phase,
        most=context.policy.race.val_pictures,
    )
    files.extend(keep_losses(trainer.network_folder(candidate, phase), losses))
    record = TrainingRecord(
        key=candidate.key,
        phase=phase,
        size=candidate.size,
        precision=candidate.precision,
        weights_of=candidate.family.weights_of,
        val=val_evaluation(outcome.val_accuracy, trainer=trainer),
        val_loss=float(losses.mean()),
        images_seen=outcome.images_seen,
        seconds=0.0,
        curve=tuple((one.share or 0.0, one.val_accuracy) for one in outcome.history),
        is_hopeless=outcome.stopped == "hopeless",
    )
    logger.info(
        "%s: %s: val %s, loss of the file %.3f after %d pictures",
        phase,
        candidate.title,
        record.val,
        record.val_loss,
        record.images_seen,
    )
    return record


def _job(
    context: FitContext,
    candidate: Candidate,
    phase: Phase,
    *,
    length: Length,
    teacher: Training | None,
    before: Trained | None,
) -> TrainingJob:
    """Return the training, with a recipe that suits what it starts from and who teaches it."""
    trainer = context.trainer
    taught = teacher is not None or before is not None
    recipe = trainer.recipe(
        candidate, time_s=length.time_s, epochs=length.epochs, distillation=taught
    )
    answers = start = None
    if before is not None:
        recipe = int8_recipe(recipe, time_s=length.time_s, epochs=length.epochs)
        answers = start = trainer.network_folder(before.candidate, before.phase)
    elif teacher is not None:
        answers = trainer.network_folder(teacher.candidate, teacher.phase)
    return trainer.job(
        candidate, phase, recipe=recipe, teacher=answers, before=start, spent_s=length.spent_s
    )


def _begin(
    context: FitContext, job: TrainingJob, candidate: Candidate, phase: Phase
) -> Callable[[], TrainingOutcome]:
    """Begin a training where the fit trains; return what waits for its end."""
    log = _EpochLog(context, candidate, phase)
    if isinstance(context.workers, HereExecutor):
        ends: Future[TrainingOutcome] = context.workers.submit(
            run_job,
            job,
            store=context.trainer.store,
            progress=log.end_epoch,
            tick=log.progress.tick,
        )
    else:
        ends = context.workers.submit(run_job, job)

    def finish() -> TrainingOutcome:
        if not isinstance(context.workers, HereExecutor):
            while wait([ends], timeout=_HEARTBEAT_S).not_done:
                context.run.heartbeat()
        outcome = ends.result()
        for epoch in outcome.history:  # of another process, or left out by a kill
            log.write(epoch)
        return outcome

    return finish


class _EpochLog:
    """Tells and journals the epochs of one training, each once."""

    def __init__(self, context: FitContext, candidate: Candidate, phase: Phase) -> None:
        metric = context.trainer.task.metric
        self.progress = ProgressLog(f"{phase}: {candidate.title}", logger=logger, metric=metric)
        self._journal = Journal(context.run.path / "train.jsonl")
        self._named = {"network": candidate.title, "phase": str(phase)}
        self._heartbeat = context.run.heartbeat
        self._written = {
            line["epoch"]
            for line in self._journal.read()
            if {name: line[name] for name in self._named} == self._named
        }

    def end_epoch(self, epoch: EpochRecord) -> None:
        """Tell and write an epoch."""
        self.progress.epoch(epoch)
        self.write(epoch)
        self._heartbeat()

    def write(self, epoch: EpochRecord) -> None:
        """Write an epoch that is not in the journal yet."""
        if epoch.epoch not in self._written:
            self._written.add(epoch.epoch)
            self._journal.append({"event": "epoch", **self._named, **to_plain(epoch)})
