"""What a training tells: after an epoch, in between, and at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from featherweight.networks.modules import AnyNetwork
from featherweight.records import Record

__all__ = ["EpochRecord", "Floor", "Stop", "TrainingResult", "TrainingTick", "best_epoch"]

Stop = Literal["finished", "deadline", "hopeless"]
"""Why a training ended: it took its epochs or its time, or lay below its `Floor`."""
Floor = tuple[tuple[float, float], ...]
"""(share of a training that is done, accuracy on val), by share: below it from there on, a training
is not worth its time."""


class EpochRecord(Record):
    """One epoch; the validation numbers are those of the averaged weights.

    Attributes:
        epoch: counted from 1.
        images_seen: training pictures since the start.
        seconds: of the epoch with its validation.
        images_per_s: training pictures per second, validation left out.
        train_loss: mean over the epoch's steps (with smoothing and distillation).
        val_loss: mean cross-entropy without smoothing.
        val_accuracy: share of correct answers in [0, 1].
        learning_rate: of the epoch's last step.
        resolution: side of the pictures in the epoch's last step.
        memory_format, dtype: what the steps computed in.
        foreign_cpu_share: share of the machine's CPU time other processes used; `None` = unknown.
        share: of the training that is done, in 0..1: of its time, or of its steps; `None` = unknown
            (trainings of earlier versions).
    """

    epoch: int
    images_seen: int
    seconds: float
    images_per_s: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    resolution: int
    memory_format: str
    dtype: str
    foreign_cpu_share: float | None
    share: float | None = None

    def is_hopeless(self, floor: Floor) -> bool:
        """Whether the accuracy lies below a floor."""
        due = [accuracy for share, accuracy in floor if share <= (self.share or 0.0)]
        return bool(due) and self.val_accuracy < due[-1]


class TrainingTick(Record):
    """Where a training is, about once a second; `seconds_left` is an estimate.

    Where time counts, `epochs` and `total_steps` are estimates too.
    """

    epoch: int
    epochs: int
    step: int
    total_steps: int
    images_per_s: float
    seconds_left: float


def best_epoch(history: Sequence[EpochRecord], *, pictures: int) -> EpochRecord:
    """Return the epoch whose weights are kept: the last one, unless an earlier is surely better.

    The learning rate falls to zero, so that without evidence the later weights are the better
    ones. The evidence is the accuracy on val, by more than two standard errors of a difference.
    Loss is none: from some epoch on it rises while accuracy still does too, because the few answers
    that are wrong become surer.

    Args:
        history: of all epochs so far.
        pictures: of val.
    """
    best, peak = history[0], 0.0
    for record in history:
        peak = max(peak, record.val_accuracy)
        error = math.sqrt(max(2 * peak * (1 - peak), 0.0) / pictures)
        if record.val_accuracy >= peak - 2 * error:
            best = record
    return best


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        network: the averaged weights of the best epoch (`best_epoch`), on the CPU.
        history: one record per epoch.
        best: the record of that epoch.
        stopped: why it ended.
        seconds: wall clock, summed over resumed attempts.
    """

    network: AnyNetwork
    history: tuple[EpochRecord, ...]
    best: EpochRecord
    stopped: Stop
    seconds: float
