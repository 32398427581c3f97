"""Train a network: one loop for every task, on the CPU or an accelerator."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featherweight.data.augmentation import Augmentation, augment_batch
from featherweight.data.rows import spaced_rows
from featherweight.errors import DataError, DivergedError, UsageError
from featherweight.measuring.worker import foreign_share, read_cpu_ticks
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing
from featherweight.training.compute import Compute, choose_device, dropout_seed
from featherweight.training.evaluate import (
    EvaluationResult,
    TrainingImages,
    evaluate_network,
    evaluate_placed,
)
from featherweight.training.fake_quantisation import Int8Levels
from featherweight.training.memory import memory_kept
from featherweight.training.recipe import Recipe
from featherweight.training.results import EpochRecord, Floor, TrainingResult, TrainingTick
from featherweight.training.session import (
    ROLLED_BACK_SCALE,
    Session,
    open_session,
    roll_back,
)
from featherweight.training.speed import StepTimer
from featherweight.training.step import Learner, Teacher

__all__ = [
    "EpochRecord",
    "EvaluationResult",
    "TrainingImages",
    "TrainingResult",
    "evaluate_network",
    "train_network",
]

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_SETTLING_BATCHES = 4
_CHECKED_STEPS = 20  # on an accelerator, reading the loss of every step would make it wait


def train_network(  # noqa: PLR0913 - one call says all of a training
    network: AnyNetwork,
    *,
    train: TrainingImages,
    val: TrainingImages,
    recipe: Recipe,
    preprocessing: Preprocessing,
    directory: Path,
    teacher: AnyNetwork | None = None,
    teacher_preprocessing: Preprocessing | None = None,
    device: str = "auto",
    compute: Compute | None = None,
    levels: Int8Levels | None = None,
    progress: Callable[[EpochRecord], None] | None = None,
    tick: Callable[[TrainingTick], None] | None = None,
    spent_s: float = 0.0,
    images_per_s: float | None = None,
    floor: Floor = (),
) -> TrainingResult:
    """Train a copy of a network and return its averaged weights of the best epoch.

    `directory` gets `checkpoint.safetensors` after every epoch and `train.jsonl`. When a
    checkpoint is there, the training goes on from it; with `recipe.epochs` on one machine the
    result is bit for bit that of an uninterrupted training. A loss that is not finite goes back
    to the checkpoint once and on at a third of the learning rate.

    Args:
        network: first weights; left as it is.
        train: training pictures, square, of any size (cropped or resized to the network's).
        val: validation pictures of the network's resolution; they choose the epoch.
        recipe: hyperparameters and length.
        preprocessing: mean and standard deviation of the network's input.
        directory: of this training alone.
        teacher: whose answers are imitated, as far as `recipe.distillation_weight` says; it sees
            the same pictures at its own resolution.
        teacher_preprocessing: of the teacher's input; `None` = the same as the network's.
        device: `auto`, `cpu`, `cuda` or `mps`.
        compute: device, memory format and arithmetic, where they are known; `None` = on `device`,
            in the form that a short timing finds the fastest.
        levels: of the int8 file: the network learns, and is judged on val, as that file computes.
            Norms keep their statistics, and everything is computed in float32.
        progress: called after every epoch.
        tick: called about once a second.
        spent_s: part of `recipe.time_s` that is gone already, that of lost attempts included.
        images_per_s: pictures per second that the training is known to take; `None` = some steps
            are timed.
        floor: accuracies on val, below which the training ends after an epoch.

    Raises:
        DataError: pictures or labels do not fit the network.
        UsageError: the recipe wants a teacher and there is none, or an unknown device.
        RunDirectoryError: the checkpoint in `directory` belongs to another training.
        DivergedError: the loss is not finite for the second time; names epoch, step and learning
            rate.
    """
    _check(network, train, val, recipe, teacher)
    imitated = None if teacher is None else Teacher(teacher, teacher_preprocessing or preprocessing)
    timer = StepTimer(network, train, recipe, preprocessing, imitated, levels)
    place = choose_device(device)
    if levels is not None:  # bfloat16 rounds as coarsely as the levels
        compute = replace(compute or Compute(place, "channels_last"), dtype="fp32")
    with memory_kept():
        session = open_session(
            timer,
            val=val,
            directory=directory,
            device=place,
            compute=compute,
            spent_s=spent_s,
            images_per_s=images_per_s,
        )
        report = _Reporter(session, tick)

        while session.state.stopped is None:
            try:
                record, step = _run_epoch(session, train, val, report=report)
            except DivergedError as failure:
                if session.state.rolled_back:
                    raise
                logger.warning(
                    "%s: back to step %d, at a third of the learning rate",
                    failure,
                    session.state.step,
                )
                session = roll_back(session, timer, reason=str(failure))
                report = _Reporter(session, tick)
                continue
            session.end_epoch(record, step=step, floor=floor)
            if progress is not None:
                progress(record)
        return session.result(network)


def _run_epoch(
    session: Session, train: TrainingImages, val: TrainingImages, *, report: _Reporter
) -> tuple[EpochRecord, int]:
    """Train and validate one epoch; return what came out and the steps done since the start."""
    learner, plan = session.learner, session.state.plan
    epoch = len(session.state.history) + 1
    ticks, cpu_s, start_s = read_cpu_ticks(), time.process_time(), time.perf_counter()
    step, place, loss = _train_epoch(session, train, epoch=epoch, report=report)
    trained_s = time.perf_counter() - start_s
    moving = [] if plan.frozen_at(place) else learner.moving_norms(learner.average.network)
    if moving and learner.average.is_young and learner.levels is None:
        with dropout_seed(learner.compute.device):
            learner.average.settle(_plain_batches(learner, train), norms=moving)
    answer = evaluate_placed(
        learner.judged, val, preprocessing=learner.preprocessing, compute=learner.compute
    )
    rate = _learning_rate(session, place)
    _check_finite(answer.loss, "validation loss", epoch=epoch, step=step, learning_rate=rate)
    images = plan.batch_size * (step - session.state.step)
    record = EpochRecord(
        epoch=epoch,
        images_seen=plan.batch_size * step,
        seconds=time.perf_counter() - start_s,
        images_per_s=images / trained_s,
        train_loss=loss,
        val_loss=answer.loss,
        val_accuracy=answer.accuracy,
        learning_rate=rate,
        resolution=plan.resolution_at(place),
        memory_format=learner.compute.memory_format,
        dtype=learner.compute.dtype,
        foreign_cpu_share=foreign_share(
            ticks, read_cpu_ticks(), own_cpu_s=time.process_time() - cpu_s
        ),
        share=session.share_done(step),
    )
    return record, step


def _plain_batches(learner: Learner, train: TrainingImages) -> Iterator[Tensor]:
    """Yield evenly spaced training pictures without augmentation, as the network takes them."""
    count = min(len(train), _SETTLING_BATCHES * learner.recipe.batch_size)
    rows = spaced_rows(len(train), most=count)
    # At least two in each: norms have no statistics of one.
    for chosen in np.array_split(rows, max(1, min(_SETTLING_BATCHES, count // 2))):
        part = train.batch(chosen)
        yield learner.compute.arrange(
            augment_batch(
                part.pixels.to(learner.compute.device),
                size=learner.network.architecture.resolution,
                augmentation=Augmentation(),
                generator=torch.Generator(),
                mean=learner.preprocessing.mean,
                std=learner.preprocessing.std,
                aspects=part.aspects,
            )
        )


def _train_epoch(
    session: Session,
    train: TrainingImages,
    *,
    epoch: int,
    report: _Reporter,
) -> tuple[int, int, float]:
    """Take the steps of one epoch.

    Returns:
        the steps done since the start, the place of the last one in the plan, the mean loss.
    """
    learner, plan = session.learner, session.state.plan
    step, place, losses = session.state.step, session.state.step, []
    check_every = 1 if learner.compute.device.type == "cpu" else _CHECKED_STEPS
    report.start_epoch()
    with dropout_seed(learner.compute.device):
        torch.manual_seed(int(torch.randint(2**62, (), generator=session.generator)))
        for rows in _batches(session, len(train)):
            place = session.position(step)
            rate = _learning_rate(session, place)
            loss = learner.step(
                train.batch(rows),
                size=plan.side_at(place),
                frozen=plan.frozen_at(place),
                learning_rate=rate,
                generator=session.generator,
                strength=plan.strength,
                progress=min(1.0, place / max(1, plan.total_steps)),
            )
            step += 1
            losses.append(loss)
            if step % check_every == 0:
                _check_finite(loss.item(), "loss", epoch=epoch, step=step, learning_rate=rate)
            report(step)
            if session.out_of_time:
                break
    mean = torch.stack(losses).double().mean().item()
    _check_finite(mean, "loss", epoch=epoch, step=step, learning_rate=rate)
    return step, place, mean


def _batches(session: Session, images: int) -> Iterator[np.ndarray]:
    """Yield the rows of each batch of the next epoch, in a new order; the rest is dropped.

    The dropped rest differs every epoch, and no batch of one picture meets a batch norm.
    """
    plan = session.state.plan
    order = torch.randperm(images, generator=session.generator).numpy()
    steps = plan.steps_per_epoch
    if session.time_s is None:
        steps = min(steps, plan.total_steps - session.state.step)
    for index in range(steps):
        yield order[index * plan.batch_size : (index + 1) * plan.batch_size]


def _learning_rate(session: Session, step: int) -> float:
    state = session.state
    scale = ROLLED_BACK_SCALE if state.rolled_back else 1.0
    return scale * session.learner.recipe.learning_rate * state.plan.learning_rate_scale(step)


class _Reporter:
    """Calls `tick` about once a second with the speed since the epoch's start."""

    def __init__(self, session: Session, tick: Callable[[TrainingTick], None] | None) -> None:
        self._session, self._tick = session, tick
        self._first_step, self._start_s = 0, 0.0
        self._told_s = time.perf_counter()

    def start_epoch(self) -> None:
        """Measure speed from here, so that no validation is inside."""
        self._first_step, self._start_s = self._session.state.step, time.perf_counter()

    def __call__(self, step: int) -> None:
        now_s = time.perf_counter()
        if self._tick is None or now_s - self._told_s < _TICK_S:
            return
        self._told_s = now_s
        session, plan = self._session, self._session.state.plan
        epoch = len(session.state.history) + 1
        step_s = (now_s - self._start_s) / (step - self._first_step)
        total_steps = plan.total_steps
        left_s = (total_steps - step) * step_s + (plan.epochs - epoch + 1) * plan.epoch_end_s
        if session.time_s is not None:
            total_steps = max(step, round(step / max(session.share, 1e-3)))
            left_s = max(session.time_s - session.elapsed_s, 0.0)
        self._tick(
            TrainingTick(
                epoch=epoch,
                epochs=math.ceil(total_steps / plan.steps_per_epoch),
                step=step,
                total_steps=total_steps,
                images_per_s=plan.batch_size / step_s,
                seconds_left=left_s,
            )
        )


def _check_finite(value: float, what: str, *, epoch: int, step: int, learning_rate: float) -> None:
    if not math.isfinite(value):
        raise DivergedError(
            f"the {what} became {value} in epoch {epoch}, step {step}, "
            f"at learning rate {learning_rate:.3g}",
            hint="look at the data with data check, or train again in another directory with a "
            "lower learning rate or a longer warm-up",
        )


def _check(
    network: AnyNetwork,
    train: TrainingImages,
    val: TrainingImages,
    recipe: Recipe,
    teacher: AnyNetwork | None,
) -> None:
    train.check(network)
    val.check(network)
    if len(train) < 2:
        raise DataError("one training picture", allowed="at least 2 (batch norms need them)")
    if recipe.batch_size < 2:
        raise UsageError("batch_size 1", allowed="at least 2 (batch norms need them)")
    if recipe.distillation_weight > 0 and teacher is None:
        raise UsageError(
            f"distillation_weight {recipe.distillation_weight} without a teacher",
            allowed="0 when there is no teacher",
        )
    if teacher is not None and (
        teacher.architecture.num_classes != network.architecture.num_classes
    ):
        raise UsageError(
            f"a teacher of {teacher.architecture.num_classes} classes",
            allowed=f"{network.architecture.num_classes}, as the network has",
        )
