"""`featherweight models`: list the zoo."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from featherweight.cli import output
from featherweight.cli.options import As_json

__all__ = ["models"]


def models(
    pattern: Annotated[str, typer.Argument(help="Names that contain this text.")] = "",
    json: As_json = False,
) -> None:
    """List the networks with counts, published figures and weights."""
    from featherweight.measuring.catalogue import list_models

    listed = list_models(pattern)
    if json:
        output.print_json(listed)
        return
    output.print_table(
        ["network", "family", "input", "params", "MACs", "published top-1", "weights"],
        [_row(model) for model in listed],
    )


def _row(model: dict[str, Any]) -> list[str]:
    published = model["published"]
    top1 = None if published is None else published["top1"]
    return [
        model["name"], model["family"], "x".join(str(side) for side in model["input_shape"]),
        f"{model['params']:,}", f"{model['macs']:,}",
        "-" if top1 is None else f"{top1:.3f}", model["pretrained"] or "-",
    ]  # fmt: skip
