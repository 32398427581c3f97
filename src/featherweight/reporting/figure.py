"""The parts that the report's charts share: axes, marks, labels and looks, as plain data.

Colours are names of the style sheet's variables (`var(--ink)`); the page's script puts in the
values of the reader's light or dark scheme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

from featherweight.reporting.language import Translate

__all__ = [
    "Figure",
    "axis",
    "band",
    "budget_label",
    "colour_cycle",
    "label_above",
    "latency_axis",
    "layout_of",
    "logarithmic_axis",
    "marker",
    "safe",
    "vertical",
]

Figure = dict[str, Any]
"""A plotly figure, or a part of one."""

_COLOURS = tuple(f"var(--series-{number})" for number in range(1, 9))


def latency_axis(
    milliseconds: Sequence[float], t: Translate
) -> tuple[Figure, Callable[[float], float]]:
    """Return the axis of latencies, and where a value lies on it.

    Over a range of more than six times it is logarithmic, with ticks at 1, 2 and 5.
    """
    low, high = min(milliseconds), max(milliseconds)
    if low <= 0 or high / low < 6:
        pad = max((high - low) * 0.08, 0.02 * high)
        return axis(t("milliseconds per picture")) | {"range": [low - pad, high + pad * 2]}, float
    title = t("milliseconds per picture (logarithmic)")
    return logarithmic_axis(title, low=low, high=high), math.log10


def logarithmic_axis(title: str, *, low: float, high: float) -> Figure:
    """Return an axis from `low` to `high` with ticks at 1, 2 and 5."""
    steps = [m * 10.0**e for e in range(-4, 6) for m in (1, 2, 5)]
    ticks = [step for step in steps if low * 0.7 <= step <= high * 1.4]
    return axis(title) | {
        "type": "log",
        "range": [math.log10(low) - 0.06, math.log10(high) + 0.12],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def layout_of(*, xaxis: Figure, yaxis: Figure, top_px: int = 14) -> Figure:
    """Return a layout without background, its legend below, room for labels above."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--ink)", "size": 13},
        "margin": {"l": 12, "r": 12, "t": top_px, "b": 12},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--line)",
            "font": {"color": "var(--ink)"},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 12},
        },
        "xaxis": xaxis,
        "yaxis": yaxis,
    }


def axis(title: str) -> Figure:
    """Return an axis with a title, in the page's colours."""
    return {
        "title": {"text": title, "font": {"size": 12}},
        "automargin": True,
        "gridcolor": "var(--line)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "ticks": "",
    }


def vertical(x: float, *, colour: str, dash: str) -> Figure:
    """Return a line through the whole height at `x`."""
    ends = {"x0": x, "x1": x, "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
    return {"type": "line", **ends, "line": {"color": colour, "width": 2, "dash": dash}}


def band(interval: tuple[float, float]) -> Figure:
    """Return a shade through the whole height between two values."""
    ends = {"x0": interval[0], "x1": interval[1], "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
    look = {"fillcolor": "var(--muted)", "opacity": 0.25, "line": {"width": 0}}
    return {"type": "rect", **ends, **look}


def label_above(
    x: float, text: str, *, colour: str, axis_range: Sequence[float], row: int = 0
) -> Figure:
    """Return a label above the plot, on the side of `x` that has more room."""
    left = x - axis_range[0] > axis_range[1] - x
    place = {"x": x, "y": 1.0, "xref": "x", "yref": "paper", "yanchor": "bottom"}
    side = {"xanchor": "right" if left else "left", "xshift": -4 if left else 4}
    look = {"showarrow": False, "font": {"color": colour}, "yshift": 17 * row}
    return {**place, **side, **look, "text": text}


def budget_label(text: str, x: float, *, axis_range: Sequence[float], row: int = 0) -> Figure:
    """Return the budget's label; `x` = its place on the axis."""
    return label_above(x, text, colour="var(--budget)", axis_range=axis_range, row=row)


def colour_cycle(number: int) -> list[str]:
    """Return `number` colours; the ninth is the first again."""
    return [_COLOURS[position % len(_COLOURS)] for position in range(number)]


def safe(text: str) -> str:
    """Escape a text that plotly shows: it reads a little HTML."""
    return html.escape(text, quote=False)


def marker(symbol: str, *, size: int, colour: str) -> Figure:
    """Return the look of a trace's points."""
    return {"symbol": symbol, "size": size, "color": colour, "line": {"color": colour, "width": 2}}
