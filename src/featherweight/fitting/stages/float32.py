"""After the last training of a detector: float32 where int8 costs too much and it is fast enough.

A classifier goes on training in int8 instead (`int8_finetune`).
"""

from __future__ import annotations

import logging
from dataclasses import replace

from featherweight.budget import Latency
from featherweight.errors import UnsupportedError
from featherweight.fitting.candidate import Candidate, Measured, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.ranking import losses_on_val, scores_on_val
from featherweight.records import Record

__all__ = ["prefer_float32"]

logger = logging.getLogger(__name__)


class _CostRecord(Record):
    network: float
    file: float


class _PlainRecord(Record):
    latency: Latency | None
    fits: bool


def prefer_float32(context: FitContext, trained: Trained) -> Trained:
    """Return what ships of a detector: the same weights in float32, or as they were trained for.

    Args:
        context: of the fit.
        trained: what the last training ended with.
    """
    candidate, allowed = trained.candidate, context.settings.precisions
    if candidate.precision != "int8" or not candidate.family.anchored:
        return trained
    cost = _cost(context, trained)
    if cost <= context.policy.int8.most_ap_cost:
        return trained
    plain = replace(candidate, precision="fp32")
    said = f"int8 costs {candidate.label} {100 * cost:.1f} points of AP on val"
    if "fp32" not in allowed:
        logger.warning("%s, and nothing else was allowed", said)
        return trained
    timed = _timed(context, plain)
    if timed.latency is None or not timed.fits:
        took = "cannot run" if timed.latency is None else f"takes {timed.latency.median_ms:.3f} ms"
        logger.warning("%s, but float32 %s: int8 ships", said, took)
        return trained
    logger.info("%s: float32 ships, %.3f ms", said, timed.latency.median_ms)
    return _in_float32(context, trained, Measured(plain, timed.latency))


def _cost(context: FitContext, trained: Trained) -> float:
    candidate, phase = trained.candidate, trained.phase

    def work() -> _CostRecord:
        network = context.trainer.load(candidate, phase).network
        own, of_file = scores_on_val(context.trainer, candidate, network, phase=phase)
        return _CostRecord(network=own, file=of_file)

    found = context.run.stage(
        "int8-cost",
        inputs={"trained": candidate.key, "phase": str(phase)},
        outputs=_CostRecord,
        work=work,
    )
    return found.network - found.file


def _timed(context: FitContext, plain: Candidate) -> _PlainRecord:
    def work() -> _PlainRecord:
        bench = context.bench("float32")
        try:
            bench.measure([plain])
        except UnsupportedError as refusal:
            logger.warning("float32: %s", refusal)
            return _PlainRecord(latency=None, fits=False)
        fits = bench.fits(plain, context.settings.latency_ms)
        return _PlainRecord(latency=bench.latency(plain), fits=fits)

    return context.run.stage(
        "float32", inputs={"network": plain.key}, outputs=_PlainRecord, work=work
    )


def _in_float32(context: FitContext, trained: Trained, measured: Measured) -> Trained:
    trainer, phase, plain = context.trainer, trained.phase, measured.candidate
    network = trainer.load(trained.candidate, phase).network
    trainer.save(network, plain, folder=trainer.network_folder(plain, phase))
    losses = losses_on_val(trainer, plain, network, phase=phase)
    return replace(trained, measured=measured, losses=losses)
