"""Why the network is slow on a platform, where somebody asked `guidelines`."""

from __future__ import annotations

from typing import Any

from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__: list[str] = []


def _values(run: FitRun, _: Translate) -> dict[str, Any]:
    return {"advice": run.advice}


SECTIONS.add("advice", Section(_values, has=lambda run: run.advice is not None))
