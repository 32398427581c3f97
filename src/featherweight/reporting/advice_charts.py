"""Charts of advice: what each change saves, and ShuffleNetV2's tables beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featherweight.reporting.figure import Figure, axis, colour_cycle, layout_of, safe, vertical
from featherweight.reporting.language import Translate
from featherweight.reporting.units import show_ms

if TYPE_CHECKING:
    from featherweight.advising.advice import Advice, Finding, Untouched
    from featherweight.advising.experiment import Trial

__all__ = ["experiment_chart", "savings_chart"]

_IN_VAIN = 12
"""Changes without a sure gain that the chart shows, those that save most."""
_LABEL = 44
"""Characters of a finding beside its bar."""


def savings_chart(advice: Advice, t: Translate) -> Figure | None:
    """Return a bar for what each change saves of the whole network; `None` = nothing was tried."""
    tried = [one for one in advice.untouched if one.ratio is not None]
    in_vain = sorted(tried, key=lambda one: one.ratio or 0.0)[:_IN_VAIN]
    if not advice.findings and not in_vain:
        return None
    labels = _different([*map(_label, advice.findings), *map(_label, in_vain)])
    count = len(advice.findings)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": t("surely faster"),
            "y": labels[:count],
            "x": [100 * (1 - one.ratio) for one in advice.findings],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [100 * (one.ratio - one.ratio_interval[0]) for one in advice.findings],
                "arrayminus": [
                    100 * (one.ratio_interval[1] - one.ratio) for one in advice.findings
                ],
                "color": "var(--ink)",
                "thickness": 1.5,
            },
            "marker": {"color": "var(--series-1)"},
            "hovertext": [
                "<br>".join(
                    [safe(one.finding), f"→ {safe(one.advice)}", f"-{show_ms(one.saved_ms)}"]
                )
                for one in advice.findings
            ],
            "hovertemplate": "%{hovertext}<extra></extra>",
        },
        {
            "type": "bar",
            "orientation": "h",
            "name": t("no sure gain"),
            "y": labels[count:],
            "x": [100 * (1 - (one.ratio or 1.0)) for one in in_vain],
            "marker": {"color": "var(--line)"},
            "hovertext": [safe(one.finding) for one in in_vain],
            "hovertemplate": "%{hovertext}: %{x:.1f} %<extra></extra>",
        },
    ]
    sides = axis("") | {
        "autorange": "reversed",
        "categoryorder": "array",
        "categoryarray": labels,
        "tickfont": {"size": 11},
        "dtick": 1,
    }
    layout = layout_of(xaxis=axis(t("% of the network's time that the change saves")), yaxis=sides)
    layout["shapes"] = [vertical(0.0, colour="var(--muted)", dash="solid")]
    layout["height"] = 110 + 24 * len(labels)
    return {"data": [one for one in traces if one["y"]], "layout": layout}


def _label(one: Finding | Untouched) -> str:
    words = one.finding if len(one.finding) <= _LABEL else one.finding[: _LABEL - 1] + "…"
    return safe(f"{one.guideline}: {words}")


def _different(labels: Sequence[str]) -> list[str]:
    """Return labels of which no two are one; bars of one label would be stacked."""
    return [
        label if label not in labels[:place] else f"{label} ({labels[:place].count(label) + 1})"
        for place, label in enumerate(labels)
    ]


def experiment_chart(trials: Sequence[Trial]) -> Figure:
    """Return ms for the same work over those of the first row, here and in the paper, by size."""
    sizes = list(dict.fromkeys(one.multiple for one in trials))
    traces: list[Figure] = []
    for multiple, colour in zip(sizes, colour_cycle(len(sizes)), strict=True):
        own = [one for one in trials if one.multiple == multiple]
        settings = [safe(one.setting) for one in own]
        traces += [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"measured, widths x{multiple}",
                "x": settings,
                "y": [one.ratio for one in own],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [one.interval[1] - one.ratio for one in own],
                    "arrayminus": [one.ratio - one.interval[0] for one in own],
                    "color": colour,
                },
                "line": {"color": colour, "width": 2},
                "hovertemplate": "%{x}: %{y:.2f}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"in the paper, x{multiple}",
                "x": settings,
                "y": [one.published_ratio for one in own],
                "line": {"color": colour, "width": 1, "dash": "dot"},
                "marker": {"symbol": "x", "color": colour},
                "hovertemplate": "%{x}: %{y:.2f}<extra></extra>",
            },
        ]
    sides = axis("ms for the same work, first row = 1") | {"rangemode": "tozero"}
    return {"data": traces, "layout": layout_of(xaxis=axis("") | {"type": "category"}, yaxis=sides)}
