"""The exceptions a caller of featherweight may meet.

::

    FeatherweightError            what was wrong, what is allowed, what to do
    +-- UsageError                exit 2: wrong argument, unknown name, unreadable value
    |   +-- RecordError           a file or mapping does not describe the record it should
    |   +-- ArchitectureError     blocks that do not fit together
    |   +-- DataError             pictures or labels that cannot be used
    |   +-- UnsupportedError      a runtime cannot do what was asked of it
    |   +-- MissingDependencyError  an optional library is not installed
    |   +-- RunDirectoryError     a run directory is locked or belongs to another run
    +-- FailedError               exit 1: the work itself failed (disk full, broken file)
    |   +-- DivergedError         the loss of a training is not finite
    +-- DeviceError               exit 4: the device does not answer or refuses
        +-- DeviceUnreachableError  there is no connection, or it broke
"""

from __future__ import annotations

from featherweight.readable import readable

__all__ = [
    "ArchitectureError",
    "DataError",
    "DeviceError",
    "DeviceUnreachableError",
    "DivergedError",
    "FailedError",
    "FeatherweightError",
    "MissingDependencyError",
    "RecordError",
    "RunDirectoryError",
    "UnsupportedError",
    "UsageError",
    "WorkerLostError",
]


class FeatherweightError(Exception):
    """Base of every error featherweight raises on purpose.

    Args:
        message: what was wrong, with the offending value.
        allowed: what would have been accepted, if that can be listed.
        hint: what the caller should do next.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, allowed: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.allowed = allowed
        self.hint = hint

    def __str__(self) -> str:
        """Return the one line a user reads; names in it do nothing to the terminal."""
        parts = [self.message]
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.hint:
            parts.append(self.hint)
        return readable(" ".join(line.strip() for line in "; ".join(parts).splitlines()))


class UsageError(FeatherweightError):
    """An argument, name, unit or file that cannot be used as given."""

    exit_code = 2


class RecordError(UsageError):
    """A file or mapping does not describe the record it should; names the key path."""


class ArchitectureError(UsageError):
    """Blocks that do not fit together or use fields their operator does not have."""


class DataError(UsageError):
    """Pictures or labels that cannot be used."""


class UnsupportedError(UsageError):
    """A runtime or an operator cannot do what was asked of it."""


class MissingDependencyError(UsageError):
    """An optional library is not installed; the hint is the pip line."""


class RunDirectoryError(UsageError):
    """A run directory is locked by another process or belongs to another run."""


class FailedError(FeatherweightError):
    """The work itself failed: a loss that is not finite, a full disk, a broken cache."""


class DivergedError(FailedError):
    """The loss of a training stopped being finite."""


class WorkerLostError(FailedError):
    """A worker process ended by itself again and again: it was killed, or had no memory left."""


class DeviceError(FeatherweightError):
    """A device does not answer, or a command on it failed."""

    exit_code = 4


class DeviceUnreachableError(DeviceError):
    """There is no connection to a device, or it broke: trying again may help."""
