"""One run's folder: whose it is, who works in it, what is done, and how long it took."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from featherweight.environment import note_environment
from featherweight.errors import FailedError, RecordError, RunDirectoryError, UsageError
from featherweight.journal import Journal, encode_plain, plain_digest
from featherweight.records import (
    SCHEMA_VERSION,
    Record,
    parse_record,
    read_yaml,
    to_plain,
    write_bytes,
    write_json,
)

__all__ = ["Attempt", "RunDirectory", "RunRecord", "StageRecord", "open_run"]

logger = logging.getLogger(__name__)

_SHOWN_DIFFERENCES = 3


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
    elapsed_s: float = 0.0


class RunRecord(Record):
    """What run.yaml holds; the oldest attempt is first."""

    identity: dict[str, Any]
    attempts: tuple[Attempt, ...] = ()


class StageRecord(Record):
    """One line of stages.jsonl: this stage is done for these inputs.

    `files` maps each file it left (relative to the run directory when inside it) to its SHA-256.
    """

    stage: str
    inputs_digest: str
    outputs: dict[str, Any]
    files: dict[str, str]
    seconds: float
    finished: str


def open_run(
    output: Path | None, *, parent: Path = Path("runs"), identity: Mapping[str, Any], command: str
) -> RunDirectory:
    """Create a run directory or continue an interrupted one; locked until its context ends.

    Args:
        output: the directory to use; `None` = the newest unfinished run of this identity under
            `parent`, else a new directory `parent/<name>-<YYYYMMDD-HHMMSS>`.
        parent: where runs are kept.
        identity: effective configuration and data fingerprint (plain data); two runs with equal
            identities are one run. `identity["name"]` names a new directory.
        command: the command line, for the record.

    Raises:
        RunDirectoryError: the directory belongs to another run, or another process works in it.
        UsageError: the directory cannot be made or is no run directory.
        FailedError: the disk is full.
    """
    plain = json.loads(encode_plain(identity, source="run identity"))
    if output is not None:
        path = _make_directory(output)
    else:
        found = _newest_unfinished(parent, plain_digest(plain))
        path = found or _new_directory(parent, str(plain.get("name", "run")))
    lock = _take_lock(path)
    try:
        record = _read_or_begin(path, plain)
        attempt = Attempt(command=command, started=_now(), pid=os.getpid())
        record = RunRecord(identity=plain, attempts=(*record.attempts, attempt))
        run = RunDirectory(path, record=record, lock=lock)
        run.beat()
        note_environment(path / "environment.json")
    except BaseException:
        os.close(lock)
        raise
    return run


class RunDirectory:
    """A locked run directory; use it as a context manager.

    Args:
        path: the directory.
        record: its run.yaml; the last attempt is this one.
        lock: descriptor of the locked file `lock`.
    """

    def __init__(self, path: Path, *, record: RunRecord, lock: int) -> None:
        self.path = path
        self.identity: dict[str, Any] = record.identity
        self.attempts = record.attempts
        self._lock: int | None = lock
        self._started_s = time.monotonic()
        self._before_s = sum(attempt.elapsed_s for attempt in record.attempts[:-1])
        self._stages = Journal(path / "stages.jsonl")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Record the time worked and release the lock."""
        try:
            self.beat()
        except FailedError:
            if error is None:  # else the error that ended the run matters more
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock; calling it twice is allowed."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    @property
    def elapsed_s(self) -> float:
        """Seconds worked in all attempts: up to the last heartbeat of each, up to now in this."""
        return self._before_s + time.monotonic() - self._started_s

    @property
    def finished(self) -> bool:
        """Whether summary.json has been written."""
        return (self.path / "summary.json").exists()

    def beat(self) -> None:
        """Record how long this attempt has worked, in case it is killed.

        Raises:
            FailedError: the disk is full.
        """
        *before, current = self.attempts
        beaten = current.model_copy(update={"elapsed_s": time.monotonic() - self._started_s})
        self.attempts = (*before, beaten)
        record = RunRecord(identity=self.identity, attempts=self.attempts)
        plain = {"schema_version": SCHEMA_VERSION, **to_plain(record)}
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        write_bytes(self.path / "run.yaml", text.encode())

    def stage_done(self, name: str, *, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the outputs of a stage finished with these inputs, or `None`.

        A stage whose files were changed or deleted since then is not done.
        """
        digest = plain_digest(inputs)
        for plain in reversed(self._stages.read()):
            line = parse_record(StageRecord, plain, source=str(self._stages.path))
            if (line.stage, line.inputs_digest) != (name, digest):
                continue
            # An absolute path stays itself when joined.
            found = {name: _sha256(self.path / name) for name in line.files}
            changed = [name for name in found if found[name] != line.files[name]]
            if not changed:
                return line.outputs
            logger.warning("stage %s is done again: %s changed since", name, changed[0])
        return None

    def finish_stage(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        files: Sequence[Path] = (),
        seconds: float,
    ) -> None:
        """Record that a stage is done; also a heartbeat.

        Args:
            name: of the stage.
            inputs: plain data; other inputs make the stage be done again.
            outputs: plain data that `stage_done` gives back.
            files: what the stage wrote.
            seconds: how long it took.

        Raises:
            FailedError: a file is absent, a number is not finite, or the disk is full.
            TypeError: inputs or outputs are not plain data.
        """
        encode_plain(outputs, source=f"outputs of stage {name}")
        line = StageRecord(
            stage=name, inputs_digest=plain_digest(inputs), outputs=dict(outputs),
            files=_describe_files(self.path, files), seconds=seconds, finished=_now(),
        )  # fmt: skip
        self._stages.append(to_plain(line))
        self.beat()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished.

        Raises:
            FailedError: a number is not finite, or the file cannot be written.
            TypeError: the summary is not plain data.
        """
        encode_plain(summary, source="summary.json")
        self.beat()
        write_json(self.path / "summary.json", dict(summary))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _unusable(path: Path, error: OSError) -> UsageError | FailedError:
    kind = FailedError if error.errno in {errno.ENOSPC, errno.EDQUOT} else UsageError
    message = f"cannot use {path} as a run directory: {error.strerror}"
    return kind(message, hint="choose another --output or free space")


def _make_directory(path: Path) -> Path:
    """Make `path`, or accept it when it is empty or already a run directory."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / "run.yaml").exists():
            return path
        # A crash between taking the lock and writing run.yaml leaves only these.
        strangers = [p.name for p in path.iterdir() if not re.match(r"lock$|\.run\.yaml\.", p.name)]
    except OSError as error:
        raise _unusable(path, error) from error
    if strangers:
        raise RunDirectoryError(
            f"{path} is not a run directory and not empty (it has {min(strangers)!r})",
            hint="choose another --output",
        )
    return path


def _new_directory(parent: Path, name: str) -> Path:
    """Make `parent/<name>-<time>`, with a number after it when that second is taken."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
    stem = f"{clean}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    path, number = parent / stem, 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
            number += 1
            path = parent / f"{stem}-{number}"
    except OSError as error:
        raise _unusable(parent, error) from error


def _newest_unfinished(parent: Path, digest: str) -> Path | None:
    """Return the run of that identity without summary.json that was begun last."""
    found: list[tuple[datetime, str, Path]] = []
    for file in parent.glob("*/run.yaml"):
        if (file.parent / "summary.json").exists():
            continue
        try:
            record = parse_record(RunRecord, read_yaml(file), source=str(file))
            begun = datetime.fromisoformat(record.attempts[0].started)
        except (RecordError, IndexError, TypeError, ValueError) as error:
            logger.warning("passing over %s: %s", file.parent, error)
            continue
        if plain_digest(record.identity) == digest:
            found.append((begun, file.parent.name, file.parent))
    return max(found)[2] if found else None


def _take_lock(path: Path) -> int:
    """Lock the directory for this process and write its pid into the lock file."""
    descriptor: int | None = None
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = b""
        if descriptor is not None:
            holder = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise RunDirectoryError(
                f"{path} is in use by process {holder.decode() or 'unknown'}",
                hint="wait for it to end or choose another --output",
            ) from error
        raise _unusable(path, error) from error
    return descriptor


def _read_or_begin(path: Path, identity: dict[str, Any]) -> RunRecord:
    """Return the directory's record; a new one when it has none."""
    file = path / "run.yaml"
    if not file.exists():
        return RunRecord(identity=identity)
    record = parse_record(RunRecord, read_yaml(file), source=str(file))
    differences = list(_differences(identity, record.identity))
    if differences:
        more = len(differences) - _SHOWN_DIFFERENCES
        shown = ", ".join(differences[:_SHOWN_DIFFERENCES]) + (f" and {more} more" * (more > 0))
        raise RunDirectoryError(
            f"{path} belongs to another run: {shown}",
            hint="repeat that run's command or choose another --output",
        )
    return record


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Say for each key that differs what it is here and there."""
    for key in sorted({*here, *there}):
        mine, theirs = here.get(key), there.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{at}{key}.")
        elif mine != theirs or (key in here) != (key in there):
            shown = [repr(side[key]) if key in side else "absent" for side in (here, there)]
            yield f"{at}{key} is {shown[0]}, there {shown[1]}"


def _sha256(path: Path) -> str | None:
    """Return the digest of a file's content, or `None` when it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    return None


def _describe_files(directory: Path, files: Sequence[Path]) -> dict[str, str]:
    described = {}
    root = directory.resolve()
    for file in files:
        path, digest = file.resolve(), _sha256(file)
        if digest is None:
            raise FailedError(f"a stage's file {file} cannot be read")
        described[str(path.relative_to(root) if path.is_relative_to(root) else path)] = digest
    return described
