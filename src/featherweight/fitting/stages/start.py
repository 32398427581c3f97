"""The first stage of `adapt`: how fast the parent is as it ships, and how well it answers val."""

from __future__ import annotations

import logging
import time

from featherweight.budget import Evaluation, Latency
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.ranking import (
    evaluate_on_val,
    keep_losses,
    kept_losses,
    losses_on_val,
)
from featherweight.fitting.refit import with_fitted_classifier
from featherweight.nn.network import Network
from featherweight.records import Record

__all__ = ["start"]

logger = logging.getLogger(__name__)


class _StartRecord(Record):
    latency: Latency
    val: Evaluation
    val_loss: float
    forward_s: float


def start(
    context: FitContext, parent: Candidate, phase: Phase, *, drawn: Network | None = None
) -> Trained:
    """Return the parent, measured twice in processes of its own and judged on val: a stage.

    Args:
        context: of the run.
        parent: saved in the run.
        phase: names its folder.
        drawn: the parent where its classifier was drawn: it is fitted to the data first. As it was
            read, not as it lies in the run: an attempt that was cut may have left that half
            written, or fitted already.
    """
    trainer = context.trainer
    folder = trainer.network_folder(parent, phase)

    def work() -> _StartRecord:
        if drawn is None:
            network = trainer.load(parent, phase).classifier
        else:
            fitted = with_fitted_classifier(
                parent, drawn, trainer=trainer, name="start", policy=context.policy.refit
            )
            network = fitted or drawn
            trainer.save(network, parent, folder=folder)
        losses = losses_on_val(
            trainer, parent, network, phase=phase, most=context.policy.race.val_pictures
        )
        keep_losses(folder, losses)
        bench = context.bench("start")
        bench.remeasure([parent])
        bench.remeasure([parent])
        started = time.monotonic()
        val = evaluate_on_val(trainer, parent, network)
        record = _StartRecord(
            latency=bench.latency(parent),
            val=val,
            val_loss=float(losses.mean()),
            forward_s=(time.monotonic() - started) / trainer.count("val"),
        )
        logger.info(
            "start: %s: %.3f ms [%.3f, %.3f], val %s",
            parent.title,
            record.latency.median_ms,
            *record.latency.interval_ms,
            record.val,
        )
        return record

    found = context.run.stage(
        "start",
        inputs={"parent": parent.key},
        outputs=_StartRecord,
        work=work,
        files=lambda: sorted(folder.iterdir()),
    )
    context.ending.forward_s = found.forward_s
    context.ending.picture_s += 1e-3 * found.latency.median_ms
    training = Training(
        candidate=parent,
        phase=phase,
        losses=kept_losses(folder),
        val=found.val,
        images_seen=0,
        seconds=0.0,
    )
    return Trained.of(Measured(parent, found.latency), training)
