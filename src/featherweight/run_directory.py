"""One run's folder: whose it is, who works in it, what is done, and how long it took."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml

from featherweight.environment import note_environment
from featherweight.errors import FailedError, RecordError, RunDirectoryError
from featherweight.journal import Journal, encode_plain, plain_digest
from featherweight.records import (
    SCHEMA_VERSION,
    Record,
    parse_record,
    to_plain,
    write_bytes,
    write_json,
)
from featherweight.regular_files import check_held
from featherweight.run_lock import RunLock, take_lock, unusable
from featherweight.run_record import (
    Attempt,
    RunRecord,
    StageRecord,
    file_digest,
    newest_unfinished,
    read_or_begin,
    read_stages,
    sealed,
)

__all__ = ["Attempt", "RunDirectory", "RunRecord", "StageRecord", "is_begun", "open_run"]

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

_LONGEST_NAME = 100
"""Letters of a new directory's name before its time; file systems allow 255 bytes, UTF-8 takes 4
for one letter at most."""


def open_run(
    output: Path | None,
    *,
    parent: Path = Path("runs"),
    identity: Mapping[str, Any],
    command: str,
    name: str = "run",
    given: Mapping[str, str] | None = None,
) -> RunDirectory:
    """Create a run directory or continue an interrupted one; locked until its context ends.

    Args:
        output: the directory to use; `None` = the newest unfinished run of this identity under
            `parent`, else a new directory `parent/<name>-<YYYYMMDD-HHMMSS>`.
        parent: where runs are kept.
        identity: effective configuration and data fingerprint (plain data); two runs with equal
            identities are one run. Paths are no part of it: see `run_record.named_content`.
        command: the command line, for the record.
        name: of a new directory.
        given: what lay where, for the record: the paths as they were spelled.

    Raises:
        RunDirectoryError: the directory belongs to another run, or another process works in it.
        UsageError: the directory cannot be made or is no run directory.
        FailedError: the disk is full.
    """
    plain = json.loads(encode_plain(identity, source="run identity"))
    if output is not None:
        path = _make_directory(output)
    else:
        path = newest_unfinished(parent, plain_digest(plain)) or _new_directory(parent, name)
    _refuse_links(path)
    lock = take_lock(path)
    try:
        record = read_or_begin(path, plain)
        before = _with_last_beat(record.attempts, lock)
        attempt = Attempt(command=command, started=_now(), pid=os.getpid())
        record = RunRecord(identity=plain, given=dict(given or {}), attempts=(*before, attempt))
        run = RunDirectory(path, record=record, lock=lock)
        run.heartbeat()
        note_environment(path / "environment.json")
    except BaseException:
        lock.release()
        raise
    return run


def is_begun(output: Path | None, *, parent: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether `open_run` would go on with a run, or read a finished one."""
    if output is not None:
        return (output / "run.yaml").exists()
    plain = json.loads(encode_plain(identity, source="run identity"))
    return newest_unfinished(parent, plain_digest(plain)) is not None


class RunDirectory:
    """A locked run directory; use it as a context manager.

    Args:
        path: the directory.
        record: its run.yaml; the last attempt is this one.
        lock: of the directory.
    """

    def __init__(self, path: Path, *, record: RunRecord, lock: RunLock) -> None:
        self.path = path
        self.identity: dict[str, Any] = record.identity
        self.given = record.given
        self.attempts = record.attempts
        self._lock = lock
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
            self.heartbeat()
        except FailedError:
            if error is None:  # else the error that ended the run matters more
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock; calling it twice is allowed."""
        self._lock.release()

    @property
    def elapsed_s(self) -> float:
        """Seconds worked in all attempts, up to now in this one.

        A killed attempt counts up to its last heartbeat, which is at most a second old.
        """
        return self._before_s + self._lock.elapsed_s

    @property
    def finished(self) -> bool:
        """Whether summary.json has been written."""
        return (self.path / "summary.json").exists()

    def heartbeat(self) -> None:
        """Record how long this attempt has worked, in case the power fails.

        After a kill the note in the lock tells, which is written every second.

        Raises:
            FailedError: the disk is full, or the directory was removed.
        """
        check_held(self.path)
        *before, current = self.attempts
        self.attempts = (*before, current.model_copy(update={"elapsed_s": self._lock.elapsed_s}))
        record = RunRecord(identity=self.identity, given=self.given, attempts=self.attempts)
        plain = {"schema_version": SCHEMA_VERSION, **to_plain(record)}
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        write_bytes(self.path / "run.yaml", text.encode())

    @property
    def stages_done(self) -> int:
        """How many stages are finished."""
        return len(read_stages(self._stages))

    def stage(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        outputs: type[R],
        work: Callable[[], R],
        files: Callable[[], Sequence[Path]] = tuple,
    ) -> R:
        """Do a stage once: what an earlier attempt finished is read back.

        Args:
            name: of the stage.
            inputs: plain data; other inputs make the stage be done again.
            outputs: the record that `work` returns.
            work: does it.
            files: names what it wrote, once it is done.

        Raises:
            RecordError: another version of featherweight finished this stage.
            FailedError: a file is absent, a number is not finite, or the disk is full.
        """
        done = self.stage_done(name, inputs=inputs)
        if done is not None:
            source = f"stage {name} in {self.path / 'stages.jsonl'}"
            try:
                return parse_record(outputs, done, source=source)
            except RecordError as error:
                raise RecordError(
                    error.message,
                    hint="another version of featherweight wrote it: choose another --output",
                ) from error
        started = time.monotonic()
        found = work()
        seconds = time.monotonic() - started
        self.finish_stage(
            name, inputs=inputs, outputs=to_plain(found), files=files(), seconds=seconds
        )
        return found

    def stage_done(self, name: str, *, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the outputs of a stage finished with these inputs, or `None`.

        A stage whose line, or whose files, were changed or deleted since then is not done.
        """
        digest = plain_digest(inputs)
        for line in reversed(read_stages(self._stages)):
            if (line.stage, line.inputs_digest) != (name, digest):
                continue
            # An absolute path stays itself when joined.
            found = {name: file_digest(self.path / name) for name in line.files}
            changed = [name for name in found if found[name] != line.files[name]]
            if not changed and line.seal:
                return line.outputs
            what = f"{changed[0]} changed since" if changed else "its line has no seal"
            logger.warning("stage %s is done again: %s", name, what)
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
            stage=name,
            inputs_digest=plain_digest(inputs),
            outputs=dict(outputs),
            files=_describe_files(self.path, files),
            seconds=seconds,
            finished=_now(),
        )
        self._stages.append(to_plain(sealed(line)))
        self.heartbeat()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished.

        Raises:
            FailedError: a number is not finite, or the file cannot be written.
            TypeError: the summary is not plain data.
        """
        encode_plain(summary, source="summary.json")
        self.heartbeat()
        write_json(self.path / "summary.json", dict(summary))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _make_directory(path: Path) -> Path:
    """Make `path`, or accept it when it is empty or already a run directory."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / "run.yaml").exists():
            return path
        # A crash between taking the lock and writing run.yaml leaves only these.
        strangers = [p.name for p in path.iterdir() if not re.match(r"lock$|\.run\.yaml\.", p.name)]
    except OSError as error:
        raise unusable(path, error) from error
    if strangers:
        raise RunDirectoryError(
            f"{path} is not a run directory and not empty (it has {min(strangers)!r})",
            hint="choose another --output",
        )
    return path


def _new_directory(parent: Path, name: str) -> Path:
    """Make `parent/<name>-<time>`, with a number after it when that second is taken."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_LONGEST_NAME].strip("-.") or "run"
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
        raise unusable(parent, error) from error


def _refuse_links(path: Path) -> None:
    """Refuse a run directory with links or pipes in it: what a run writes stays inside.

    It may be a link itself. A run makes plain files and folders only, and at its end it deletes
    some of the folders.

    Raises:
        RunDirectoryError: names the first of them.
        UsageError: a folder cannot be read.
    """
    try:
        for entry, mode in _entries(path):
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "no plain file"
                raise RunDirectoryError(
                    f"{entry.path} is {kind}: a run directory holds plain files and folders",
                    hint="delete it, or choose another --output",
                )
    except OSError as error:
        raise unusable(path, error) from error


def _entries(folder: Path | str) -> Iterator[tuple[os.DirEntry[str], int]]:
    """Return everything below a folder with its mode; links are not followed.

    What another process replaces or deletes just now is left out.
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield entry, entry.stat(follow_symlinks=False).st_mode
                if entry.is_dir(follow_symlinks=False):
                    yield from _entries(entry.path)


def _with_last_beat(attempts: tuple[Attempt, ...], lock: RunLock) -> tuple[Attempt, ...]:
    """Return the attempts; the last one, if it was killed, with the time its lock tells."""
    if not attempts or lock.before is None or lock.before.pid != attempts[-1].pid:
        return attempts
    *before, last = attempts
    elapsed_s = max(last.elapsed_s, lock.before.elapsed_s)
    return (*before, last.model_copy(update={"elapsed_s": elapsed_s}))


def _describe_files(directory: Path, files: Sequence[Path]) -> dict[str, str]:
    described = {}
    root = directory.resolve()
    for file in files:
        path, digest = file.resolve(), file_digest(file)
        if digest is None:
            raise FailedError(f"a stage's file {file} cannot be read")
        described[str(path.relative_to(root) if path.is_relative_to(root) else path)] = digest
    return described
