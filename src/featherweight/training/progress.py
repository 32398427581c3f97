"""Tell now and then where a training is: share done, pictures per second, time left."""

from __future__ import annotations

import logging
import time

from featherweight.readable import figure_name
from featherweight.training.results import EpochRecord, TrainingTick

__all__ = ["ProgressLog"]

_EVERY_S = 15.0


class ProgressLog:
    """Logs a training's ticks (at most every 15 s) and epochs at level INFO.

    Args:
        title: which training, for the line.
        logger: where the lines go.
        metric: what `val_accuracy` of an epoch is.
    """

    def __init__(self, title: str, *, logger: logging.Logger, metric: str = "accuracy") -> None:
        self._title = title
        self._metric = figure_name(metric)
        self._logger = logger
        self._told_s = time.monotonic()

    def tick(self, tick: TrainingTick) -> None:
        """Log where the training is, unless something was logged just now."""
        now_s = time.monotonic()
        if now_s - self._told_s < _EVERY_S:
            return
        self._told_s = now_s
        self._logger.info(
            "%s: %.0f %% done, %.0f pictures/s, %s left",
            self._title,
            100 * tick.step / tick.total_steps,
            tick.images_per_s,
            _clock(tick.seconds_left),
        )

    def epoch(self, epoch: EpochRecord) -> None:
        """Log the end of an epoch."""
        self._told_s = time.monotonic()
        self._logger.info(
            "%s: epoch %d, %d pictures seen, %.0f/s, val loss %.3f, val %s %.3f",
            self._title,
            epoch.epoch,
            epoch.images_seen,
            epoch.images_per_s,
            epoch.val_loss,
            self._metric,
            epoch.val_accuracy,
        )


def _clock(seconds: float) -> str:
    """Return `4:05` for 245 seconds."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    return f"{minutes}:{rest:02d}"
