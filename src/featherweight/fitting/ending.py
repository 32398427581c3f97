"""How every fit ends: proven, or infeasible; then its summary and its report."""

from __future__ import annotations

import logging
import shutil
import time as clock
from collections.abc import Sequence

from featherweight.budget import Budget
from featherweight.fitting.halving import Ranked
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import Look
from featherweight.fitting.prove import prove
from featherweight.fitting.race import Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import SamplePlan
from featherweight.networks.storage import save_network
from featherweight.reporting.report import write_report
from featherweight.reporting.run import FitSummary
from featherweight.run_directory import RunDirectory

__all__ = ["end_again", "end_infeasible", "prove_stage"]

logger = logging.getLogger(__name__)


def prove_stage(  # noqa: PLR0913 - all that a fit knows at its end
    run: RunDirectory,
    ledger: Ledger,
    trained: Ranked,
    raced: Sequence[Ranked],
    *,
    trainer: Trainer,
    settings: FitSettings,
    value: float,
    found: Look,
    loading_s: float,
    compared: int | None = None,
) -> FitSummary:
    """Prove the trained network, or what replaces it, and end the run with its summary.

    Args:
        run: the run directory.
        ledger: its journals.
        trained: what should ship.
        raced: everything else that was trained.
        trainer: exports and loads networks.
        settings: the budget and the platform.
        value: size at which the trained network should just fit.
        found: what was seen of the data.
        loading_s: seconds spent before the run directory was opened.
        compared: most test pictures that the network answers too; `None` = all.
    """
    inputs = {"trained": trained.entry.key, "phase": trained.phase, "value": value}
    done = run.stage_done("prove", inputs=inputs)
    if done is not None:  # cut between the proof and its report: the test split stays read once
        return _finish(run, FitSummary.model_validate(done["summary"]))
    started = clock.monotonic()
    others = sorted((r for r in raced if r.entry != trained.entry), key=lambda r: r.val_loss)
    shipped, proof, nearest_ms = prove(
        trained,
        others,
        trainer=trainer,
        value=value,
        budget_ms=settings.latency_ms,
        samples=SamplePlan.of(settings),
        compared=compared,
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


def end_again(run: RunDirectory) -> FitSummary:
    """Return the summary of a finished run; a report that a cut prevented is written."""
    logger.info("%s is finished: reading its summary", run.path)
    if not (run.path / "report.html").exists():
        write_report(run.path)
    summary = Ledger(run).read_summary()
    _tidy(run, summary)
    return summary


def _finish(run: RunDirectory, summary: FitSummary) -> FitSummary:
    run.finish(summary.model_dump(mode="json"))
    write_report(run.path)
    _tidy(run, summary)
    return summary


def _tidy(run: RunDirectory, summary: FitSummary) -> None:
    """Remove what only going on would need: checkpoints, and files that were timed or ranked.

    They are six sevenths of a run on photographs (some 700 MB). The trained networks stay, and
    whatever ships; `fit --from` needs no more.
    """
    shipped = None if summary.artifact is None else run.path / summary.artifact
    for folder in (run.path / "checkpoints", *sorted((run.path / "artifacts").glob("*/"))):
        if folder != shipped and folder.is_dir():
            shutil.rmtree(folder)


def end_infeasible(run: RunDirectory, settings: FitSettings, nearest_ms: float) -> FitSummary:
    """End a run for whose budget nothing is fast enough."""
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
