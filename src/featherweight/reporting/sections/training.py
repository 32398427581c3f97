"""How the networks learned."""

from __future__ import annotations

from typing import Any

from featherweight.reporting import charts
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = []


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    return {
        "loss": charts.training_chart(run.epochs, quantity="loss", t=t),
        "accuracy": charts.training_chart(run.epochs, quantity="accuracy", t=t),
    }


SECTIONS.add("training", Section(_values))
