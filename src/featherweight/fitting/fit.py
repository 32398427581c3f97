"""Fit a network to data, a device and a latency budget: the whole story on one screen."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featherweight.architecture import Architecture
from featherweight.budget import Budget, parse_duration_s, parse_latency_ms
from featherweight.data.images import ImageData, load_images
from featherweight.errors import UsageError
from featherweight.fitting.families import Family, families
from featherweight.fitting.halving import Ranked, run_race, train_stage
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import Look, look
from featherweight.fitting.prove import prove
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings, SamplePlan, TimePlan
from featherweight.fitting.shop import Shopper, shop
from featherweight.fitting.timing import time_architectures
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.platform import Platform, parse_platform
from featherweight.networks.storage import save_network
from featherweight.nn.network import Network
from featherweight.reporting.report import write_report
from featherweight.reporting.run import Candidate, FitSummary, MeasuredLatency
from featherweight.run_directory import RunDirectory, open_run
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.training.pixels import open_store

__all__ = ["FitResult", "fit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """What `fit` hands back.

    Attributes:
        summary: what summary.json holds.
        path: the run directory.
    """

    summary: FitSummary
    path: Path

    @property
    def met(self) -> bool:
        """Whether the exported file keeps the budget."""
        return self.summary.verdict == "met"

    @property
    def measured(self) -> MeasuredLatency | None:
        """Latency of the exported file."""
        return self.summary.measured

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the exported file on the test split."""
        return None if self.summary.accuracy is None else self.summary.accuracy.artifact

    @property
    def network(self) -> Network:
        """The trained PyTorch network."""
        from featherweight.networks.storage import load_network

        return load_network(self.path).network

    @property
    def artifact(self) -> Path | None:
        """Folder of the exported file."""
        return None if self.summary.artifact is None else self.path / self.summary.artifact

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"


def fit(  # noqa: PLR0913 - the parameters of the command
    data: str | Path,
    *,
    latency: str | float,
    on: str = "local/onnxruntime:threads=1",
    time: str | float | None = None,
    epochs: int | None = None,
    model: str | None = None,
    pretrained: str = "auto",
    precisions: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    output: Path | None = None,
    runs: Path = Path("runs"),
    command: str = "featherweight.fit(...)",
) -> FitResult:
    """Train, export, measure and verify the best network for a latency budget.

    Args:
        data: folder of class folders, Parquet file, or `demo`.
        latency: budget as text (`5ms`, `200fps`) or milliseconds.
        on: platform, such as `local/onnxruntime:threads=1`.
        time: wall clock of the whole command as text (`30m`) or seconds; the default is 30m.
        epochs: epochs of the final training instead of `time`.
        model: restrict the choice to one network.
        pretrained: `auto`, `none`, or a weights file for `model`.
        precisions: what may ship; by default the one `on` spells out, else fp32 and int8.
        seed: of everything that draws.
        device: where training runs: auto, cpu, cuda or mps.
        output: run directory; by default a new one under `runs`, or the unfinished one of the
            same call.
        runs: where run directories are made.
        command: the command line, for the record.

    Raises:
        UsageError: bad data, names, units or a run directory that belongs to another fit.
        FailedError: training failed (loss not finite) or the disk is full.
        DeviceError: the device could not measure.
    """
    if time is not None and epochs is not None:
        raise UsageError("both time and epochs were given", allowed="one of them")
    platform = parse_platform(on)
    settings = FitSettings(
        data=str(data),
        latency_ms=parse_latency_ms(latency) if isinstance(latency, str) else latency,
        platform=str(platform),
        time_s=None if epochs is not None else _seconds(time),
        epochs=epochs,
        model=model,
        pretrained=pretrained,
        precisions=_allowed_precisions(precisions, platform, on),
        seed=seed,
        device=device,
    )
    started = clock.monotonic()
    images = load_images(settings.data, seed=settings.seed)
    loading_s = clock.monotonic() - started
    identity = {
        "name": f"fit-{images.name}",
        **settings.model_dump(mode="json"),
        "fingerprint": images.fingerprint,
    }
    with open_run(output, parent=runs, identity=identity, command=command) as run:
        if run.finished:
            logger.info("%s is finished: reading its summary", run.path)
            if not (run.path / "report.html").exists():
                write_report(run.path)
            return FitResult(Ledger(run).read_summary(), run.path)
        return FitResult(_work(run, images, settings, loading_s=loading_s), run.path)


def _work(
    run: RunDirectory, images: ImageData, settings: FitSettings, *, loading_s: float
) -> FitSummary:
    logger.info("run directory: %s", run.path)
    ledger = Ledger(run)
    ledger.write_splits(images)
    found = look(images, settings)
    stalls = families(found, settings)
    candidates, nearest = _shop(run, ledger, stalls, settings)
    entries = _entries(candidates, stalls)
    if not entries:
        return _infeasible(run, settings, nearest)
    trainer = Trainer(
        store=open_store(images),
        platform=parse_platform(settings.platform),
        folder=run.path,
        seed=settings.seed,
        device=settings.device,
    )
    plan = TimePlan.of(settings, spent_s=loading_s, small=found.small)
    raced = run_race(entries, trainer=trainer, run=run, plan=plan)
    ledger.note_race(raced)
    trained = _train(run, entries, raced, trainer=trainer, plan=plan, settings=settings)
    return _prove(
        run,
        ledger,
        trained,
        raced,
        trainer=trainer,
        settings=settings,
        found=found,
        loading_s=loading_s,
    )


def _shop(
    run: RunDirectory, ledger: Ledger, stalls: Sequence[Family], settings: FitSettings
) -> tuple[list[Candidate], float]:
    """Measure; a finished shopping trip is read back."""
    inputs = {
        "families": [family.name for family in stalls],
        "fit": settings.model_dump(mode="json"),
    }
    done = run.stage_done("shop", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        platform = parse_platform(settings.platform)

        def measure(
            wanted: Sequence[tuple[str, Architecture, str]], folder: Path, samples: int
        ) -> list[Measurement]:
            measured = time_architectures(
                wanted, folder, platform=platform, samples=samples, seed=settings.seed
            )
            ledger.note_measurements(measured, purpose="shop")
            return measured

        shopper = Shopper(
            measure,
            folder=run.path / "artifacts" / "shop",
            runtime=platform.runtime,
            samples=SamplePlan.of(settings),
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


def _entries(candidates: Sequence[Candidate], stalls: Sequence[Family]) -> list[Entry]:
    by_name = {family.name: family for family in stalls}
    entries = []
    for candidate in candidates:
        if candidate.status != "kept":
            continue
        family = by_name[candidate.family]
        value = candidate.width if family.knob == "width" else float(candidate.resolution)
        entries.append(Entry(candidate, family, value or 0.0))
    return entries


def _train(
    run: RunDirectory,
    entries: Sequence[Entry],
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    plan: TimePlan,
    settings: FitSettings,
) -> Ranked:
    """Train the winner with the time that is left, taught by a better network if one exists."""
    winner = raced[0].entry if raced else entries[0]
    teachers = [r for r in raced[1:] if r.val_loss < raced[0].val_loss]
    teacher = min(teachers, key=lambda r: r.val_loss) if teachers else None
    time_s = _training_time_s(run, winner, plan=plan)
    logger.info(
        "train: %s %s for %s%s",
        winner.candidate.name,
        winner.candidate.precision,
        f"{settings.epochs} epochs" if time_s is None else f"{time_s:.0f} s",
        "" if teacher is None else f", teacher {teacher.entry.candidate.name}",
    )
    trained = train_stage(
        winner,
        "train",
        trainer=trainer,
        run=run,
        time_s=time_s,
        epochs=settings.epochs,
        teacher=None if teacher is None else teacher.entry,
        teacher_phase="" if teacher is None else teacher.phase,
    )
    # A last training cut short by a slow machine can end below what the race already had.
    same = [ranked for ranked in raced if ranked.entry == winner]
    return min([trained, *same], key=lambda ranked: ranked.val_loss)


def _training_time_s(run: RunDirectory, winner: Entry, *, plan: TimePlan) -> float | None:
    """Fix the time of the final training once: a resumed attempt must plan the same steps."""
    if plan.total_s is None:
        return None
    inputs = {"winner": winner.key, "total_s": plan.asked_s}
    done = run.stage_done("plan", inputs=inputs)
    if done is None:
        left_s = plan.total_s - run.elapsed_s - plan.prove_s
        done = {"training_s": max(left_s, 0.1 * plan.total_s)}
        run.finish_stage("plan", inputs=inputs, outputs=done, seconds=0.0)
    return float(done["training_s"])


def _prove(
    run: RunDirectory,
    ledger: Ledger,
    trained: Ranked,
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    settings: FitSettings,
    found: Look,
    loading_s: float,
) -> FitSummary:
    inputs = {"trained": trained.entry.key, "phase": trained.phase}
    done = run.stage_done("prove", inputs=inputs)
    if done is not None:  # cut between the proof and its report: the test split stays read once
        return _finish(run, FitSummary.model_validate(done["summary"]))
    started = clock.monotonic()
    others = sorted((r for r in raced if r.entry != trained.entry), key=lambda r: r.val_loss)
    shipped, proof, nearest_ms = prove(
        trained,
        others,
        trainer=trainer,
        budget_ms=settings.latency_ms,
        samples=SamplePlan.of(settings),
        record=lambda measurement: ledger.note_measurements([measurement], purpose="prove"),
    )
    ledger.note_verification(proof.verification)
    ledger.note_winner(shipped, proof)
    save_network(
        proof.network,
        run.path,
        preprocessing=shipped.entry.family.preprocessing,
        classes=trainer.store.data.classes,
    )
    summary = ledger.summary(
        shipped,
        raced,
        proof,
        settings=settings,
        uneven=found.uneven,
        seconds=run.elapsed_s + loading_s,
        nearest_feasible_ms=None if proof.met else nearest_ms,
    )
    run.finish_stage(
        "prove",
        inputs=inputs,
        outputs={"summary": summary.model_dump(mode="json")},
        files=list(proof.artifact.paths),
        seconds=clock.monotonic() - started,
    )
    return _finish(run, summary)


def _finish(run: RunDirectory, summary: FitSummary) -> FitSummary:
    run.finish(summary.model_dump(mode="json"))
    write_report(run.path)
    return summary


def _infeasible(run: RunDirectory, settings: FitSettings, nearest_ms: float) -> FitSummary:
    summary = FitSummary(
        verdict="infeasible",
        budget=Budget(latency_ms=settings.latency_ms),
        platform=settings.platform,
        run_directory=str(run.path),
        nearest_feasible_ms=nearest_ms,
        report="report.html",
        seconds=run.elapsed_s,
    )
    return _finish(run, summary)


def _seconds(time: str | float | None) -> float:
    if time is None:
        return parse_duration_s("30m")
    return parse_duration_s(time) if isinstance(time, str) else float(time)


def _allowed_precisions(
    precisions: Sequence[str] | None, platform: Platform, on: str
) -> tuple[str, ...]:
    """Return what may ship.

    Raises:
        UsageError: the runtime does not have a precision that was asked for.
    """
    offered = RUNTIMES[platform.runtime].precisions
    if precisions is None:
        if "precision=" in on:
            return (platform.precision,)
        return tuple(precision for precision in ("fp32", "int8") if precision in offered)
    for precision in precisions:
        if precision not in offered:
            raise UsageError(
                f"{platform.runtime} has no precision {precision!r}", allowed=", ".join(offered)
            )
    return tuple(dict.fromkeys(precisions))
