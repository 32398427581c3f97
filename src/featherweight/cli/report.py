"""`featherweight report`: render a run as one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.reporting.language import languages

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Write it every 10 s until the run is finished; the page reloads."
        ),
    ] = False,
    lang: Annotated[
        str, typer.Option("--lang", help=f"Language of the page: {', '.join(languages())}.")
    ] = "en",
) -> None:
    """Write report.html of a run, finished or under way."""
    from featherweight.reporting.report import REPORT_FILE, follow_report, write_report

    if follow:
        output.print_lines([f"open {run / REPORT_FILE}; Ctrl-C ends the view, not the run"])
        follow_report(run, language=lang)
    else:
        output.print_lines([str(write_report(run, language=lang))])
