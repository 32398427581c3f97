"""The stage of `adapt` that measures what narrower groups and fewer branches save."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Sequence

from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving
from featherweight.adapting.table import measure_options
from featherweight.architecture import Architecture
from featherweight.fitting.candidate import Trained
from featherweight.fitting.context import FitContext
from featherweight.records import Record

__all__ = ["SavingsTable", "measure_savings_table"]

_SHARE = 0.3
"""Of the time for the ways: with less, their steps are few and large."""


class SavingsTable(Record):
    """What every change saves; a stage writes it down.

    Attributes:
        savings: of one change each.
        reach_ms: predicted latency where everything goes as far as was measured.
        seconds: that the measuring took.
    """

    savings: tuple[Saving, ...]
    reach_ms: float
    seconds: float


def measure_savings_table(
    context: FitContext,
    parent: Trained,
    architecture: Architecture,
    *,
    time: Callable[[Sequence[Architecture]], Sequence[float]],
    ways_s: float | None,
) -> SavingsTable:
    """Return what every change of a network saves, on the clock of its start.

    Args:
        context: of the run.
        parent: as it was measured.
        architecture: of the parent.
        time: networks -> medians in ms; interleaved, of files as they would ship.
        ways_s: seconds for all that follows the start but the last trainings; `None` = as many as
            it takes.
    """

    def work() -> SavingsTable:
        started, present_ms = clock.monotonic(), parent.measured.latency.median_ms
        most_s = math.inf if ways_s is None else _SHARE * ways_s
        savings = measure_options(architecture, time=time, present_ms=present_ms, most_s=most_s)
        model = SavingModel(architecture, savings, present_ms=present_ms)
        seconds = clock.monotonic() - started
        return SavingsTable(savings=savings, reach_ms=model.reach_ms(), seconds=seconds)

    return context.run.stage(
        "table", inputs={"parent": parent.candidate.key}, outputs=SavingsTable, work=work
    )
