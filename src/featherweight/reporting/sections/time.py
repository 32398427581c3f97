"""Where the time went."""

from __future__ import annotations

from typing import Any

from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = []


def _values(run: FitRun, _: Translate) -> dict[str, Any]:
    return {"seconds": sum(stage.seconds or 0.0 for stage in run.stages)}


SECTIONS.add("time", Section(_values))
