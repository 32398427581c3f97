"""The verb `report`: a run directory in, one offline page out."""

from __future__ import annotations

from pathlib import Path

from featherweight.records import write_bytes
from featherweight.reporting.reading import read_run
from featherweight.reporting.render import render_html

__all__ = ["REPORT_FILE", "write_report"]

REPORT_FILE = "report.html"


def write_report(run_directory: Path) -> Path:
    """Write report.html of a fit run, finished or still going, and return its path.

    Sections whose files are absent say so; damaged lines are left out and named on the page.

    Raises:
        UsageError: the directory is absent or is not a run directory.
        FailedError: the page cannot be written (disk full, no permission).
    """
    page = render_html(read_run(run_directory))
    path = run_directory / REPORT_FILE
    write_bytes(path, page.encode())
    return path
