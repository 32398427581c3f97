"""Append-only JSON lines: locked, fsynced, and able to lose at most the line being written."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featherweight.errors import FailedError, RecordError
from featherweight.records import parse_json
from featherweight.regular_files import make_folder, open_regular

__all__ = ["Journal", "encode_plain", "plain_digest"]

_CHUNK_BYTES = 1 << 16
_DAMAGED = "the disk or somebody changed the file: without that line the run can go on"


def encode_plain(value: object, *, source: str) -> str:
    """Return plain data as one line of JSON.

    Args:
        value: mappings with text keys, lists, text, numbers, booleans and None.
        source: file name, for the message.

    Raises:
        FailedError: a number is not finite; the message names its key.
        TypeError: a value is not plain data; the message names its key.
    """
    _check_plain(value, "", source)
    return json.dumps(value, allow_nan=False)


def plain_digest(plain: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain data: of its JSON with sorted keys.

    Raises:
        FailedError: a number is not finite.
        TypeError: a value is not plain data.
    """
    encode_plain(plain, source="digest")
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _check_plain(value: object, key: str, source: str) -> None:
    shown = key or "top level"
    if isinstance(value, float) and not math.isfinite(value):
        raise FailedError(f"cannot write {source}: {shown!r} is {value}, not a finite number")
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{source}: {shown!r} has the key {name!r}, which is not text")
            _check_plain(inner, f"{key}.{name}" if key else name, source)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{key}[{index}]", source)
    else:
        raise TypeError(f"{source}: {shown!r} is a {type(value).__name__}, not plain data")


class Journal:
    """A file of JSON lines that several processes may append to.

    A line counts when its newline has been written. What follows the last newline is the torn
    tail of an interrupted append: `read` ignores it, the next `append` cuts it off.

    Args:
        path: the file; made by the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, plain: Mapping[str, Any]) -> None:
        """Add one line and wait until it is on the disk.

        Raises:
            FailedError: a number is not finite, or the file cannot be written (disk full); the
                lines before stay as they were.
            TypeError: a value is not plain data.
        """
        line = encode_plain(plain, source=str(self.path)).encode() + b"\n"
        with self._locked() as descriptor:
            start = _cut_torn_tail(descriptor)
            try:
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, start)
                raise

    def read(self, *, event: str | None = None, needed: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return every whole line, oldest first; an absent file has none.

        Args:
            event: only lines with this `event`.
            needed: keys that each of those has.

        Raises:
            FailedError: the file cannot be read, or is a link or a pipe.
            RecordError: a whole line is not a JSON object with those keys; names the line.
        """
        try:
            with os.fdopen(open_regular(self.path, os.O_RDONLY), "rb") as stream:
                content = stream.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FailedError(f"cannot read {self.path}: {error.strerror}") from error
        *lines, _torn_tail = content.split(b"\n")
        decoded = [_decode(line, self.path, number) for number, line in enumerate(lines, start=1)]
        found = []
        for number, plain in enumerate(decoded, start=1):
            if event is not None and plain.get("event") != event:
                continue
            absent = [key for key in needed if key not in plain]
            if absent:
                message = f"{self.path}: line {number} has no {absent[0]!r}"
                raise RecordError(message, hint=_DAMAGED)
            found.append(plain)
        return found

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file for appending under an exclusive lock; map the system's errors."""
        try:
            make_folder(self.path.parent)
            is_new = not self.path.exists()
            descriptor = open_regular(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if is_new:
                    _sync_directory(self.path.parent)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise FailedError(
                f"cannot append to {self.path}: {error.strerror}",
                hint="free space or choose another --output",
            ) from error


def _decode(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        plain = parse_json(line)
    except ValueError as error:
        raise RecordError(f"{path}: line {number} is not JSON: {error}", hint=_DAMAGED) from error
    if not isinstance(plain, dict):
        raise RecordError(
            f"{path}: line {number} is not a JSON object (got {reprlib.repr(plain)})",
            hint=_DAMAGED,
        )
    return plain


def _write_all(descriptor: int, content: bytes) -> None:
    """Write everything; a short write (disk nearly full) is followed by the error's own."""
    while content:
        content = content[os.write(descriptor, content) :]


def _cut_torn_tail(descriptor: int) -> int:
    """Truncate the file after its last newline and return its size in bytes."""
    end = size = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _sync_directory(directory: Path) -> None:
    """Make the new file's name survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
