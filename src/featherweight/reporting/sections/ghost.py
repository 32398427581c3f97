"""Which layers of a trained network became ghost modules, and what that was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = ["GhostRow"]

_STAGE = "ghost"


class GhostRow(NamedTuple):
    """Layers of one shape as modules: over the network without, multiply-adds and ms."""

    layers: str
    macs_ratio: float
    ratio: float | None
    interval: tuple[float, float] | None
    kept: bool


def _outputs(run: FitRun) -> Mapping[str, Any]:
    """Return what the stage of `ghost` came to; empty before its end."""
    found = [stage.outputs for stage in run.stages if stage.stage == _STAGE]
    return found[-1] if found and isinstance(found[-1], Mapping) else {}


def _row(trial: Mapping[str, Any]) -> GhostRow:
    names: Sequence[str] = trial["layers"]
    interval = trial["interval"]
    return GhostRow(
        layers=names[0] if len(names) == 1 else f"{names[0]} ({len(names)})",
        macs_ratio=trial["macs_ratio"],
        ratio=trial["ratio"],
        interval=None if interval is None else (interval[0], interval[1]),
        kept=trial["kept"],
    )


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    outputs = _outputs(run)
    ghosts = outputs.get("ghosts", {})
    ratio = ghosts.get("ratio")
    forms = {"ghost": t("ghost modules"), "rep": t("ghost modules that add")}
    return {
        "form": forms.get(outputs.get("form", {}).get("form", ""), ""),
        "everywhere": run.identity.get("everywhere") is True,
        "rows": [_row(trial) for trial in ghosts.get("trials", ())],
        "theoretical": 1 / ghosts["macs_ratio"] if ghosts else None,
        "measured": None if ratio is None else 1 / ratio,
    }


SECTIONS.add("ghost", Section(_values, has=lambda run: run.identity.get("verb") == _STAGE))
