"""Fit a network to data, a device and a latency budget: the whole story on one screen."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featherweight.budget import Budget, parse_duration_s, parse_latency_ms
from featherweight.data.images import ImageData, load_images
from featherweight.errors import UsageError
from featherweight.fitting.families import families
from featherweight.fitting.halving import Ranked, run_race
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import Look, look
from featherweight.fitting.prove import prove
from featherweight.fitting.race import Trainer
from featherweight.fitting.settings import FitSettings, SamplePlan, TimePlan
from featherweight.fitting.stages import (
    create_sizer,
    kept_entries,
    last_training,
    probe_stage,
    shop_stage,
    size_stage,
)
from featherweight.measuring.platform import Platform, parse_platform
from featherweight.networks.storage import save_network
from featherweight.nn.network import Network
from featherweight.reporting.report import write_report
from featherweight.reporting.run import FitSummary, MeasuredLatency
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
    candidates, nearest = shop_stage(run, ledger, stalls, settings)
    entries = kept_entries(candidates, stalls)
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
    entries = probe_stage(entries, trainer=trainer, run=run, ledger=ledger, plan=plan)
    raced = run_race(entries, trainer=trainer, run=run, plan=plan)
    ledger.note_race(raced)
    sizer = create_sizer(run, ledger, settings)
    winner = size_stage(run, ledger, raced[0].entry if raced else entries[0], sizer=sizer)
    trained = last_training(run, winner, raced, trainer=trainer, plan=plan, settings=settings)
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
        sizer=create_sizer(run, ledger, settings),
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
