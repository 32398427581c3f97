"""`featherweight measure`: time networks on a platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import DEFAULT_PLATFORM, As_json, Seed

if TYPE_CHECKING:
    from featherweight.measuring.measurement import Measurement
    from featherweight.measuring.preparing import Preparation

__all__ = ["measure"]

Ratio = tuple[float, float, float] | None
"""With its 95 % interval; `None` = of itself."""


def measure(
    networks: Annotated[list[str], typer.Argument(help="Networks, timed interleaved.")],
    on: Annotated[
        list[str] | None, typer.Option("--on", help="Platform; repeat for several.")
    ] = None,
    sustained: Annotated[
        str | None,
        typer.Option("--sustained", help="Run each network this long, such as 60s: does it slow?"),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Also time decoding and resizing this file, here."),
    ] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Predict from device calibrate, measure nothing.")
    ] = False,
    table: Annotated[
        Path | None, typer.Option("--table", help="A table that device calibrate --share wrote.")
    ] = None,
    seed: Seed = 0,
    json: As_json = False,
) -> None:
    """Time networks in a fresh process, interleaved; raw samples with --json."""
    output.show_log(quiet=False)
    if predicted or table is not None:
        _refuse_beside_prediction(
            {"--sustained": sustained, "--picture": picture, "--on": on if table else None},
            "--predicted" if table is None else "--table",
        )
        _predict(networks, on or [DEFAULT_PLATFORM], table=table, json=json)
        return
    from featherweight.budget import parse_duration_s
    from featherweight.measuring.measure import measure as measure_networks

    sustained_s = None if sustained is None else parse_duration_s(sustained)
    prepared = {} if picture is None else _prepare(networks, picture)
    measured = measure_networks(
        networks, on=on or [DEFAULT_PLATFORM], sustained_s=sustained_s, seed=seed
    )
    ratios = [_ratio(one, measured) for one in measured]
    drifts = [None if sustained is None else _drift(one) for one in measured]
    if json:
        output.print_json(
            [
                {
                    **one.model_dump(mode="json"),
                    "ratio": ratio,
                    "drift": drift,
                    "preparation": prepared[one.network].model_dump(mode="json")
                    if one.network in prepared
                    else None,
                }
                for one, ratio, drift in zip(measured, ratios, drifts, strict=True)
            ]
        )
        return
    _print_table(measured, ratios, drifts if sustained is not None else None)
    output.print_lines(
        [
            f"decode and resize {one.picture} to {one.resolution}: {one.median_ms:.3f} ms "
            f"({one.interval_ms[0]:.3f}-{one.interval_ms[1]:.3f}), here, before the times above"
            for one in {one.resolution: one for one in prepared.values()}.values()
        ]
    )


def _print_table(
    measured: Sequence[Measurement],
    ratios: Sequence[Ratio],
    drifts: Sequence[Ratio] | None,
) -> None:
    """Print what was measured, a row each; drifts only where they were asked for."""
    rows = [
        [
            m.network,
            m.platform,
            f"{m.median_ms:.3f}",
            f"{m.interval_ms[0]:.3f}-{m.interval_ms[1]:.3f}",
            f"{m.p90_ms:.3f}",
            f"{m.relative_iqr:.1%}",
            "yes" if m.disturbed else "no",
            _show(ratio),
            *([] if drifts is None else [_show(drift)]),
        ]
        for m, ratio, drift in zip(measured, ratios, drifts or [None] * len(measured), strict=True)
    ]
    output.print_table(
        [
            "network",
            "platform",
            "median ms",
            "95 % interval",
            "p90 ms",
            "IQR",
            "disturbed",
            "of the first",
            *([] if drifts is None else ["last third of first"]),
        ],
        rows,
    )


def _prepare(networks: list[str], picture: Path) -> dict[str, Preparation]:
    """Return what reading a picture takes for each network, by its name."""
    from featherweight.measuring.preparing import time_preparation
    from featherweight.networks.detectors import resolve_network

    sides = {network: resolve_network(network).resolution for network in networks}
    timed = {side: time_preparation(picture, resolution=side) for side in set(sides.values())}
    return {network: timed[side] for network, side in sides.items()}


def _refuse_beside_prediction(given: dict[str, object], flag: str) -> None:
    """Refuse what a prediction would ignore.

    Raises:
        UsageError: names the first of them.
    """
    from featherweight.errors import UsageError

    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"{name} was given together with {flag}",
                allowed="one of them: a prediction measures nothing, a table has its platform",
            )


def _predict(networks: list[str], on: list[str], *, table: Path | None, json: bool) -> None:
    """Print what networks should take on platforms that were calibrated."""
    from featherweight.measuring.predict import predict_latencies

    found = predict_latencies(networks, on=on, table=table)
    if json:
        output.print_json([one.model_dump(mode="json") for one in found])
        return
    output.print_table(
        ["network", "platform", "predicted ms", "90 % interval"],
        [
            [
                one.network,
                one.platform,
                f"{one.median_ms:.3f}",
                f"{one.interval_ms[0]:.3f}-{one.interval_ms[1]:.3f}",
            ]
            for one in found
        ],
    )


def _ratio(one: Measurement, measured: list[Measurement]) -> Ratio:
    """Return one's time over that of the first network on its platform, with its 95 % interval."""
    from featherweight.measuring.measurement import ratio_interval

    first = next(other for other in measured if other.platform == one.platform)
    if one is first:
        return None
    low, high = ratio_interval(
        one.samples_ms, over=first.samples_ms, took_turns=one.took_turns_with(first)
    )
    return one.median_ms / first.median_ms, low, high


def _drift(one: Measurement) -> tuple[float, float, float]:
    """Return the time in the last third over that in the first third, with its 95 % interval."""
    from statistics import median

    from featherweight.measuring.measurement import ratio_interval

    third = max(1, len(one.samples_ms) // 3)
    first, last = one.samples_ms[:third], one.samples_ms[-third:]
    low, high = ratio_interval(last, over=first)
    return median(last) / median(first), low, high


def _show(ratio: Ratio) -> str:
    return "-" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f})"
