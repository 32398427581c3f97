"""HTML pages that commands write with `--plot`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from featherweight.cli import output

__all__ = ["Plot", "check_plot", "write_plot"]

Plot = Annotated[Path | None, typer.Option("--plot", help="HTML page to write.")]


def check_plot(plot: Path | None, *, example: str) -> None:
    """Refuse a folder before anything is measured.

    Raises:
        UsageError: `plot` is a folder.
    """
    from featherweight.errors import UsageError

    if plot is not None and plot.is_dir():
        raise UsageError(f"--plot {plot} is a folder", allowed=f"a file, such as {example}")


def write_plot(plot: Path | None, render: Callable[[], str], *, say: bool) -> None:
    """Write a page where one was wanted: last, so that a full disk costs the page alone."""
    from featherweight.records import write_bytes

    if plot is None:
        return
    write_bytes(plot, render().encode())
    if say:
        output.print_lines([f"page: {plot}"])
