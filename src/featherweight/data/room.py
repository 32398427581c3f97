"""Keep the cache of decoded pictures from filling the disk: least recently used files go first."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from featherweight.errors import FailedError

__all__ = ["KEPT_BYTES", "make_room", "mark_used", "open_lock", "replacing"]

logger = logging.getLogger(__name__)

KEPT_BYTES = 10 * 2**30
"""What stays of earlier commands. Files that this process used count nothing towards it."""

_SPARE_BYTES = 2**30
_SUFFIXES = (".json", ".npy", ".partial")
_STARTED = time.time()


def mark_used(path: Path) -> None:
    """Note that a file of the cache is used now; another user's file keeps its time."""
    with suppress(PermissionError):
        os.utime(path)


def open_lock(path: Path) -> int:
    """Open a lock file, created where absent, and return its descriptor.

    Raises:
        OSError: it cannot be opened.
        FailedError: it is a link, as somebody plants who wants its target emptied.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # another user's: enough for flock
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise FailedError(f"the lock {path} is a link", hint="remove it") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write to; it takes the place of `path` when all of it is on the disk.

    Whoever writes holds the lock of `path`.

    Raises:
        OSError: the file cannot be written.
    """
    # One name, not a random one: we hold the lock, so a leftover of a killed process is ours to
    # remove and never piles up. A link that somebody planted there is removed, or refused.
    temporary = path.with_suffix(".partial")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_room(directory: Path, *, needed_bytes: int, started: float = _STARTED) -> int:
    """Remove what was used longest ago, before a new file is written.

    Two reasons to remove: what earlier commands left is more than `KEPT_BYTES`; or the disk lacks
    room for the new file, and then this command's own files go too. A file that another process
    has mapped stays readable for it; one that is being built is left alone.

    Args:
        directory: of the cache files; they and what belongs to them share a stem.
        needed_bytes: size of the new file.
        started: seconds since the epoch; what was used since belongs to this command.

    Returns:
        bytes free on the disk afterwards.
    """
    files = sorted((used, path, size) for path, (used, size) in _stored(directory).items())
    surplus = sum(size for used, _, size in files if used < started) - KEPT_BYTES
    missing = needed_bytes + _SPARE_BYTES - shutil.disk_usage(directory).free
    removed = 0
    for used, path, size in files:
        if not (missing > 0 or (surplus > 0 and used < started)):
            break
        if _remove(path):
            removed += size
            missing -= size
            surplus -= size
    if removed:
        logger.info("picture cache: removed %.1f GB not used lately", removed / 1e9)
    return shutil.disk_usage(directory).free


def _stored(directory: Path) -> dict[Path, tuple[float, int]]:
    """Return by stem when a cache file was used last and how many bytes it and its seal take."""
    stored: dict[Path, tuple[float, int]] = {}
    for file in directory.iterdir():
        try:
            status = file.stat()
        except FileNotFoundError:  # another process removed it
            continue
        if file.suffix in _SUFFIXES:
            used, size = stored.get(file.with_suffix(""), (0.0, 0))
            stored[file.with_suffix("")] = max(used, status.st_mtime), size + status.st_size
    return stored


def _remove(stem: Path) -> bool:
    """Remove a cache file, its seal and its half-written form; False when it is being built.

    The lock file stays: a process that waits for it would else hold a lock that nobody sees.
    """
    try:
        lock = open_lock(stem.with_suffix(".lock"))
    except FailedError as error:
        logger.warning("%s", error)
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for suffix in _SUFFIXES:
            stem.with_suffix(suffix).unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
