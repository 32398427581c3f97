"""The report's charts as plotly figures in plain data; the only module that imports plotly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from plotly.offline import get_plotlyjs

from featherweight.candidates import CandidateRow, CurvePoint
from featherweight.reporting.figure import (
    Figure,
    axis,
    band,
    budget_label,
    colour_cycle,
    label_above,
    latency_axis,
    layout_of,
    marker,
    safe,
    vertical,
)
from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import EpochLine
from featherweight.reporting.units import (
    show_budget_ms,
    show_count,
    show_interval_ms,
    show_ms,
    show_percent,
)

__all__ = [
    "accuracy_latency_chart",
    "latency_chart",
    "plotly_script",
    "training_chart",
]

_STATUS = {
    "rejected": ("x-thin-open", 9),
    "raced": ("circle", 10),
    "finalist": ("diamond", 12),
    "kept": ("square", 10),
    "winner": ("star", 19),
}
_HISTOGRAM_BINS = 40
_LABELS_PX = 46
"""Room above a plot for its two rows of labels."""
_FAR_IQRS = 6.0
"""Runs further above the third quartile, in interquartile ranges, are not drawn."""
_LEAST_POINTS = 0.1
"""Of accuracy, on an axis: a run of few networks would else blow up their differences."""


def plotly_script() -> str:
    """Return plotly.js whole, so that the page needs no network."""
    return str(get_plotlyjs())


def latency_chart(
    samples_ms: Sequence[float],
    *,
    budget_ms: float | None,
    median_ms: float | None,
    interval_ms: tuple[float, float] | None,
    t: Translate = ENGLISH,
) -> Figure | None:
    """Return the histogram of single runs with the median, its interval and the budget.

    One run beside a busy machine may take ten times as long and would leave the rest in one bar:
    runs far above the bulk are not drawn, and the chart says how many and how slow.
    """
    if not samples_ms:
        return None
    values = np.asarray(samples_ms, dtype=float)
    lower, upper = np.quantile(values, [0.25, 0.75])
    edge = float(min(values.max(), upper + _FAR_IQRS * max(upper - lower, 0.002 * upper)))
    marks = [mark for mark in (budget_ms, median_ms) if mark is not None]
    low, high = min([float(values.min()), *marks]), max([edge, *marks])
    pad = max((high - low) * 0.06, 0.01 * high)
    first = float(values.min())
    size = max((edge - first) / _HISTOGRAM_BINS, 1e-9 + edge * 1e-4)
    bars = {
        "type": "histogram",
        "x": [float(value) for value in values if value <= edge],
        "xbins": {"start": first - size / 2, "end": edge + size, "size": size},
        "marker": {"color": "var(--series-1)"},
        "hovertemplate": "%{x} ms: %{y} " + t("runs") + "<extra></extra>",
    }
    room = pad + (high - low) * 0.2
    axis_range = (low - room, high + room)
    shapes = [] if interval_ms is None else [band(interval_ms)]
    notes: list[Figure] = []
    if median_ms is not None:
        shapes.append(vertical(median_ms, colour="var(--ink)", dash="solid"))
        text = t("median {median}", median=show_ms(median_ms))
        notes.append(label_above(median_ms, text, colour="var(--ink)", axis_range=axis_range))
    if budget_ms is not None:
        shapes.append(vertical(budget_ms, colour="var(--budget)", dash="dash"))
        notes.append(budget_label(_budget(budget_ms, t), budget_ms, axis_range=axis_range, row=1))
    beyond = values[values > edge]
    title = t("milliseconds per picture")
    if len(beyond):
        slowest = show_ms(float(beyond.max()))
        title += "<br>" + t(
            "{n} slower, up to {slowest}, not drawn", n=len(beyond), slowest=slowest
        )
    layout = layout_of(
        xaxis=axis(title) | {"range": list(axis_range)},
        yaxis=axis(t("runs")) | {"rangemode": "tozero"},
        top_px=_LABELS_PX,
    )
    layout |= {"shapes": shapes, "annotations": notes, "showlegend": False}
    return {"data": [bars], "layout": layout}


def accuracy_latency_chart(
    candidates: Sequence[CandidateRow],
    *,
    curve: Sequence[CurvePoint],
    budget_ms: float | None,
    t: Translate = ENGLISH,
) -> Figure | None:
    """Return everything measured: accuracy over latency, and a strip for what has no accuracy."""
    measured = [candidate for candidate in candidates if candidate.latency_ms is not None]
    if not measured:
        return None
    upper = [candidate for candidate in measured if candidate.val_accuracy is not None]
    strip = [candidate for candidate in measured if candidate.val_accuracy is None]
    precisions = sorted({candidate.precision for candidate in measured})
    colours = dict(zip(precisions, colour_cycle(len(precisions)), strict=True))
    traces = [_curve_trace(curve, t)] if len(curve) > 1 else []
    for status, precision in _groups(upper):
        group = [one for one in upper if (one.status, one.precision) == (status, precision)]
        traces.append(
            _points(group, status=status, precision=precision, colour=colours[precision], t=t)
        )
    for precision in sorted({candidate.precision for candidate in strip}):
        group = [one for one in strip if one.precision == precision]
        traces.append(_strip(group, precision=precision, colour=colours[precision], t=t))
    reach = [value for one in measured for value in (one.interval_ms or (one.latency_ms,))]
    milliseconds = [value for value in (*reach, budget_ms) if value is not None]
    shapes = [] if budget_ms is None else [vertical(budget_ms, colour="var(--budget)", dash="dash")]
    xaxis, to_axis = latency_axis(milliseconds, t)
    notes = []
    if budget_ms is not None:
        text = _budget(budget_ms, t)
        notes.append(budget_label(text, to_axis(budget_ms), axis_range=xaxis["range"]))
    split = 0.26 if strip and upper else 0.0
    xaxis["anchor"] = "y2" if strip else "y"
    layout = layout_of(
        xaxis=xaxis,
        yaxis=axis(t("validation accuracy")) | {"tickformat": ".0%", "domain": [split, 1.0]},
        top_px=_LABELS_PX,
    )
    layout |= {"shapes": shapes, "annotations": notes}
    accuracies = [one.val_accuracy for one in curve]
    accuracies += [one.val_accuracy for one in upper if one.val_accuracy is not None]
    if accuracies:
        layout["yaxis"]["range"] = _accuracy_range(accuracies)
    if strip:
        end = split - 0.08 if upper else 1.0
        title = "" if upper else t("not trained")
        layout["yaxis2"] = axis(title) | {
            "type": "category",
            "domain": [0.0, end],
            "showgrid": False,
        }
    return {"data": traces, "layout": layout}


def _accuracy_range(accuracies: Sequence[float]) -> list[float]:
    """Return the ends of an axis that does not make much of little: ten points at least."""
    low, high = min(accuracies), max(accuracies)
    missing = max(0.0, _LEAST_POINTS - (high - low))
    high = min(1.0, high + missing / 2)
    low = max(0.0, min(low, high - _LEAST_POINTS))
    margin = 0.08 * (high - low)
    return [low - margin, high + margin]


def training_chart(
    epochs: Iterable[EpochLine], *, quantity: str, t: Translate = ENGLISH
) -> Figure | None:
    """Return `loss` (validation solid, training dotted) or `accuracy` over images seen."""
    series: dict[tuple[str, str], list[EpochLine]] = {}
    for line in epochs:
        series.setdefault((line.network, line.phase), []).append(line)
    networks = list(dict.fromkeys(network for network, _ in series))
    colours = dict(zip(networks, colour_cycle(len(networks)), strict=True))
    traces: list[Figure] = []
    for (network, phase), lines in series.items():
        label = f"{network} ({phase})"
        final = phase.startswith(("train", "int8-finetune"))
        style = {"color": colours[network], "width": 3 if final else 1.5}
        if quantity == "accuracy":
            values = [line.val_accuracy for line in lines]
            traces.append(_line(lines, values, label=label, style=style, t=t, percent=True))
            continue
        values = [line.val_loss for line in lines]
        traces.append(_line(lines, values, label=label, style=style, t=t))
        values = [line.train_loss for line in lines]
        dotted = {**style, "dash": "dot", "width": 1.5}
        label = f"{label}, " + t("training")
        traces.append(_line(lines, values, label=label, style=dotted, t=t, legend=False))
    drawn = [trace for trace in traces if any(value is not None for value in trace["y"])]
    if not drawn:
        return None
    if quantity == "accuracy":
        told = [value for trace in drawn for value in trace["y"] if value is not None]
        yaxis = axis(t("validation accuracy")) | {
            "tickformat": ".0%",
            "range": _accuracy_range(told),
        }
    else:
        yaxis = axis(t("loss")) | {"rangemode": "tozero"}
    layout = layout_of(xaxis=axis(t("images seen")) | {"rangemode": "tozero"}, yaxis=yaxis)
    return {"data": drawn, "layout": layout}


def _line(
    lines: Sequence[EpochLine],
    values: Sequence[float | None],
    *,
    label: str,
    style: Figure,
    t: Translate,
    percent: bool = False,
    legend: bool = True,
) -> Figure:
    value = "%{y:.1%}" if percent else "%{y:.4f}"
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(lines) <= 40 else "lines",
        "x": [line.images_seen for line in lines],
        "y": list(values),
        "name": safe(label),
        "line": style,
        "marker": {"size": 5},
        "showlegend": legend,
        "hovertext": [safe(label) + "<br>" + t("epoch {n}", n=line.epoch) for line in lines],
        "hovertemplate": "%{hovertext}, %{x:,} images: " + value + "<extra></extra>",
    }


def _points(
    group: Sequence[CandidateRow], *, status: str, precision: str, colour: str, t: Translate
) -> Figure:
    symbol, size = _STATUS[status]
    reach = [_reach_ms(one) for one in group]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [one.latency_ms for one in group],
        "y": [one.val_accuracy for one in group],
        "name": safe(f"{t(status)}, {precision}"),
        "marker": marker(symbol, size=size, colour=colour),
        "error_x": {
            "type": "data",
            "array": [above for _, above in reach],
            "arrayminus": [below for below, _ in reach],
            "thickness": 1,
            "width": 3,
            "color": colour,
        },
        "hovertext": [_hover(one, t) for one in group],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _strip(group: Sequence[CandidateRow], *, precision: str, colour: str, t: Translate) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [one.latency_ms for one in group],
        "y": [safe(precision)] * len(group),
        "yaxis": "y2",
        "name": safe(t("not trained") + f", {precision}"),
        "marker": marker("line-ns-open", size=13, colour=colour),
        "hovertext": [_hover(one, t) for one in group],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _curve_trace(curve: Sequence[CurvePoint], t: Translate) -> Figure:
    """Return the line through the points that no faster point equals in accuracy."""
    ordered: list[CurvePoint] = []
    for point in sorted(curve, key=lambda one: (one.latency_ms, -one.val_accuracy)):
        if not ordered or point.val_accuracy > ordered[-1].val_accuracy:
            ordered.append(point)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [point.latency_ms for point in ordered],
        "y": [point.val_accuracy for point in ordered],
        "name": t("best per time"),
        "line": {"color": "var(--muted)", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }


def _hover(candidate: CandidateRow, t: Translate) -> str:
    interval = show_interval_ms(candidate.interval_ms, t("to"))
    lines = [
        f"<b>{safe(candidate.name)}</b>",
        t(
            "{precision} on {runtime}, {resolution} pixels",
            precision=safe(candidate.precision),
            runtime=safe(candidate.runtime),
            resolution=candidate.resolution,
        )
        + f", {t(candidate.status)}",
        f"{show_ms(candidate.latency_ms)} (95 %: {interval})",
        t("{n} params", n=show_count(candidate.params))
        + ", "
        + t("{n} MACs", n=show_count(candidate.macs)),
    ]
    if candidate.val_accuracy is not None:
        lines.append(t("validation accuracy") + f" {show_percent(candidate.val_accuracy)}")
    if candidate.reason:
        lines.append(f"<i>{safe(candidate.reason)}</i>")
    return "<br>".join(lines)


def _budget(budget_ms: float, t: Translate) -> str:
    return t("budget {budget}", budget=show_budget_ms(budget_ms))


def _groups(candidates: Sequence[CandidateRow]) -> list[tuple[str, str]]:
    """Return (status, precision) pairs, the winner last so that it is drawn on top."""
    order = list(_STATUS)
    found = {(candidate.status, candidate.precision) for candidate in candidates}
    return sorted(found, key=lambda pair: (order.index(pair[0]), pair[1]))


def _reach_ms(candidate: CandidateRow) -> tuple[float, float]:
    """Return how far the interval reaches below and above the latency."""
    if candidate.interval_ms is None or candidate.latency_ms is None:
        return 0.0, 0.0
    low, high = candidate.interval_ms
    return candidate.latency_ms - low, high - candidate.latency_ms
