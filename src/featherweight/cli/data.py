"""`featherweight data check`: look at a data set before training on it."""

from __future__ import annotations

import typer

from featherweight.cli import output
from featherweight.cli.help import show_help
from featherweight.cli.options import As_json, Data, Seed
from featherweight.readable import readable

__all__ = ["check", "data_app"]

data_app = typer.Typer(help="Look at data sets.", rich_markup_mode=None)


@data_app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Look at data sets."""
    show_help(context)


@data_app.command("check")
def check(data: Data, seed: Seed = 0, json: As_json = False) -> int:
    """Report classes, splits, broken and duplicate pictures; exit 2 when fit would refuse."""
    from featherweight.data.check import check_data

    found = check_data(data, seed=seed)
    if json:
        output.print_json(found.model_dump(mode="json"))
    else:
        lines = [f"{'ok' if found.ok else 'NOT OK'}: {found.images} pictures"]
        lines += [f"{p.kind}: {p.path}: {p.detail}" for p in found.problems]
        output.print_lines([readable(line) for line in lines])
    return 0 if found.ok else 2
