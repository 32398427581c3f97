"""What a detector finds and what it misses: curves, confusion, pictures."""

from __future__ import annotations

from typing import Any

from featherweight.reporting.figure import Figure, axis, colour_cycle, layout_of, safe
from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section
from featherweight.tasks.detection_findings import DetectionFindings

__all__ = ["precision_recall_chart"]


def precision_recall_chart(findings: DetectionFindings, t: Translate = ENGLISH) -> Figure:
    """Return the curves of all classes at an overlap of half."""
    colours = colour_cycle(len(findings.curves))
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": safe(curve.label),
            "x": curve.recall,
            "y": curve.precision,
            "customdata": curve.scores,
            "line": {"color": colour, "width": 2},
            "hovertemplate": f"{safe(curve.label)}<br>"
            + t("recall")
            + " %{x:.2f}, "
            + t("precision")
            + " %{y:.2f}, "
            + t("score")
            + " %{customdata:.2f}<extra></extra>",
        }
        for curve, colour in zip(findings.curves, colours, strict=True)
    ]
    layout = layout_of(
        xaxis=axis(t("recall: share of the objects that are found")) | {"range": [0, 1.02]},
        yaxis=axis(t("precision: share of the answers that are right")) | {"range": [0, 1.02]},
    )
    return {"data": traces, "layout": layout}


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    findings = run.detection
    if findings is None:
        return {"findings": None}
    return {
        "findings": findings,
        "curves": precision_recall_chart(findings, t),
        "rows": list(zip((*findings.classes, t("nothing there")), findings.confusion, strict=True)),
    }


def _is_detector(run: FitRun) -> bool:
    return run.detection is not None


SECTIONS.add("detection", Section(_values, _is_detector))
