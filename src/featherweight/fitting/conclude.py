"""How every fit ends: its summary, its report, and what going on would have needed is removed."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from featherweight.budget import Latency
from featherweight.fitting.ledger import read_summary
from featherweight.fitting.settings import FitSettings
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.storage import load_network
from featherweight.reporting.report import write_report
from featherweight.reporting.run import FitSummary
from featherweight.run_directory import RunDirectory

__all__ = ["FitResult", "conclude", "conclude_again", "conclude_infeasible"]

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
    def measured(self) -> Latency | None:
        """Latency of the exported file."""
        return self.summary.measured

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the exported file on the test split."""
        return None if self.summary.accuracy is None else self.summary.accuracy.artifact

    @property
    def network(self) -> AnyNetwork:
        """The trained PyTorch network."""
        return load_network(self.path).network

    @property
    def artifact(self) -> Path | None:
        """Folder of the exported file."""
        return None if self.summary.artifact is None else self.path / self.summary.artifact

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"


def conclude(run: RunDirectory, summary: FitSummary) -> FitResult:
    """Write the summary and the report of a run."""
    run.finish(summary.model_dump(mode="json"))
    write_report(run.path)
    _tidy(run, summary)
    return FitResult(summary, run.path)


def conclude_again(run: RunDirectory) -> FitResult:
    """Read the summary of a finished run; a report that a cut prevented is written."""
    logger.info("%s is finished: reading its summary", run.path)
    if not (run.path / "report.html").exists():
        write_report(run.path)
    summary = read_summary(run.path)
    _tidy(run, summary)
    return FitResult(summary, run.path)


def conclude_infeasible(
    run: RunDirectory, settings: FitSettings, nearest_ms: float | None
) -> FitResult:
    """End a run for whose budget nothing is fast enough; `None` = no other budget would help."""
    summary = FitSummary(
        verdict="infeasible",
        budget=settings.budget,
        platform=settings.platform,
        run_directory=str(run.path),
        nearest_feasible_ms=nearest_ms,
        report="report.html",
        seconds=run.elapsed_s,
    )
    return conclude(run, summary)


def _tidy(run: RunDirectory, summary: FitSummary) -> None:
    """Remove what only going on would need: checkpoints, and files that were timed or ranked.

    They are six sevenths of a run on photographs (some 700 MB). The trained networks stay, and
    whatever ships; `fit --from` needs no more.
    """
    shipped = None if summary.artifact is None else run.path / summary.artifact
    for folder in (run.path / "checkpoints", *sorted((run.path / "artifacts").glob("*/"))):
        if folder != shipped and folder.is_dir():
            shutil.rmtree(folder)
