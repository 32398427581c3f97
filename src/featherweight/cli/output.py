"""The one place that writes to the terminal: data to stdout, talk to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from featherweight.errors import FeatherweightError

__all__ = ["print_error", "print_json", "print_lines", "print_table", "show_log"]


def show_log(*, quiet: bool) -> None:
    """Send the library's progress lines to stderr (warnings only when quiet)."""
    console = Console(stderr=True)
    handler = RichHandler(
        console=console, show_path=False, show_level=False, markup=False, highlighter=None,
        log_time_format="%H:%M:%S", omit_repeated_times=False,
    )  # fmt: skip
    log = logging.getLogger("featherweight")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def print_json(value: Any) -> None:
    """Write data for a program to stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_lines(lines: Sequence[str]) -> None:
    """Write text for a person to stdout."""
    sys.stdout.write("\n".join(lines) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table for a person to stdout; every column but the first is right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, markup=False, highlight=False, width=width).print(table)


def print_error(error: FeatherweightError, *, as_json: bool) -> None:
    """Write an error: one line on stderr, or the JSON form of it on stdout."""
    if as_json:
        print_json({"error": error.message, "allowed": error.allowed, "hint": error.hint})
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
