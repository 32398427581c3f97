"""HTML pages that commands write with `--plot`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from featherweight.cli import output

__all__ = ["Plot", "check_plot", "say_plot", "write_plot"]

Plot = Annotated[Path | None, typer.Option("--plot", help="HTML page to write.")]


def check_plot(plot: Path | None, *, example: str) -> None:
    """Refuse a folder before anything is measured.

    Raises:
        UsageError: `plot` is a folder.
    """
    from featherweight.errors import UsageError

    if plot is not None and plot.is_dir():
        raise UsageError(f"--plot {plot} is a folder", allowed=f"a file, such as {example}")


def write_plot(plot: Path | None, render: Callable[[], str]) -> None:
    """Write a page where one was wanted."""
    from featherweight.records import write_bytes

    if plot is not None:
        write_bytes(plot, render().encode())


def say_plot(plot: Path | None) -> None:
    """Say where a page is."""
    if plot is not None:
        output.print_lines([f"page: {plot}"])
