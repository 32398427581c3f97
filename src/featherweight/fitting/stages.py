"""The stages of a fit before its proof: each is journalled, and read back when it was finished."""

from __future__ import annotations

import logging
import statistics
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from featherweight.architecture import Architecture
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import Family
from featherweight.fitting.halving import Ranked
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.moments import Moments
from featherweight.fitting.probe import (
    FeatureReaders,
    first_classifier,
    most_promising,
    probe,
    survivors,
)
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import CONFIRMATIONS, Shopper, shop
from featherweight.fitting.sizing import Sizer
from featherweight.fitting.time_plan import SamplePlan, TimePlan
from featherweight.fitting.timing import time_architectures
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.platform import parse_platform
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory

__all__ = [
    "create_sizer",
    "kept_entries",
    "open_shopper",
    "probe_stage",
    "ship_size_stage",
    "shop_stage",
    "size_stage",
    "with_first_classifiers",
]

logger = logging.getLogger(__name__)

_TRAINED_SHARE, _SHIPPED_SHARE = 0.95, 0.97
"""Of the budget, for the file at the resolution of the last training, and at the one that ships:
the upper end of the interval of a proof lies some per cent above the median."""


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
            confirmations=CONFIRMATIONS if plan.races or not _are_sized_alone(stalls) else 0,
        )
        ledger.note_candidates(stock.candidates)
        done = {
            "candidates": [c.model_dump(mode="json") for c in stock.candidates],
            "nearest_feasible_ms": stock.nearest_feasible_ms,
            "nearest": stock.nearest_name,
            # All of it may have been measured before a cut.
            "seconds_per_process": statistics.median(process_s or [ending.process_s]),
        }
        run.finish_stage("shop", inputs=inputs, outputs=done, seconds=clock.monotonic() - started)
    candidates = [Candidate.model_validate(plain) for plain in done["candidates"]]
    ending.process_s = float(done["seconds_per_process"])
    return candidates, float(done["nearest_feasible_ms"])


def _are_sized_alone(stalls: Sequence[Family]) -> bool:
    """Whether the one that trains gets its size chosen again, alone in a process."""
    return all(family.knob == "resolution" for family in stalls)


def open_shopper(
    run: RunDirectory,
    ledger: Ledger,
    settings: FitSettings,
    *,
    purpose: str,
    samples: SamplePlan,
    note: Callable[[float], None] = lambda _: None,
) -> Shopper:
    """Return a shopper that knows nothing but what a cut attempt measured for this `purpose`.

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
        processes = len({precision for _, _, precision in wanted})
        note((clock.monotonic() - started) / processes)
        return measured

    return Shopper(
        ledger.remembered.measuring(measure, purpose=purpose),
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


def size_stage(
    run: RunDirectory, ledger: Ledger, winner: Entry, *, sizer: Sizer, within_s: float | None
) -> Entry:
    """Return the winner of the race at the size that fits now.

    A width, which a training fixes, is compared with its neighbours in several processes. A
    resolution is timed alone: shopping timed it among other files, which on some processors takes
    half as long again. It leaves a little of the budget, for a network is best at the size of its
    training (`fitting.settle`), and one that just fits would often have to leave it.
    """
    family, precision = winner.family, winner.candidate.precision
    if len(family.values) < 2:
        return winner
    inputs = {"winner": winner.key}
    done = run.stage_done("size", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        if family.knob == "width":
            value, candidate = sizer.size(family, precision, winner.value, ceiling=winner.ceiling)
        else:
            value, candidate = sizer.largest_alone(
                family, precision, winner.value, share=_TRAINED_SHARE, within_s=within_s,
                ceiling=winner.ceiling or max(family.values),
            )  # fmt: skip
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
    run: RunDirectory,
    trained: Ranked,
    *,
    sizer: Sizer,
    growth: float = 1.0,
    within_s: float | None = None,
    has_time: bool = True,
) -> float:
    """Return the size that the trained network should ship at: the largest that fits now.

    Weights on photographs run at any resolution. Hardly a margin is kept: what misses costs one
    measurement, and a smaller size is proven. The size of a width is that of its training.

    Args:
        run: the run directory.
        trained: what should ship.
        sizer: times sizes.
        growth: largest multiple of the size of its training.
        within_s: most of the time for it, as soon as one fits; `None` = no limit.
        has_time: whether the proof leaves time for it; without, the size is that of the training,
            and a proof that misses is followed by one of a smaller size.
    """
    entry = trained.entry
    if entry.family.knob != "resolution" or len(entry.family.values) < 2:
        return entry.value
    inputs = {"trained": entry.key, "phase": trained.phase, "growth": growth}
    done = run.stage_done("ship-size", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        value = entry.value
        if has_time:
            value, _ = sizer.largest_alone(
                entry.family,
                entry.candidate.precision,
                entry.value,
                ceiling=growth * entry.value,
                share=_SHIPPED_SHARE,
                within_s=within_s,
                from_smaller=True,
            )
        else:
            logger.info("size: %s: no time to look for another size", entry.title)
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
    readers: FeatureReaders,
    plan: TimePlan,
    moments: Moments,
    ending: EndingTime,
) -> tuple[list[Entry], Trainer]:
    """Probe pretrained candidates; return those that race, and a trainer with their classifiers.

    Without time for that the one that sees the largest pictures within the budget goes on: far
    below the size a network was made for, pixels are worth more than layers.
    """
    if not plan.probes and entries and all(entry.family.source is not None for entry in entries):
        return [_sees_most(entries, ledger=ledger)], trainer
    probed = probe(entries, readers=readers, run=run, within_s=plan.probe_s, moments=moments)
    if not probed:
        return entries, trainer
    best = probed[0]
    ending.picture_s = best.picture_s
    seed = trainer.seed
    kept = survivors(probed, seed=seed) if plan.races else [most_promising(probed, seed=seed)]
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
    kept = [entry for entry in entries if entry in kept]
    if not plan.races:
        return kept, trainer
    return kept, with_first_classifiers(
        kept, trainer=trainer, run=run, readers=readers, plan=plan, ending=ending
    )


def _sees_most(entries: Sequence[Entry], *, ledger: Ledger) -> Entry:
    """Return the candidate with the largest resolution, of equals the one that computes least."""
    chosen = max(entries, key=lambda one: (one.candidate.resolution, -(one.candidate.macs or 0)))
    ledger.note_candidates(
        one.candidate.model_copy(
            update={
                "status": "rejected",
                "reason": f"no time to compare networks: {chosen.title} sees the largest pictures",
                "stage": "probe",
            }
        )
        for one in entries
        if one is not chosen
    )
    logger.info("probe: no time to compare networks: %s sees the largest pictures", chosen.title)
    return chosen


def with_first_classifiers(
    entries: Sequence[Entry],
    *,
    trainer: Trainer,
    run: RunDirectory,
    readers: FeatureReaders,
    plan: TimePlan,
    ending: EndingTime,
) -> Trainer:
    """Return a trainer whose next trainings start with classifiers that suit their networks.

    Of two precisions of a network one fits both: the features differ by rounding. Networks without
    weights of a larger data set have no features yet.
    """
    first = {one.family.name: one for one in reversed(entries) if one.family.source is not None}
    files = {}
    for name, entry in first.items():
        if entry.family.start is not None:
            continue
        fitted = first_classifier(
            entry, readers=readers, run=run,
            within_s=None if plan.start_s is None else plan.start_s / len(first),
        )  # fmt: skip
        files[name] = fitted.file
        ending.export_s, ending.picture_s = fitted.export_s, fitted.picture_s
    return replace(trainer, classifiers={**trainer.classifiers, **files})
