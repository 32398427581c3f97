"""Seconds that a run decides on once: what follows from its clock must not change with a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from featherweight.records import Record
from featherweight.run_directory import RunDirectory

__all__ = ["kept_seconds"]


class _Seconds(Record):
    seconds: float


def kept_seconds(
    run: RunDirectory,
    name: str,
    reckon: Callable[[], float],
    *,
    inputs: Mapping[str, Any] | None = None,
) -> float:
    """Return seconds that are reckoned once: a stage.

    Args:
        run: the run directory.
        name: of the stage.
        reckon: returns them.
        inputs: plain data; others make them be reckoned again.
    """
    return run.stage(
        name,
        inputs=inputs or {},
        outputs=_Seconds,
        work=lambda: _Seconds(seconds=reckon()),
    ).seconds
