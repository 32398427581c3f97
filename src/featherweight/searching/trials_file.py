"""trials.jsonl: what became of every trial, one line each, for people and reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight.journal import encode_plain
from featherweight.records import Record, to_plain, write_bytes

__all__ = ["TRIALS_FILE", "TrialRow", "front_of", "note_trials"]

TRIALS_FILE = "trials.jsonl"


class TrialRow(Record):
    """One finished trial.

    Attributes:
        trial: its number.
        state: `trained`, `slow` (timed, not trained) or `failed`.
        network: what it is called; `None` = it was not named before it failed.
        options: which option of every choice.
        accuracy: on val, in 0..1, as the search goes by it; foretold from the score where the
            network was not trained alone.
        latency_ms: of its file.
        reward: what the search goes by, as it is counted at the end.
        macs: multiply-adds.
        score: what a cheap evaluator said.
        alone: accuracy after a training alone, of networks that were judged both ways.
        stopped: share of its training after which it had no hope and was stopped; its accuracy is
            foretold from there.
        reason: why it failed.
    """

    trial: int
    state: str
    network: str | None
    options: dict[str, str]
    accuracy: float | None = None
    latency_ms: float | None = None
    reward: float | None = None
    macs: int | None = None
    score: float | None = None
    alone: float | None = None
    stopped: float | None = None
    reason: str | None = None


def note_trials(run: Path, rows: Sequence[TrialRow]) -> None:
    """Write the rows: all of them anew, for a fitted reward counts earlier ones differently."""
    lines = [f"{encode_plain(to_plain(row), source=TRIALS_FILE)}\n" for row in rows]
    write_bytes(run / TRIALS_FILE, "".join(lines).encode())


def front_of(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the trained networks that none beats in both accuracy and milliseconds, fastest first.

    Args:
        rows: trained trials.
    """
    front: list[TrialRow] = []
    for row in sorted(rows, key=lambda row: (row.latency_ms or 0.0, -(row.accuracy or 0.0))):
        if not front or (row.accuracy or 0.0) > (front[-1].accuracy or 0.0):
            front.append(row)
    return front
