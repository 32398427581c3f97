"""`featherweight report`: render a run as one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherweight.cli import output

__all__ = ["report"]


def report(run: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Write report.html of a run, finished or under way."""
    from featherweight.reporting.report import write_report

    output.print_lines([str(write_report(run))])
