"""The measurement behind the verdict, and the file against the network."""

from __future__ import annotations

from typing import Any

from featherweight.reporting import charts
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = []


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    proof = run.proof
    figure = charts.latency_chart(
        proof.samples_ms if proof is not None else (),
        budget_ms=run.budget_ms,
        median_ms=proof.median_ms if proof is not None else None,
        interval_ms=proof.interval_ms if proof is not None else None,
        t=t,
    )
    return {"figure": figure, "over_budget": _over_budget(run)}


def _over_budget(run: FitRun) -> int | None:
    """Return how many single runs took longer than the budget."""
    if run.proof is None or run.budget_ms is None:
        return None
    return sum(sample > run.budget_ms for sample in run.proof.samples_ms)


SECTIONS.add("latency", Section(_values))
