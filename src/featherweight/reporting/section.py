"""What a section of the report is: its values, and the runs that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featherweight.registry import Registry
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun

__all__ = ["SECTIONS", "Section"]


def _every_run(_: FitRun) -> bool:
    return True


@dataclass(frozen=True)
class Section:
    """One section; its name in the registry is that of `templates/sections/NAME.html.j2`.

    Attributes:
        values: what the template shows, as `v`.
        has: whether a run has what this section is about; the template says what is missing
            otherwise.
    """

    values: Callable[[FitRun, Translate], Mapping[str, Any]]
    has: Callable[[FitRun], bool] = _every_run


SECTIONS: Registry[Section] = Registry("report section", plugins="featherweight.reporting.sections")
"""In the order of the page."""
