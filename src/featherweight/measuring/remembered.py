"""Use what a cut attempt measured in the stage it was cut in.

Shopping takes minutes, and its stage is journalled when it is finished: without this, a machine
that is taken away every quarter of a minute would shop forever. Every measurement is written down
as soon as its process ends, with the stage and the attempt it belongs to. The next attempt asks for
the same networks in the same order, since what is asked follows from what was measured, and gets
those first.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featherweight.errors import RecordError
from featherweight.journal import Journal
from featherweight.measuring.bench import Measure, Untrained
from featherweight.measuring.measurement import Measurement
from featherweight.records import parse_record, to_plain
from featherweight.run_directory import RunDirectory

__all__ = ["Remembered"]

logger = logging.getLogger(__name__)

_Key = tuple[str, str, str, int]
"""Purpose, digest of the architecture, precision, samples asked for."""

_PIECE_S = 8.0
"""Shopping times at most so many seconds in one process: what it has found by then is safe."""
_IN_PIECES = ("shop", "first networks")
"""Purposes for which many networks are timed."""
_FEWEST = 3
"""... but a size with its two neighbours, which take turns."""
_TAGS = ("purpose", "architecture", "precision", "asked", "stages_done", "attempt")


class Remembered:
    """The measurements of a run that were taken to choose, with those of a cut attempt.

    Args:
        run: its directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._journal = Journal(run.path / "measurements.jsonl")
        self._left: dict[_Key, deque[Measurement]] | None = None
        self._left_of = -1

    def measuring(self, measure: Measure, *, purpose: str) -> Measure:
        """Return `measure` with its results journalled, and those of a cut attempt used first.

        Args:
            measure: times networks that take turns.
            purpose: what the measurements are for.
        """

        def remembering(
            wanted: Sequence[Untrained], folder: Path, samples: int
        ) -> list[Measurement]:
            left = self._left_over()
            found: dict[int, Measurement] = {}
            for index, one in enumerate(wanted):
                before = left.get(_key(one, purpose=purpose, samples=samples))
                if before:
                    found[index] = before.popleft()
            if found:
                logger.info("%s: %d measured before the cut", purpose, len(found))
            new = [index for index in range(len(wanted)) if index not in found]
            for piece in _pieces(new, wanted, samples=samples, whole=purpose not in _IN_PIECES):
                measured = measure([wanted[index] for index in piece], folder, samples)
                for index, measurement in zip(piece, measured, strict=True):
                    self._note(measurement, wanted[index], purpose=purpose, samples=samples)
                    found[index] = measurement
            return [found[index] for index in range(len(wanted))]

        return remembering

    def _note(
        self, measurement: Measurement, wanted: Untrained, *, purpose: str, samples: int
    ) -> None:
        self._journal.append(
            {
                **to_plain(measurement),
                "purpose": purpose,
                "architecture": wanted.architecture.digest,
                "precision": wanted.precision,
                "asked": samples,
                "stages_done": self._run.stages_done,
                "attempt": len(self._run.attempts),
            }
        )

    def _left_over(self) -> dict[_Key, deque[Measurement]]:
        """Return what earlier attempts measured in the stage that is under way."""
        stages_done = self._run.stages_done
        if self._left is None:
            self._left_of = stages_done
            self._left = {}
            for key, measurement in self._earlier(stages_done):
                self._left.setdefault(key, deque()).append(measurement)
        if self._left_of != stages_done:  # that stage is finished: this is a later one
            self._left = {}
        return self._left

    def _earlier(self, stages_done: int) -> Iterator[tuple[_Key, Measurement]]:
        for number, line in enumerate(self._journal.read(), start=1):
            tags: dict[str, Any] = {tag: line.pop(tag, None) for tag in _TAGS}
            attempt = tags["attempt"]
            if tags["stages_done"] != stages_done or not isinstance(attempt, int):
                continue
            if attempt >= len(self._run.attempts):
                continue
            source = f"{self._journal.path} line {number}"
            try:
                measurement = parse_record(Measurement, line, source=source)
            except RecordError as error:
                logger.warning("measuring again: %s", error)
                continue
            key = (tags["purpose"], tags["architecture"], tags["precision"], tags["asked"])
            if all(isinstance(part, str | int) for part in key):
                yield key, measurement


def _key(wanted: Untrained, *, purpose: str, samples: int) -> _Key:
    return purpose, wanted.architecture.digest, wanted.precision, samples


def _pieces(
    indices: Sequence[int], wanted: Sequence[Untrained], *, samples: int, whole: bool
) -> Iterator[list[int]]:
    """Cut what is measured into what one process does; of one precision each, as it would be.

    Where sizes of one network are compared (`whole`), they take turns in one process.
    """
    most = len(indices) if whole else max(_FEWEST, int(_PIECE_S / _likely_s(samples)))
    for precision in dict.fromkeys(wanted[index].precision for index in indices):
        same = [index for index in indices if wanted[index].precision == precision]
        for start in range(0, len(same), most):
            yield same[start : start + most]


def _likely_s(samples: int) -> float:
    """Return what one network takes: warm-up, and samples of some 12 ms each."""
    return 0.5 + 0.012 * samples
