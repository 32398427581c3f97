"""What a run directory says about its run: run.yaml, and the finished stages."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from featherweight.errors import FailedError, RecordError, RunDirectoryError
from featherweight.journal import Journal, plain_digest
from featherweight.records import Record, parse_record, read_yaml, to_plain

__all__ = [
    "Attempt",
    "RunRecord",
    "StageRecord",
    "file_digest",
    "named_content",
    "newest_unfinished",
    "read_or_begin",
    "read_run_record",
    "read_stages",
    "sealed",
]

logger = logging.getLogger(__name__)

_SHOWN_DIFFERENCES = 3
_TIME = TypeAdapter(AwareDatetime)


class Attempt(Record):
    """One time a command worked in the directory.

    Attributes:
        command: the command line.
        started: ISO 8601 with time zone.
        pid: process that worked.
        elapsed_s: seconds between the start and the last heartbeat.
    """

    command: str
    started: str
    pid: int
    elapsed_s: float = Field(default=0.0, ge=0.0)


class RunRecord(Record):
    """What run.yaml holds.

    Attributes:
        identity: what was asked for, and of which pictures; what lies somewhere is in it by its
            content, so that it may be named otherwise or moved.
        given: what was named where, as the last attempt spelled it: `data` and the like.
        attempts: the oldest is first.
    """

    identity: dict[str, Any]
    given: dict[str, str] = Field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()


class StageRecord(Record):
    """One line of stages.jsonl: this stage is done for these inputs.

    Attributes:
        stage: its name.
        inputs_digest: of what it was done for.
        outputs: what a resumed attempt goes on with.
        files: each file it left (relative to the run directory when inside it) -> SHA-256.
        seconds: how long it took.
        finished: ISO 8601.
        seal: digest of all the rest: outputs that were changed are not gone on with.
    """

    stage: str
    inputs_digest: str
    outputs: dict[str, Any]
    files: dict[str, str]
    seconds: float
    finished: str
    seal: str = ""


def sealed(line: StageRecord) -> StageRecord:
    """Return the line with its seal."""
    plain = to_plain(line)
    del plain["seal"]
    return line.model_copy(update={"seal": plain_digest(plain)})


def read_stages(journal: Journal) -> list[StageRecord]:
    """Return the finished stages, oldest first; a damaged line is left out with a warning.

    Raises:
        RecordError: a line is not JSON.
    """
    found = []
    for number, plain in enumerate(journal.read(), start=1):
        try:
            line = parse_record(StageRecord, plain, source=f"{journal.path} line {number}")
        except RecordError as error:
            logger.warning("passing over a damaged line: %s", error)
            continue
        # A run of before has no seals.
        if line.seal and sealed(line).seal != line.seal:
            logger.warning(
                "passing over a damaged line: %s line %d is not what stage %s wrote",
                journal.path,
                number,
                line.stage,
            )
            continue
        found.append(line)
    return found


def read_run_record(file: Path) -> RunRecord:
    """Return what a run.yaml holds.

    Raises:
        RecordError: it is absent or holds something else.
    """
    if not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise RecordError(f"cannot read {file}: it is not a plain file")
    try:
        record = parse_record(RunRecord, read_yaml(file), source=str(file))
        plain_digest(record.identity)  # YAML holds dates, numbers as keys and loops; JSON does not
    except (FailedError, TypeError, RecursionError, OverflowError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(f"{file}: key 'identity': {first}") from error
    return record


def read_or_begin(path: Path, identity: dict[str, Any]) -> RunRecord:
    """Return the record of a directory; a new one when it has none.

    Raises:
        RecordError: its run.yaml is damaged.
        RunDirectoryError: it belongs to another run.
    """
    file = path / "run.yaml"
    if not file.exists():
        return RunRecord(identity=identity)
    record = read_run_record(file)
    differences = list(_differences(identity, record.identity))
    if differences:
        more = len(differences) - _SHOWN_DIFFERENCES
        shown = ", ".join(differences[:_SHOWN_DIFFERENCES]) + (f" and {more} more" * (more > 0))
        raise RunDirectoryError(
            f"{path} belongs to another run: {shown}",
            hint="repeat that run's command or choose another --output",
        )
    return record


def newest_unfinished(parent: Path, digest: str) -> Path | None:
    """Return the run of that identity without summary.json that was begun last."""
    found: list[tuple[datetime, str, Path]] = []
    for file in parent.glob("*/run.yaml"):
        if (file.parent / "summary.json").exists():
            continue
        try:
            record = read_run_record(file)
            begun = _TIME.validate_python(record.attempts[0].started)
        except (RecordError, IndexError, ValidationError) as error:
            first = str(error).splitlines()[0]
            logger.warning("passing over %s: %s", file.parent, first)
            continue
        if plain_digest(record.identity) == digest:
            found.append((begun, file.parent.name, file.parent))
    return max(found)[2] if found else None


def named_content(text: str, *, files: tuple[str, ...] = ("architecture.json",)) -> str:
    """Return what an identity says of something that a name or a path stands for.

    Args:
        text: a path gives the digest of what lies there, any other text itself.
        files: what counts of a folder; one without all of them is no path.
    """
    here = [os.path.join(text, name) for name in files]  # noqa: PTH118 - see `read_run_record`
    chosen = [text] if os.path.isfile(text) else here  # noqa: PTH113
    digests = [file_digest(Path(file)) for file in chosen if os.path.isfile(file)]  # noqa: PTH113
    if len(digests) < len(chosen) or None in digests:
        return text
    return "sha256:" + hashlib.sha256("".join(map(str, digests)).encode()).hexdigest()


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file's content, or `None` when it cannot be read.

    A device or a pipe cannot: it may never end.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - is_file raises for a name that is too long
        return None
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    return None


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Say for each key that differs what it is here and there."""
    for key in sorted({*here, *there}):
        mine, theirs = here.get(key), there.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{at}{key}.")
        elif mine != theirs or (key in here) != (key in there):
            shown = [repr(side[key]) if key in side else "absent" for side in (here, there)]
            yield f"{at}{key} is {shown[0]}, there {shown[1]}"
