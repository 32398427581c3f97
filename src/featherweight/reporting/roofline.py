"""The roofline of a platform as a page: the roof, the networks and their layers under it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from featherweight.measuring.roofline import Roof, Roofline, Spot
from featherweight.reporting.charts import plotly_script
from featherweight.reporting.figure import (
    Figure,
    colour_cycle,
    layout_of,
    logarithmic_axis,
    marker,
    safe,
)
from featherweight.reporting.language import ENGLISH
from featherweight.reporting.render import template_environment

__all__ = ["render_roofline", "roofline_chart"]

_SLOWEST = 15
"""Layers in the table."""


def render_roofline(roofline: Roofline) -> str:
    """Return one HTML page that needs nothing but a browser."""
    slowest = sorted(roofline.layers, key=lambda one: -one.ms)[:_SLOWEST]
    return (
        template_environment(ENGLISH)
        .get_template("roofline.html.j2")
        .render(
            roofline=roofline,
            slowest=slowest,
            figure=roofline_chart(roofline),
            plotly=Markup(plotly_script()),
        )
    )


def roofline_chart(roofline: Roofline) -> Figure:
    """Return achieved GFLOP/s over FLOPs per byte, both logarithmic, with the roof."""
    spots = [*roofline.networks, *roofline.layers]
    ridge = roofline.roof.gflop_per_s / roofline.roof.memory_gb_per_s
    reach = [one.intensity for one in spots] + [ridge]
    ends = (min(reach) / 1.6, max(reach) * 1.6)
    rates = [one.gflop_per_s for one in spots]
    traces = [
        _roof(roofline.roof, "cache_gb_per_s", "roof, bytes from a cache", ends=ends, dash="solid"),
        _roof(roofline.roof, "memory_gb_per_s", "roof, bytes from memory", ends=ends, dash="dash"),
    ]
    colours = colour_cycle(len(roofline.networks))
    for network, colour in zip(roofline.networks, colours, strict=True):
        layers = [one for one in roofline.layers if one.network == network.network]
        if layers:
            dots = _points(layers, name=f"layers of {network.network}", colour=colour, size=6)
            traces.append(dots | {"opacity": 0.55})
        traces.append(_points([network], name=network.network, colour=colour, size=15))
    layout = layout_of(
        xaxis=logarithmic_axis("FLOPs per byte (logarithmic)", low=ends[0], high=ends[1]),
        yaxis=logarithmic_axis(
            "GFLOP/s (logarithmic)", low=min(rates), high=max(*rates, roofline.roof.gflop_per_s)
        ),
    )
    return {"data": traces, "layout": layout}


def _roof(roof: Roof, bandwidth: str, name: str, *, ends: tuple[float, float], dash: str) -> Figure:
    gb_per_s = getattr(roof, bandwidth)
    corners = [ends[0], min(max(roof.gflop_per_s / gb_per_s, ends[0]), ends[1]), ends[1]]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": corners,
        "y": [min(roof.gflop_per_s, gb_per_s * one) for one in corners],
        "name": name,
        "line": {"color": "var(--muted)", "width": 2, "dash": dash},
        "hoverinfo": "skip",
    }


def _points(spots: Sequence[Spot], *, name: str, colour: str, size: int) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [one.intensity for one in spots],
        "y": [one.gflop_per_s for one in spots],
        "name": safe(name),
        "marker": marker("circle" if size < 10 else "diamond", size=size, colour=colour),
        "hovertext": [
            safe(f"{one.layer or one.network}: {one.ms:.4f} ms, {one.share:.0%} of the roof")
            for one in spots
        ],
        "hovertemplate": "%{hovertext}<br>%{y:.1f} GFLOP/s at %{x:.1f} FLOPs per byte"
        "<extra></extra>",
    }
