"""The verb `report`: a run directory in, one offline page out."""

from __future__ import annotations

import time
from pathlib import Path

from featherweight.arguments import to_path
from featherweight.readable import plain_text
from featherweight.records import write_bytes
from featherweight.reporting.reading import FitRun, read_run
from featherweight.reporting.render import render_html

__all__ = ["REPORT_FILE", "follow_report", "write_report"]

REPORT_FILE = "report.html"


def write_report(run_directory: str | Path, *, language: str = "en") -> Path:
    """Write report.html of a run, finished, going or cut short, and return its path.

    Sections whose files are absent say so; damaged lines are left out and named on the page.

    Raises:
        UsageError: the directory is absent, is not a run directory, or an unknown language.
        FailedError: the page cannot be written (disk full, no permission).
    """
    return _write(read_run(to_path(run_directory, name="run")), language=language, reload_s=None)


def follow_report(
    run_directory: str | Path, *, language: str = "en", every_s: float = 10.0
) -> Path:
    """Write report.html again and again until the run is finished, and return its path.

    Until then the page loads itself anew.

    Raises:
        UsageError: the directory is absent, is not a run directory, or an unknown language.
        FailedError: the page cannot be written (disk full, no permission).
    """
    while True:
        run = read_run(to_path(run_directory, name="run"))
        if run.status != "running":
            return _write(run, language=language, reload_s=None)
        _write(run, language=language, reload_s=every_s)
        time.sleep(every_s)


def _write(run: FitRun, *, language: str, reload_s: float | None) -> Path:
    path = run.directory / REPORT_FILE
    # A path or a class of an older run may hold bytes that no page can.
    page = plain_text(render_html(run, language=language, reload_s=reload_s))
    write_bytes(path, page.encode())
    return path
