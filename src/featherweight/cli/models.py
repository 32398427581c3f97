"""`featherweight models`: list the zoo, or measure what of it fits a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherweight.cli import output
from featherweight.cli.options import As_json
from featherweight.errors import UsageError

if TYPE_CHECKING:
    from featherweight.measuring.which import Fitting

__all__ = ["models"]

_SHOWN_TOO_SLOW = 5


def models(
    pattern: Annotated[str, typer.Argument(help="Names that contain this text.")] = "",
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="Platform to measure on, with --latency; repeat for several."),
    ] = None,
    latency: Annotated[
        str | None, typer.Option("--latency", help="Budget, such as 5ms, with --on.")
    ] = None,
    json: As_json = False,
) -> None:
    """List the networks with counts, published figures and weights, or those that fit a budget."""
    if (on is None) != (latency is None):
        raise UsageError(
            "--on and --latency belong together",
            allowed="both: which networks fit, measured; or neither: the list",
            hint="featherweight models --on local/onnxruntime --latency 5ms",
        )
    if on is None or latency is None:
        _list(pattern, json=json)
    else:
        _which(pattern, on, latency, json=json)


def _list(pattern: str, *, json: bool) -> None:
    from featherweight.measuring.catalogue import list_models

    listed = list_models(pattern)
    if json:
        output.print_json(listed)
        return
    output.print_table(
        ["network", "family", "input", "params", "MACs", "published top-1", "weights"],
        [_row(model) for model in listed],
    )


def _which(pattern: str, on: list[str], latency: str, *, json: bool) -> None:
    output.show_log(quiet=False)
    from featherweight.budget import parse_latency_ms
    from featherweight.measuring.which import which_networks

    found = which_networks(on, latency_ms=parse_latency_ms(latency), pattern=pattern)
    if json:
        output.print_json([one.model_dump(mode="json") for one in found])
        return
    fitting = [one for one in found if one.fits]
    slow = sorted(
        (one for one in found if not one.fits),
        key=lambda one: one.median_ms or one.predicted_ms or 0.0,
    )
    output.print_table(
        ["network", "platform", "published top-1", "median ms", "95 % interval", "fits", "best"],
        [_measured_row(one) for one in [*fitting, *slow[:_SHOWN_TOO_SLOW]]],
    )
    output.print_lines(
        [
            f"{len(fitting)} fit {latency}; ~ = predicted",
            "best: nothing that was measured on its platform is as accurate and faster",
            "top-1 is what was published of the float32 network: int8 and your pictures change it",
        ]
    )


def _measured_row(one: Fitting) -> list[str]:
    shown = "-" if one.predicted_ms is None else f"~{one.predicted_ms:.3f}"
    interval = "-"
    if one.median_ms is not None and one.interval_ms is not None:
        shown = f"{one.median_ms:.3f}"
        interval = f"{one.interval_ms[0]:.3f}-{one.interval_ms[1]:.3f}"
    return [
        one.network,
        one.platform,
        f"{one.top1:.3f}",
        shown,
        interval,
        "yes" if one.fits else "no",
        "*" if one.best else "",
    ]


def _row(model: dict[str, Any]) -> list[str]:
    published = model["published"]
    top1 = None if published is None else published["top1"]
    return [
        model["name"],
        model["family"],
        "x".join(str(side) for side in model["input_shape"]),
        f"{model['params']:,}",
        f"{model['macs']:,}",
        "-" if top1 is None else f"{top1:.3f}",
        model["pretrained"] or "-",
    ]
