"""How a trained network was made faster: the ways tried, the steps taken, the widths left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from featherweight.adapting.steps import Proposal, Step
from featherweight.architecture import Architecture
from featherweight.layers import layers
from featherweight.networks.channels import is_depthwise
from featherweight.reporting.figure import Figure, axis, layout_of, safe
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section
from featherweight.reporting.units import show_ms

__all__ = ["WayRow", "steps_chart", "widths_chart"]

_WAY = "way:"


class WayRow(NamedTuple):
    """What a way came to before the long training; `reason` says why it came to nothing."""

    name: str
    latency_ms: float | None
    loss: float | None
    reason: str


def _ways(run: FitRun) -> list[WayRow]:
    found = []
    for stage in run.stages:
        outputs = stage.outputs
        if not stage.stage.startswith(_WAY) or not isinstance(outputs, Mapping):
            continue
        latency = outputs.get("latency")
        found.append(
            WayRow(
                stage.stage.removeprefix(_WAY),
                latency.get("median_ms") if isinstance(latency, Mapping) else None,
                outputs.get("loss"),
                str(outputs.get("reason", "")),
            )
        )
    return sorted(found, key=lambda row: (row.loss is None, row.loss))


def steps_chart(steps: Sequence[Step], t: Translate) -> Figure | None:
    """Return latency and hold-out score after each step; what was tried is in the hover."""
    taken = [step for step in steps if step.change is not None and step.score is not None]
    if not taken:
        return None
    numbers = [step.number for step in taken]
    hovers = [_hover(step, t) for step in taken]

    def line(values: Sequence[float], *, name: str, colour: str, side: str) -> Figure:
        return {
            "type": "scatter",
            "mode": "lines+markers",
            "x": numbers,
            "y": list(values),
            "yaxis": side,
            "name": name,
            "line": {"color": colour, "width": 2},
            "hovertext": hovers,
            "hovertemplate": "%{hovertext}<extra></extra>",
        }

    latencies, scores = t("milliseconds per picture"), t("score on the hold-out")
    layout = layout_of(xaxis=axis(t("step")), yaxis=axis(latencies) | {"rangemode": "tozero"})
    layout["yaxis2"] = axis(scores) | {
        "overlaying": "y",
        "side": "right",
        "tickformat": ".0%",
        "gridcolor": "rgba(0,0,0,0)",
    }
    return {
        "data": [
            line(
                [step.latency.median_ms for step in taken],
                name=latencies,
                colour="var(--series-1)",
                side="y",
            ),
            line(
                [step.score or 0.0 for step in taken],
                name=scores,
                colour="var(--series-2)",
                side="y2",
            ),
        ],
        "layout": layout,
    }


def _hover(step: Step, t: Translate) -> str:
    assert step.change is not None
    rejected = sum(proposal.status == "rejected" for proposal in step.proposals)
    return "<br>".join(
        [
            t("step {n}", n=step.number),
            f"<b>{safe(step.change.group)}: {step.change.channels}</b>",
            show_ms(step.latency.median_ms),
            t(
                "{tried} tried, {rejected} not surely faster",
                tried=len(step.proposals),
                rejected=rejected,
            ),
        ]
    )


def widths_chart(
    parent: Architecture | None, final: Architecture | None, t: Translate
) -> Figure | None:
    """Return the width of every convolution before and after; a gap = its branch is gone."""
    if parent is None or final is None:
        return None
    before, after = _widths(parent), _widths(final)
    if len(after) != len(before):  # blocks were left out: their places have moved
        return None
    names = list(before)

    def bars(values: Sequence[int | None], *, name: str, colour: str) -> Figure:
        return {
            "type": "bar",
            "x": names,
            "y": list(values),
            "name": name,
            "marker": {"color": colour},
            "hovertemplate": "%{x}: %{y}<extra></extra>",
        }

    layout = layout_of(
        xaxis=axis("") | {"showticklabels": len(names) <= _MOST_LABELS, "tickangle": -60},
        yaxis=axis(t("channels")) | {"rangemode": "tozero"},
    )
    layout |= {"barmode": "overlay"}
    return {
        "data": [
            bars([before[name] for name in names], name=t("before"), colour="var(--line)"),
            bars([after.get(name) for name in names], name=t("after"), colour="var(--series-1)"),
        ],
        "layout": layout,
    }


_MOST_LABELS = 40


def _widths(architecture: Architecture) -> dict[str, int]:
    return {
        layer.name: layer.output_shape[0]
        for layer in layers(architecture)
        if layer.op == "conv" and not is_depthwise(layer)
    }


class _Rejected(NamedTuple):
    step: int
    proposal: Proposal


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    rejected = [
        _Rejected(step.number, proposal)
        for step in run.steps
        for proposal in step.proposals
        if proposal.status == "rejected"
    ]
    final = run.architecture if isinstance(run.architecture, Architecture) else None
    return {
        "ways": _ways(run),
        "steps": steps_chart(run.steps, t),
        "widths": widths_chart(run.parent, final, t),
        "rejected": rejected,
    }


def _is_adapted(run: FitRun) -> bool:
    verb = run.identity.get("verb")
    return verb == "adapt" or (verb == "search" and bool(run.steps))


SECTIONS.add("adapting", Section(_values, has=_is_adapted))
