"""`featherweight profile`: count a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import As_json
from featherweight.cli.pages import Plot, check_plot, write_plot

if TYPE_CHECKING:
    from featherweight.advising.redundancy import Redundancy
    from featherweight.profiling.profile import Profile

__all__ = ["profile"]

_COLUMNS = ("layer", "op", "output", "params", "MACs", "FLOPs", "bytes", "FLOPs/byte", "plain MACs")


def profile(
    network: Annotated[
        str, typer.Argument(help="Network, e.g. mobilenet_v2:width=0.5, or an .onnx file")
    ],
    redundancy: Annotated[
        str | None,
        typer.Option(
            "--redundancy", help="Pictures: what the maps of a trained network repeat on them."
        ),
    ] = None,
    plot: Plot = None,
    json: As_json = False,
) -> None:
    """Count parameters, multiply-adds, exact FLOPs, memory traffic and peak memory."""
    if redundancy is not None:
        _show_redundancy(network, redundancy, plot=plot, json=json)
        return
    if plot is not None:
        from featherweight.errors import UsageError

        raise UsageError("--plot was given without --redundancy", allowed="both, or neither")
    from featherweight.exporting.profile import profile as profile_network

    counted = profile_network(network)
    if json:
        output.print_json(counted.model_dump(mode="json"))
        return
    plain = {pair.pointwise: f"{pair.plain_macs:,}" for pair in counted.separable_pairs}
    rows = [
        [
            layer.name,
            layer.op,
            _shape(layer.output_shape),
            _number(layer.params),
            _number(layer.macs),
            _number(layer.flops),
            _number(layer.memory_access_bytes),
            _ratio(layer.arithmetic_intensity),
            plain.get(layer.name, ""),
        ]
        for layer in counted.layers
    ]
    shown = len(_COLUMNS) if plain else len(_COLUMNS) - 1
    output.print_table(_COLUMNS[:shown], [row[:shown] for row in rows])
    output.print_lines(_summary(counted))


def _show_redundancy(network: str, data: str, *, plot: Plot, json: bool) -> None:
    from featherweight.advising.redundancy import redundancy as measure
    from featherweight.reporting.redundancy import render_redundancy

    check_plot(plot, example="redundancy.html")
    seen = measure(network, data=data)
    if json:
        output.print_json(seen.found.model_dump(mode="json"))
    else:
        _print_redundancy(seen.found)
    write_plot(plot, lambda: render_redundancy(seen), say=not json)


def _print_redundancy(found: Redundancy) -> None:
    output.print_table(
        ["maps after", "maps", "effective rank", "explained", "constant", "most similar pair"],
        [
            [
                one.layer,
                str(one.channels),
                f"{one.effective_rank:.1f}",
                "-" if one.explained_share is None else f"{one.explained_share:.0%}",
                str(one.constant),
                " and ".join(map(str, (pair.first, pair.second))) + f": {pair.correlation:+.3f}"
                if (pair := next(iter(one.pairs), None))
                else "-",
            ]
            for one in found.layers
        ],
    )
    output.print_lines(
        [
            f"{found.network}, {found.pictures} pictures of {found.split}",
            "explained: the share of the maps that a linear map of the others gives to 1 %",
        ]
    )


def _summary(counted: Profile) -> list[str]:
    peak = counted.peak_activation_bytes  # known of an Architecture only
    lines = [
        (
            f"{counted.name} at {_shape(counted.input_shape)}: "
            f"{_number(counted.params)} params, {_number(counted.macs)} MACs (multiply-adds), "
            f"{_number(counted.flops)} FLOPs (multiplications + additions)"
            + ("" if peak is None else f", peak activations {peak:,} bytes (fp32)")
        ),
        (
            f"{_number(counted.multiplications)} multiplications, {_number(counted.additions)} "
            f"additions; {_number(counted.memory_access_bytes)} bytes read and written, "
            f"{_ratio(counted.arithmetic_intensity)} FLOPs per byte"
        ),
    ]
    if counted.separable_pairs:
        macs = sum(pair.macs for pair in counted.separable_pairs)
        plain = sum(pair.plain_macs for pair in counted.separable_pairs)
        lines.append(
            f"{len(counted.separable_pairs)} depthwise-separable pairs: {macs:,} MACs, "
            f"{100 * macs / plain:.1f} % of the {plain:,} of plain convolutions"
        )
    if counted.unknown_ops:
        lines.append(f"unknown operators, so no totals: {', '.join(counted.unknown_ops)}")
    return lines


def _shape(shape: tuple[int, ...] | None) -> str:
    return "unknown" if shape is None else "x".join(str(side) for side in shape)


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _ratio(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
