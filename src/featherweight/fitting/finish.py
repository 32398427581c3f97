"""After the last training: where the int8 file answers worse than its network, more training.

The network goes on at a low rate, computing as its file does and keeping to the answers it gave
before (`training.fake_quantisation`). What comes out ships only if its file is better on val.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from featherweight.errors import DivergedError
from featherweight.fitting.halving import Length, Ranked, train_stage
from featherweight.fitting.race import Trainer
from featherweight.run_directory import RunDirectory

__all__ = ["FINISH_SHARE", "LEAST_FINISH_S", "finish_stage", "is_worth_finishing"]

logger = logging.getLogger(__name__)

FINISH_SHARE = 0.12
"""Of the time of the last training, where the file is int8."""
LEAST_FINISH_S = 90.0
"""A shorter one is not reserved: in a fit of 20 minutes int8 cost 0.6 points, and 66 s took the
file's val loss from 0.412 to 0.404; in a short fit the last training gains more in that time."""
_MOST_COST = 0.003
"""Accuracy that int8 may cost without anything being done about it."""
_EPOCHS_SHARE = 8
"""One epoch for every so many of the last training, where epochs are given."""


def finish_stage(
    run: RunDirectory,
    trained: Ranked,
    *,
    trainer: Trainer,
    time_s: float | None,
    epochs: int | None,
) -> Ranked:
    """Return what ships: the trained network, or what more training in int8 made of it.

    Args:
        run: the run directory.
        trained: what the last training ended with.
        trainer: trains and ranks.
        time_s: what is reserved; 0 = nothing, `None` = it goes by epochs.
        epochs: of the last training, where they are given.
    """
    if trained.entry.candidate.precision != "int8" or time_s == 0.0:
        return trained
    if not is_worth_finishing(run, trained, trainer=trainer):
        return trained
    passes = None if epochs is None else max(1, epochs // _EPOCHS_SHARE)
    try:
        finished = train_stage(
            trained.entry, "finish", trainer=trainer, run=run, length=Length(time_s, passes),
            before=trained,
        )  # fmt: skip
    except DivergedError as failure:
        logger.warning("finish: %s stays as it was: %s", trained.entry.title, failure)
        return trained
    logger.info(
        "finish: loss of the file on val %.4f, before %.4f", finished.val_loss, trained.val_loss
    )
    if finished.val_loss >= trained.val_loss:
        return trained
    return replace(
        finished,
        images_seen=trained.images_seen + finished.images_seen,
        seconds=trained.seconds + finished.seconds,
    )


def is_worth_finishing(run: RunDirectory, trained: Ranked, *, trainer: Trainer) -> bool:
    """Return whether the int8 file loses more val accuracy than nothing is done about: a stage."""
    cost = _cost_stage(run, trained, trainer=trainer)
    logger.info("finish: int8 costs %s %.1f points of val accuracy", trained.phase, 100 * cost)
    return cost > _MOST_COST


def _cost_stage(run: RunDirectory, trained: Ranked, *, trainer: Trainer) -> float:
    """Return the val accuracy that the file loses against its network."""
    inputs = {"trained": trained.entry.key, "phase": trained.phase}
    done = run.stage_done("int8-cost", inputs=inputs)
    if done is None:
        started = time.monotonic()
        network = trainer.load(trained.entry, trained.phase).network
        right, file_right = trainer.right_answers(trained.entry, network, phase=trained.phase)
        done = {"cost": float(np.mean(right) - np.mean(file_right)), "pictures": len(right)}
        seconds = time.monotonic() - started
        run.finish_stage("int8-cost", inputs=inputs, outputs=done, seconds=seconds)
    return float(done["cost"])
