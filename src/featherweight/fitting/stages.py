"""The stages of a fit before its proof: each is journalled, and read back when it was finished."""

from __future__ import annotations

import logging
import statistics
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import DivergedError
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import Family
from featherweight.fitting.finish import FINISH_SHARE, LEAST_FINISH_S, is_worth_finishing
from featherweight.fitting.halving import Length, Ranked, train_stage
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.moments import Moments
from featherweight.fitting.probe import probe, survivors
from featherweight.fitting.prove import MOST_GROWTH
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import Shopper, shop
from featherweight.fitting.sizing import Sizer
from featherweight.fitting.time_plan import SamplePlan, TimePlan
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
    "ship_size_stage",
    "shop_stage",
    "size_stage",
    "teacher_of",
    "training_times",
]

logger = logging.getLogger(__name__)

_TEACHER_SHARE = 0.5
"""Of the time that is left for the last training."""
_LEAST_RACING_S = 600.0
"""In a shorter fit the probe decides: trainings of a few seconds each would tell less than it
does, and take the time of the last one."""
_LEAST_TEACHING_S = 7200.0
"""A shorter fit has no time for a teacher: on 3,000 photographs eight minutes of plain fine-tuning
reached a val loss of 0.392 (104 pixels, benchmarks/results/fit_clothing_15m.json), seventeen with a
teacher 0.473 (96 pixels, fit_clothing.json as of commit 758a954)."""
_GROWTH = 1.75
"""Multiple of the winner's resolution that its teacher sees; twice would take too long to learn."""
_LEAST_TRAINING_SHARE = 0.5
"""Of the whole time, below which a fit says that the time is short."""
_LEAST_GROWTH = 1.25
"""Below this multiple a teacher hardly sees more."""


def shop_stage(
    run: RunDirectory,
    ledger: Ledger,
    stalls: Sequence[Family],
    settings: FitSettings,
    *,
    plan: TimePlan,
    moments: Moments,
    ending: EndingTime,
) -> tuple[list[Candidate], float]:
    """Measure what may be trained; return the candidates and the nearest feasible ms."""
    inputs = {
        "families": [family.name for family in stalls],
        "fit": settings.model_dump(mode="json", exclude={"data", "device"}),
    }
    done = run.stage_done("shop", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        process_s: list[float] = []

        def note(seconds: float) -> None:
            process_s.append(seconds)
            moments.take()

        shopper = open_shopper(
            run, ledger, settings, purpose="shop", samples=SamplePlan.of(settings), note=note
        )
        stock = shop(
            stalls,
            precisions=settings.precisions,
            budget_ms=settings.latency_ms,
            shopper=shopper,
            is_over=lambda: plan.shop_s is not None and clock.monotonic() - started > plan.shop_s,
        )
        ledger.note_candidates(stock.candidates)
        done = {
            "candidates": [c.model_dump(mode="json") for c in stock.candidates],
            "nearest_feasible_ms": stock.nearest_feasible_ms,
            "nearest": stock.nearest_name,
            "seconds_per_process": statistics.median(process_s),
        }
        run.finish_stage("shop", inputs=inputs, outputs=done, seconds=clock.monotonic() - started)
    candidates = [Candidate.model_validate(plain) for plain in done["candidates"]]
    ending.process_s = float(done["seconds_per_process"])
    return candidates, float(done["nearest_feasible_ms"])


def open_shopper(
    run: RunDirectory,
    ledger: Ledger,
    settings: FitSettings,
    *,
    purpose: str,
    samples: SamplePlan,
    note: Callable[[float], None] = lambda _: None,
) -> Shopper:
    """Return a shopper that remembers nothing; its measurements are journalled as `purpose`.

    `note` is told after each measurement how many seconds a process took.
    """
    platform = parse_platform(settings.platform)

    def measure(
        wanted: Sequence[tuple[str, Architecture, str]], folder: Path, count: int
    ) -> list[Measurement]:
        started = clock.monotonic()
        measured = time_architectures(
            wanted, folder, platform=platform, samples=count, seed=settings.seed
        )
        ledger.note_measurements(measured, purpose=purpose)
        processes = len({precision for _, _, precision in wanted})
        note((clock.monotonic() - started) / processes)
        return measured

    return Shopper(
        measure,
        folder=run.path / "artifacts" / "shop",
        runtime=platform.runtime,
        samples=samples,
        stage=purpose,
    )


def create_sizer(run: RunDirectory, ledger: Ledger, settings: FitSettings) -> Sizer:
    """Return what chooses sizes again; its measurements are journalled as `size`."""
    samples = SamplePlan.of(settings)
    return Sizer(
        lambda: open_shopper(run, ledger, settings, purpose="size", samples=samples),
        budget_ms=settings.latency_ms,
        processes=samples.sizing_processes,
    )


def size_stage(run: RunDirectory, ledger: Ledger, winner: Entry, *, sizer: Sizer) -> Entry:
    """Return the winner of the race at the size that fits now.

    Of networks that have a width: one that has a resolution is sized after its training.
    """
    if len(winner.family.values) < 2 or winner.family.knob == "resolution":
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


def ship_size_stage(
    run: RunDirectory, trained: Ranked, *, sizer: Sizer, growth: float = MOST_GROWTH
) -> float:
    """Return the size that the trained network should ship at: the largest that fits now.

    Weights on photographs run at any resolution. No margin is kept: what misses costs one
    measurement, and the next smaller size is proven. The size of a width is that of its training.

    Args:
        run: the run directory.
        trained: what should ship.
        sizer: times sizes.
        growth: largest multiple of the size of its training.
    """
    entry = trained.entry
    if entry.family.knob != "resolution" or len(entry.family.values) < 2:
        return entry.value
    inputs = {"trained": entry.key, "phase": trained.phase, "growth": growth}
    done = run.stage_done("ship-size", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        value, _ = sizer.size(
            entry.family, entry.candidate.precision, entry.value,
            margin=False, ceiling=growth * entry.value,
        )  # fmt: skip
        done = {"value": value}
        seconds = clock.monotonic() - started
        run.finish_stage("ship-size", inputs=inputs, outputs=done, seconds=seconds)
    return float(done["value"])


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
    entries: list[Entry],
    *,
    trainer: Trainer,
    run: RunDirectory,
    ledger: Ledger,
    plan: TimePlan,
    moments: Moments,
    ending: EndingTime,
) -> tuple[list[Entry], Trainer]:
    """Probe pretrained candidates; return those that race, and a trainer with their classifiers."""
    probed = probe(entries, trainer=trainer, run=run, within_s=plan.probe_s, moments=moments)
    if not probed:
        return entries, trainer
    best = probed[0]
    ending.picture_s = best.picture_s
    short = plan.asked_s is not None and plan.asked_s < _LEAST_RACING_S
    kept = [best.entry] if short else survivors(probed, seed=trainer.seed)
    if len(probed) > 1:
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
    # Of two precisions of a network the better one fits both: the features differ by rounding.
    classifiers = {one.entry.family.name: one.classifier for one in reversed(probed)}
    return [entry for entry in entries if entry in kept], replace(trainer, classifiers=classifiers)


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
        left_s = max(plan.total_s - begun_s - ending.seconds, 0.1 * plan.total_s)
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
