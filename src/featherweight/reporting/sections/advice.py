"""Why the network is slow on a platform, where somebody asked `guidelines`."""

from __future__ import annotations

from typing import Any

from featherweight.reporting.advice_charts import savings_chart
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__: list[str] = []


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    assert run.advice is not None
    return {"advice": run.advice, "chart": savings_chart(run.advice, t)}


SECTIONS.add("advice", Section(_values, has=lambda run: run.advice is not None))
