"""What a search hands back, and how it is kept in its run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featherweight.errors import UsageError
from featherweight.fitting.conclude import FitResult
from featherweight.records import Record
from featherweight.run_directory import RunDirectory
from featherweight.searching.agreement import Agreement
from featherweight.searching.trials_file import TrialRow, front_of

__all__ = ["SearchResult", "Searched", "note_search", "read_search"]

_IN_FRONT = {"trial", "network", "accuracy", "score", "stopped", "latency_ms", "reward"}


class Searched(Record):
    """How a search went.

    Attributes:
        trials: that were begun.
        complete, slow, failed: how they ended; what is too slow was timed and not trained.
        best: of the one that ships; `None` = nothing was trained.
        front: trained networks that none beats in both accuracy and milliseconds, fastest first.
        retrained: val accuracy of the best trials, in the order of their rewards, after their last
            training.
        agreement: of a cheap evaluator with trainings alone; `None` = every network was trained
            alone, or too few were.
        refined: whether NetAdapt's steps made the network that ships of that of `best`.
        foretold: networks that a cheap evaluator judged by itself.
        weight: w of the rewards, fitted or given; `None` = a hard limit.
    """

    trials: int
    complete: int
    slow: int
    failed: int
    best: TrialRow | None
    front: tuple[TrialRow, ...]
    retrained: tuple[float, ...]
    agreement: Agreement | None = None
    refined: bool = False
    foretold: int = 0
    weight: float | None = None

    @property
    def is_cheap(self) -> bool:
        """Whether a cheap evaluator judged networks by itself."""
        return self.foretold > 0


@dataclass(frozen=True)
class SearchResult:
    """What `search` hands back.

    Attributes:
        fit: the answer as that of a fit: verdict, measured latency, accuracy, files.
        searched: the trials; `None` = nothing of the space is fast enough.
    """

    fit: FitResult
    searched: Searched | None

    @property
    def met(self) -> bool:
        """Whether the exported file keeps the budget."""
        return self.fit.met

    def plain(self) -> dict[str, Any]:
        """Return the JSON of `search --json`."""
        summary, found = self.fit.summary, self.searched
        best = None if found is None or found.best is None else found.best
        return {
            "run_directory": str(self.fit.path),
            "verdict": summary.verdict,
            "budget": summary.budget.model_dump(mode="json"),
            "platform": summary.platform,
            "trials": 0 if found is None else found.trials,
            "complete": 0 if found is None else found.complete,
            "slow": 0 if found is None else found.slow,
            "failed": 0 if found is None else found.failed,
            "agreement": None
            if found is None or found.agreement is None
            else {
                "networks": found.agreement.networks,
                "tau": found.agreement.tau,
                "tau_of_macs": found.agreement.tau_of_macs,
                "used": found.is_cheap,
            },
            "refined": found is not None and found.refined,
            "weight": None if found is None else found.weight,
            "best": None
            if best is None
            else {
                "architecture": str(self.fit.path / "architecture.json"),
                "trial": best.trial,
                "options": best.options,
                "accuracy": None if summary.accuracy is None else summary.accuracy.artifact,
                "split": None if summary.accuracy is None else summary.accuracy.split,
                "latency_ms": None if summary.measured is None else summary.measured.median_ms,
                "reward": best.reward,
            },
            "pareto": []
            if found is None
            else [one.model_dump(mode="json", include=_IN_FRONT) for one in found.front],
            "nearest_feasible_ms": summary.nearest_feasible_ms,
            "report": str(self.fit.report),
        }


def note_search(
    run: RunDirectory,
    rows: Sequence[TrialRow],
    shipped: TrialRow | None,
    retrained: tuple[float, ...],
    agreement: Agreement | None,
    *,
    refined: bool = False,
    weight: float | None = None,
) -> None:
    """Write down how a search went: a stage.

    Args:
        run: the run directory.
        rows: the finished trials.
        shipped: that of the network that ships; `None` = none does.
        retrained: val accuracy of the best trials after their last training.
        agreement: of a cheap evaluator with trainings alone.
        refined: whether NetAdapt's steps followed on `shipped`.
        weight: w of the rewards; `None` = a hard limit.
    """
    trained = [one for one in rows if one.state == "trained"]
    record = Searched(
        trials=len(rows),
        complete=len(trained),
        slow=sum(one.state == "slow" for one in rows),
        failed=sum(one.state == "failed" for one in rows),
        best=shipped,
        front=tuple(front_of(trained)),
        retrained=retrained,
        agreement=agreement,
        refined=refined,
        foretold=sum(one.score is not None and one.alone is None for one in trained),
        weight=weight,
    )
    run.stage("searched", inputs={}, outputs=Searched, work=lambda: record)


def read_search(run: RunDirectory, fit: FitResult) -> SearchResult:
    """Return the answer of a finished search.

    Raises:
        UsageError: the run is of another command.
    """

    def missing() -> Searched:
        raise UsageError(f"{run.path} is no finished run of search", hint="choose another --output")

    found = run.stage("searched", inputs={}, outputs=Searched, work=missing)
    return SearchResult(fit, found)
