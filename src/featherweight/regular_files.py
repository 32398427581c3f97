"""Open the files of a run where nothing but plain files and folders is expected.

A run directory may come from somebody else, or be removed while a run works in it: a link in it
must not lead a writer elsewhere, a pipe must not stop a reader, and a folder that is gone must not
come back without its lock.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from featherweight.errors import FailedError

__all__ = ["check_held", "guard_folder", "make_folder", "open_regular", "unguard_folder"]

_HELD: dict[Path, tuple[int, int]] = {}
"""Run directories that this process has locked -> device and inode of their lock."""


def open_regular(path: Path, flags: int) -> int:
    """Open a plain file and return its descriptor; a new one gets what the umask leaves of 0666.

    Raises:
        OSError: as `os.open` does; ELOOP where `path` is a link, EINVAL where it is no plain file.
    """
    # O_NONBLOCK: opening a pipe would wait for its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return descriptor


def guard_folder(folder: Path, *, lock: int) -> Path:
    """Remember a run directory by its lock's descriptor; return what `unguard_folder` takes."""
    seen, resolved = os.fstat(lock), folder.resolve()
    _HELD[resolved] = (seen.st_dev, seen.st_ino)
    return resolved


def unguard_folder(folder: Path) -> None:
    """Forget what `guard_folder` returned."""
    _HELD.pop(folder, None)


def check_held(path: Path) -> None:
    """See that the run directory in which `path` lies, if any, still has the lock it had.

    Raises:
        FailedError: it was removed or replaced.
    """
    if not _HELD:
        return
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        if folder in _HELD and _lock_of(folder) != _HELD[folder]:
            raise FailedError(
                f"the run directory {folder} was removed or replaced while this run worked in it",
                hint="start the command again; nothing more is written there",
            )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, but no run directory that was removed under its run.

    Raises:
        FailedError: it would lie in a run directory that is no longer there.
        OSError: it cannot be made.
    """
    check_held(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _lock_of(folder: Path) -> tuple[int, int] | None:
    try:
        seen = os.lstat(folder / "lock")
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
