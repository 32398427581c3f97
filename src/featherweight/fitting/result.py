"""What `fit` hands back in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featherweight.networks.storage import load_network
from featherweight.nn.network import Network
from featherweight.reporting.run import FitSummary, MeasuredLatency

__all__ = ["FitResult"]


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
        return load_network(self.path).network

    @property
    def artifact(self) -> Path | None:
        """Folder of the exported file."""
        return None if self.summary.artifact is None else self.path / self.summary.artifact

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"
