"""Everything that was measured, and why it was chosen or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featherweight.candidates import CandidateRow
from featherweight.reporting import charts
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = ["ordered_candidates"]


_ORDER = ("winner", "finalist", "kept", "raced", "rejected")


def ordered_candidates(candidates: Sequence[CandidateRow]) -> list[CandidateRow]:
    """Return the winner first, then by how far they came, then by accuracy and latency."""

    def key(candidate: CandidateRow) -> tuple[int, float, float]:
        latency = candidate.latency_ms if candidate.latency_ms is not None else float("inf")
        return _ORDER.index(candidate.status), -(candidate.val_accuracy or 0.0), latency

    return sorted(candidates, key=key)


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    figure = charts.accuracy_latency_chart(
        run.candidates,
        curve=run.summary.curve if run.summary is not None else (),
        budget_ms=run.budget_ms,
        t=t,
    )
    return {"figure": figure, "candidates": ordered_candidates(run.candidates)}


SECTIONS.add("measured", Section(_values))
