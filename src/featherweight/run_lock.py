"""The lock of a run directory: who works there, whether anybody does, and how long by now."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple

from featherweight.errors import FailedError, FeatherweightError, RunDirectoryError, UsageError
from featherweight.regular_files import guard_folder, open_regular, unguard_folder

__all__ = ["Holder", "RunLock", "is_locked", "take_lock", "unusable"]

LOCK = "lock"
_clock = time.monotonic
_BEAT_S = 1.0
"""A killed run forgets at most this much of its time."""
_WIDTH = 32
"""Bytes of the note: it is written over the one before, and nothing is ever cut off."""
_NOTE = re.compile(rb"(?:(\d{1,10})(?: (\d{1,9}(?:\.\d{1,3})?))?)?\s*")
_TRIES, _PAUSE_S = 5, 0.02
"""`is_locked` of another process holds the lock for an instant: it is asked for again."""


class Holder(NamedTuple):
    """Who wrote the note in the lock last, and how long it had worked then."""

    pid: int
    elapsed_s: float


class RunLock:
    """A lock that is held, with a thread that notes every second how long.

    Args:
        path: the run directory.
        descriptor: of the locked file.
        before: whose note was in it.
    """

    def __init__(self, path: Path, *, descriptor: int, before: Holder | None) -> None:
        self.before = before
        self._descriptor: int | None = descriptor
        self._folder = guard_folder(path, lock=descriptor)
        self._started_s = _clock()
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="run heartbeat", daemon=True)
        self._note(0.0)
        self._beats.start()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was taken."""
        return _clock() - self._started_s

    def release(self) -> None:
        """Let go; calling it twice is allowed."""
        if self._descriptor is None:
            return
        self._ended.set()
        self._beats.join()
        unguard_folder(self._folder)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = None

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            self._note(self.elapsed_s)

    def _note(self, elapsed_s: float) -> None:
        assert self._descriptor is not None
        note = f"{os.getpid()} {elapsed_s:.1f}".ljust(_WIDTH - 1) + "\n"
        # On a full disk the note stays as it was; what matters is written, and reported, elsewhere.
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, note.encode(), 0)


def take_lock(path: Path) -> RunLock:
    """Lock a run directory for this process.

    Raises:
        RunDirectoryError: another process works there, or `lock` is no lock.
        UsageError: the lock cannot be made.
        FailedError: the disk is full.
    """
    try:
        descriptor = _open_lock(path)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO}:
            raise _no_lock(path) from error
        raise unusable(path, error) from error
    try:
        before = _read_note(path, descriptor)
        return RunLock(path, descriptor=descriptor, before=before)
    except BaseException:
        os.close(descriptor)
        raise


def is_locked(path: Path) -> bool:
    """Whether a process works in a run directory now."""
    try:
        descriptor = open_regular(path / LOCK, os.O_RDONLY)
    except OSError:  # no lock, or nothing that a run would have made
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def unusable(path: Path, error: OSError) -> FeatherweightError:
    """Return the error for a run directory that the system refuses."""
    kind = FailedError if error.errno in {errno.ENOSPC, errno.EDQUOT} else UsageError
    message = f"cannot use {path} as a run directory: {error.strerror}"
    return kind(message, hint="choose another --output or free space")


def _open_lock(path: Path) -> int:
    """Open and lock the file; the one that is there when the lock is held."""
    while True:
        descriptor = open_regular(path / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            _lock(path, descriptor)
            with contextlib.suppress(FileNotFoundError):  # deleted while it was being locked
                if os.path.samestat(os.fstat(descriptor), os.lstat(path / LOCK)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if left:
                time.sleep(_PAUSE_S)
                continue
            holder = _parse(os.pread(descriptor, _WIDTH, 0))
            who = "unknown" if holder is None else holder.pid
            raise RunDirectoryError(
                f"{path} is in use by process {who}",
                hint="wait for it to end or choose another --output",
            ) from error
        return


def _read_note(path: Path, descriptor: int) -> Holder | None:
    """Return the note; a file with anything else in it is somebody's, and stays as it is."""
    content = os.pread(descriptor, _WIDTH + 1, 0)
    if _NOTE.fullmatch(content) is None:
        raise _no_lock(path)
    return _parse(content)


def _parse(content: bytes) -> Holder | None:
    found = _NOTE.fullmatch(content)
    if found is None or found[1] is None:
        return None
    return Holder(int(found[1]), float(found[2] or 0.0))


def _no_lock(path: Path) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path / LOCK} is a link or holds something else than a run's lock",
        allowed="a plain file that a run wrote",
        hint="choose another --output, or delete that file",
    )
