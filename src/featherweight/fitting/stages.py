"""The stages of a fit before its proof: each is journalled, and read back when it was finished."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import DivergedError
from featherweight.fitting.families import Family
from featherweight.fitting.finish import FINISH_SHARE, LEAST_FINISH_S
from featherweight.fitting.halving import Ranked, train_stage
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.probe import probe, survivors
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings, SamplePlan, TimePlan
from featherweight.fitting.settle import SETTLE_S
from featherweight.fitting.shop import Shopper, shop
from featherweight.fitting.sizing import Sizer
from featherweight.fitting.timing import time_architectures
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.platform import parse_platform
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory

__all__ = [
    "TrainingTimes",
    "create_sizer",
    "kept_entries",
    "last_training",
    "open_shopper",
    "probe_stage",
    "shop_stage",
    "size_stage",
    "teacher_of",
    "training_times",
]

logger = logging.getLogger(__name__)

_TEACHER_SHARE = 0.5
"""Of the time that is left for the last training."""
_LEAST_PROBING_S = 120.0
"""A shorter fit has no time for a probe: about seven seconds per candidate."""
_LEAST_RACING_S = 600.0
"""In a shorter fit the probe decides: trainings of a few seconds each would tell less than it
does, and take the time of the last one."""
_LEAST_TEACHING_S = 7200.0
"""A shorter fit has no time for a teacher: on 3,000 photographs eight minutes of plain fine-tuning
reached a val loss of 0.392 (104 pixels, benchmarks/results/fit_clothing_15m.json), seventeen with a
teacher 0.473 (96 pixels, fit_clothing.json as of commit 758a954)."""
_GROWTH = 1.75
"""Multiple of the winner's resolution that its teacher sees; twice would take too long to learn."""
_LEAST_GROWTH = 1.25
"""Below this multiple a teacher hardly sees more."""


def shop_stage(
    run: RunDirectory, ledger: Ledger, stalls: Sequence[Family], settings: FitSettings
) -> tuple[list[Candidate], float]:
    """Measure what may be trained; return the candidates and the nearest feasible ms."""
    inputs = {
        "families": [family.name for family in stalls],
        "fit": settings.model_dump(mode="json"),
    }
    done = run.stage_done("shop", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        shopper = open_shopper(
            run, ledger, settings, purpose="shop", samples=SamplePlan.of(settings)
        )
        stock = shop(
            stalls,
            precisions=settings.precisions,
            budget_ms=settings.latency_ms,
            shopper=shopper,
        )
        ledger.note_candidates(stock.candidates)
        done = {
            "candidates": [c.model_dump(mode="json") for c in stock.candidates],
            "nearest_feasible_ms": stock.nearest_feasible_ms,
            "nearest": stock.nearest_name,
        }
        run.finish_stage("shop", inputs=inputs, outputs=done, seconds=clock.monotonic() - started)
    candidates = [Candidate.model_validate(plain) for plain in done["candidates"]]
    return candidates, float(done["nearest_feasible_ms"])


def open_shopper(
    run: RunDirectory, ledger: Ledger, settings: FitSettings, *, purpose: str, samples: SamplePlan
) -> Shopper:
    """Return a shopper that knows nothing but what a cut attempt measured for this `purpose`."""
    platform = parse_platform(settings.platform)

    def measure(
        wanted: Sequence[tuple[str, Architecture, str]], folder: Path, count: int
    ) -> list[Measurement]:
        return time_architectures(
            wanted, folder, platform=platform, samples=count, seed=settings.seed
        )

    return Shopper(
        ledger.remembered.measuring(measure, purpose=purpose),
        folder=run.path / "artifacts" / "shop",
        runtime=platform.runtime,
        samples=samples,
        stage=purpose,
    )


def create_sizer(run: RunDirectory, ledger: Ledger, settings: FitSettings) -> Sizer:
    """Return what chooses sizes again; its measurements are journalled as `size`."""
    return Sizer(
        lambda: open_shopper(
            run, ledger, settings, purpose="size", samples=SamplePlan.of(settings)
        ),
        budget_ms=settings.latency_ms,
    )


def size_stage(run: RunDirectory, ledger: Ledger, winner: Entry, *, sizer: Sizer) -> Entry:
    """Return the winner of the race at the size that fits now."""
    if len(winner.family.values) < 2:
        return winner
    inputs = {"winner": winner.key}
    done = run.stage_done("size", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        value, candidate = sizer.size(
            winner.family, winner.candidate.precision, winner.value, ceiling=winner.ceiling
        )
        kept = candidate.model_copy(
            update={"status": "kept", "reason": "size chosen again before the last training"}
        )
        if value != winner.value:
            ledger.note_candidates([kept])
        done = {"value": value, "candidate": kept.model_dump(mode="json")}
        run.finish_stage("size", inputs=inputs, outputs=done, seconds=clock.monotonic() - started)
    if done["value"] == winner.value:
        return winner
    return replace(
        winner, candidate=Candidate.model_validate(done["candidate"]), value=float(done["value"])
    )


def kept_entries(candidates: Sequence[Candidate], stalls: Sequence[Family]) -> list[Entry]:
    """Return the candidates that shopping kept, with what it takes to build them again."""
    by_name = {family.name: family for family in stalls}
    entries = []
    for candidate in candidates:
        if candidate.status != "kept":
            continue
        family = by_name[candidate.family]
        value = candidate.width if family.knob == "width" else float(candidate.resolution)
        entries.append(Entry(candidate, family, value or 0.0))
    return entries


def probe_stage(
    entries: list[Entry], *, trainer: Trainer, run: RunDirectory, ledger: Ledger, plan: TimePlan
) -> list[Entry]:
    """Probe pretrained candidates, if there is time; return those that race."""
    if plan.asked_s is not None and plan.asked_s < _LEAST_PROBING_S:
        return entries
    probed = probe(entries, trainer=trainer, run=run)
    if not probed:
        return entries
    best = probed[0]
    short = plan.asked_s is not None and plan.asked_s < _LEAST_RACING_S
    kept = [best.entry] if short else survivors(probed, seed=trainer.seed)
    ledger.note_candidates(
        one.entry.candidate.model_copy(
            update={
                "status": "kept" if one.entry in kept else "rejected",
                "reason": f"probe: leave-one-out accuracy {one.accuracy:.3f}; the best, "
                f"{best.entry.title}, has {best.accuracy:.3f}",
                "stage": "probe",
            }
        )
        for one in probed
    )
    return [entry for entry in entries if entry in kept]


def last_training(
    run: RunDirectory,
    winner: Entry,
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    plan: TimePlan,
    settings: FitSettings,
) -> Ranked:
    """Train the winner with the time that is left, taught by itself at a larger size if it may."""
    senior = teacher_of(winner, plan=plan)
    teacher_s, time_s, _ = training_times(run, winner, plan=plan)
    if senior is not None:
        _tell("teacher", senior, teacher_s, settings)
        if not _learned(
            senior, raced, trainer=trainer, run=run, time_s=teacher_s, epochs=settings.epochs
        ):
            senior = None
    _tell("train", winner, time_s, settings)
    trained = train_stage(
        winner,
        "train",
        trainer=trainer,
        run=run,
        time_s=time_s,
        epochs=settings.epochs,
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
    time_s: float | None,
    epochs: int | None,
) -> bool:
    """Train the teacher; it may teach if it became better than every network of the race."""
    try:
        trained = train_stage(
            senior, "teacher", trainer=trainer, run=run, time_s=time_s, epochs=epochs
        )
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
    """Seconds of what comes after the race; `None` = it goes by epochs."""

    teacher_s: float | None
    training_s: float | None
    finish_s: float | None


def training_times(run: RunDirectory, winner: Entry, *, plan: TimePlan) -> TrainingTimes:
    """Fix the seconds of what comes once: a resumed attempt must plan the same steps."""
    if plan.total_s is None:
        return TrainingTimes(None, None, None)
    teacher = teacher_of(winner, plan=plan) is not None
    inputs = {
        "winner": winner.key, "total_s": plan.asked_s, "teacher": teacher, "finish": FINISH_SHARE,
    }  # fmt: skip
    done = run.stage_done("plan", inputs=inputs)
    if done is None:
        reserved_s = plan.prove_s + (0.0 if winner.family.source is None else SETTLE_S)
        left_s = max(plan.total_s - run.elapsed_s - reserved_s, 0.1 * plan.total_s)
        finish_s = FINISH_SHARE * left_s if winner.candidate.precision == "int8" else 0.0
        if finish_s < LEAST_FINISH_S:
            finish_s = 0.0
        teacher_s = _TEACHER_SHARE * (left_s - finish_s) if teacher else 0.0
        done = {
            "teacher_s": teacher_s,
            "training_s": left_s - finish_s - teacher_s,
            "finish_s": finish_s,
        }
        run.finish_stage("plan", inputs=inputs, outputs=done, seconds=0.0)
    return TrainingTimes(
        float(done["teacher_s"]), float(done["training_s"]), float(done["finish_s"])
    )
