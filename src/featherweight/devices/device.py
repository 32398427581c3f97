"""What measuring needs of a device: facts about it, files on it, commands run on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from featherweight.records import Record
from featherweight.registry import Registry

__all__ = ["DEVICES", "DEVICE_SCHEMES", "CompletedRun", "Device", "DeviceInfo"]


class DeviceInfo(Record):
    """Facts about a device that a measured time cannot be read without.

    Attributes:
        cpu: model name as the system states it.
        cores: CPUs that a process started here may use (not those the machine may hold).
        memory_bytes: physical memory; `None` where the system does not say.
        os: system and release.
        arch: machine architecture, such as `x86_64` or `aarch64`.
        governor: frequency governor of the first CPU; `None` where there is none (virtual
            machines, systems other than Linux).
        int8_pairs_saturate: whether the CPU adds two int8 products in 16 bits that overflow; the
            files for it are then written with smaller weights. `None` = not known.
    """

    cpu: str
    cores: int
    memory_bytes: int | None = None
    os: str
    arch: str
    governor: str | None = None
    int8_pairs_saturate: bool | None = None


class CompletedRun(NamedTuple):
    """What a command on a device left behind; a negative `returncode` is a signal."""

    returncode: int
    stdout: str
    stderr: str


class Device(Protocol):
    """A machine that can run a measuring process."""

    @property
    def url(self) -> str:
        """How the device is written in a platform, such as `local`."""

    @property
    def python(self) -> str | None:
        """The Python interpreter on the device that holds the runtimes; `None` = it has none."""

    def info(self) -> DeviceInfo:
        """Return facts about the device.

        Raises:
            DeviceError: it does not answer.
        """

    def push(self, files: Sequence[str], directory: Path) -> str:
        """Make files of this machine available on the device.

        Args:
            files: names relative to `directory`.
            directory: where they lie on this machine.

        Returns:
            the directory on the device under which the files have the same names. A device that
            shares this machine's file system returns `directory` itself and copies nothing.

        Raises:
            UsageError: a file is missing.
            DeviceError: the device does not answer or has no room.
        """

    def remove(self, directories: Sequence[str]) -> None:
        """Delete what `push` made on the device; what lay there before stays.

        Raises:
            DeviceError: the device does not answer.
        """

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the device while it measures, against other processes that would disturb it.

        Raises:
            DeviceError: another process does not let go of it.
        """

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> CompletedRun:
        """Run a command to its end; it is killed when this process is interrupted.

        Args:
            argv: program and arguments, never a shell line.
            timeout_s: seconds after which it is killed.
            stdin: text given to it.
            environment: variables added to the device's own.

        Returns:
            the result, also of a command that failed: what a return code means is the
            caller's business.

        Raises:
            DeviceError: it could not be started, or ran past `timeout_s`.
        """


DEVICES: Registry[Device] = Registry("device", plugins="featherweight.devices")
"""Devices that are always there, by the name that a platform uses."""

DEVICE_SCHEMES: Registry[Callable[[str, str | None], Device]] = Registry(
    "device scheme", plugins="featherweight.devices"
)
"""`scheme` of `scheme://...` -> (url, python on the device or None) -> Device."""
