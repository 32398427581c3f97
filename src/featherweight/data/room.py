"""Keep the cache of decoded pictures from filling the disk: least recently used files go first."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from pathlib import Path

__all__ = ["KEPT_BYTES", "make_room", "mark_used"]

logger = logging.getLogger(__name__)

KEPT_BYTES = 10 * 2**30
"""What stays of earlier commands. Files that this process used count nothing towards it."""

_SPARE_BYTES = 2**30
_SUFFIXES = (".json", ".npy", ".partial")
_STARTED = time.time()


def mark_used(path: Path) -> None:
    """Note that a file of the cache is used now."""
    os.utime(path)


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
    with stem.with_suffix(".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        for suffix in _SUFFIXES:
            stem.with_suffix(suffix).unlink(missing_ok=True)
    return True
