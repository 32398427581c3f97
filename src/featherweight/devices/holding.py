"""What devices that are not this machine share: a lock, a private folder, the last words."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from featherweight.devices.device import CompletedRun
from featherweight.errors import DeviceError

__all__ = ["device_key", "held", "last_line", "own_folder", "run_program"]

logger = logging.getLogger(__name__)

_WAIT_S = 900.0
"""For another process of this machine that measures on the device."""


@contextlib.contextmanager
def held(url: str) -> Iterator[None]:
    """Hold a device against other processes of this machine that measure on it.

    Raises:
        DeviceError: one of them held it for a quarter of an hour, or the lock is a link.
    """
    descriptor = _open_lock(own_folder() / f"{device_key(url)}.lock")
    try:
        deadline = time.monotonic() + _WAIT_S
        told = False
        while not _locked(descriptor):
            if not told:
                logger.info("the device %s is measured on by another process", url)
                told = True
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"another process has been using the device {url!r} for "
                    f"{_WAIT_S / 60:.0f} minutes",
                    hint="end it, or wait",
                )
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)  # this releases the lock


def run_program(
    argv: Sequence[str], *, url: str, timeout_s: float, install: str, stdin: bytes = b""
) -> CompletedRun:
    """Run the system's program that reaches a device; it is killed on a timeout and on Ctrl-C.

    Args:
        argv: program and arguments.
        url: of the device, for messages.
        timeout_s: seconds after which it is killed.
        install: what the user installs where there is no such program.
        stdin: given to it.

    Raises:
        DeviceError: there is no such program, or it ran past `timeout_s`.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"a command on the device {url!r} ran past {timeout_s:.0f} s") from error
    except OSError as error:
        raise DeviceError(
            f"cannot start {argv[0]}: {error.strerror}", hint=f"install {install}"
        ) from error
    stdout, stderr = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
    return CompletedRun(done.returncode, stdout, stderr)


def device_key(url: str) -> str:
    """Return what names the files of a device in `own_folder`."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def own_folder() -> Path:
    """Return this user's folder of locks and sockets; short, for sockets have at most 100 bytes.

    Raises:
        DeviceError: it belongs to another user, or is a link or a file that somebody put there.
    """
    folder = Path(tempfile.gettempdir()) / f"featherweight-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # a link of another user may lead to a folder of ours
    wrong = None
    if stat.S_ISLNK(found.st_mode):
        wrong = "is a link"
    elif not stat.S_ISDIR(found.st_mode):
        wrong = "is no folder"
    elif found.st_uid != os.getuid():
        wrong = "belongs to another user"
    if wrong:
        raise DeviceError(f"{folder} {wrong}", hint="remove it, or set TMPDIR to a folder of yours")
    return folder


def last_line(said: str) -> str:
    """Return the last line that tells something: tar ends with one that does not."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("tar: Exiting with")]
    return (telling or lines or ["it says nothing"])[-1]


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        wrong = "is a link" if error.errno == errno.ELOOP else f"cannot be opened: {error.strerror}"
        raise DeviceError(f"the lock {path} {wrong}", hint="remove it") from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
