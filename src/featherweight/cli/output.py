"""The one place that writes to the terminal: data to stdout, talk to stderr.

Names of files, classes and devices may hold anything: what would move the cursor, hide a line or
end it is shown as text (`readable`), and what the terminal's encoding lacks as an escape.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.cells import cell_len

from featherweight.errors import FeatherweightError
from featherweight.readable import readable

__all__ = ["print_error", "print_json", "print_lines", "print_page", "print_table", "show_log"]

_LONG_WORD = re.compile(r"\S{301,}")
"""No path or name; a number of 400 digits would bury what is said about it."""


def show_log(*, quiet: bool) -> None:
    """Send the library's progress lines to stderr (warnings only when quiet)."""
    log = logging.getLogger("featherweight")
    log.handlers = [_LineHandler()]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)


class _LineHandler(logging.Handler):
    """One record is one line, whatever the width of the terminal or the pipe."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what is wrong is marked as such."""
        stamp, _, said = self.format(record).partition(" ")
        kind = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        _write(sys.stderr, f"{stamp} {kind}{readable(said)}\n")
        sys.stderr.flush()


def print_json(value: Any) -> None:
    """Write data for a program to stdout."""
    _write(sys.stdout, json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_lines(lines: Sequence[str]) -> None:
    """Write text for a person to stdout."""
    _write(sys.stdout, "".join(readable(line) + "\n" for line in lines))


def print_page(text: str) -> None:
    """Write text of our own that has lines, such as help, to stdout."""
    _write(sys.stdout, text.rstrip("\n") + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table for a person to stdout; every column but the first is right-aligned.

    Nothing is cut: a table wider than the terminal is wrapped by it. Headings of several words
    take several lines where that makes a column narrower.
    """
    cells = [[readable(cell) for cell in row] for row in rows]
    inside = [max((cell_len(row[k]) for row in cells), default=0) for k in range(len(columns))]
    headings = [_folded(name, inside[k]) for k, name in enumerate(columns)]
    height = max(len(heading) for heading in headings)
    raised = [[""] * (height - len(heading)) + heading for heading in headings]
    top = [list(line) for line in zip(*raised, strict=True)]
    widths = [max([inside[k], *map(cell_len, raised[k])]) for k in range(len(columns))]
    print_lines([_aligned(row, widths) for row in [*top, *cells]])


def print_error(error: FeatherweightError, *, as_json: bool) -> None:
    """Write an error: one line on stderr, or the JSON form of it on stdout."""
    if as_json:
        print_json({"error": error.message, "allowed": error.allowed, "hint": error.hint})
    line = readable(" ".join(str(error).split()))
    line = _LONG_WORD.sub(lambda word: f"{word[0][:40]}...({len(word[0])} letters)", line)
    _write(sys.stderr, f"error: {line}\n")


def _folded(heading: str, width: int) -> list[str]:
    """Break a heading between words where it is wider than what stands below it."""
    lines: list[str] = []
    for word in heading.split(" "):
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + pad if k == 0 else pad + cell
        for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        for pad in [" " * (width - cell_len(cell))]
    ]
    return "  ".join(padded).rstrip()


def _write(stream: TextIO, text: str) -> None:
    """Write text with escapes for letters that the stream's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
