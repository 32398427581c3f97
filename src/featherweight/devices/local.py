"""This machine as a device."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from featherweight.devices.device import DEVICES, CompletedRun, DeviceInfo
from featherweight.environment import int8_pairs_saturate
from featherweight.errors import DeviceError, UsageError

__all__ = ["LocalDevice"]

_TETHERED = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)\n"  # 1 = PR_SET_PDEATHSIG
    "if os.getppid() == int(sys.argv[1]):\n"  # else the parent died before this was asked for
    "    os.execv(sys.argv[2], sys.argv[3:])\n"
)
"""Becomes the program it is given, which the system then kills as soon as its parent dies: a killed
command must not leave a process behind that measures on, beside the next one. Python's own way,
`preexec_fn`, is not safe beside PyTorch's threads."""
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


class LocalDevice:
    """The machine this process runs on."""

    url = "local"
    python = sys.executable

    def info(self) -> DeviceInfo:
        """Return facts about this machine."""
        return DeviceInfo(
            cpu=_cpu_name(),
            cores=_usable_cores(),
            memory_bytes=_memory_bytes(),
            os=f"{platform.system()} {platform.release()}",
            arch=platform.machine(),
            governor=_GOVERNOR.read_text().strip() if _GOVERNOR.exists() else None,
            int8_pairs_saturate=int8_pairs_saturate(platform.machine(), _cpu_facts()),
        )

    def push(self, files: Sequence[str], directory: Path) -> str:
        """Return `directory`: the files are already here; nothing is copied.

        Raises:
            UsageError: a file is missing.
        """
        for name in files:
            if not (directory / name).is_file():
                raise UsageError(
                    f"the file {directory / name} does not exist", hint="export the network again"
                )
        return str(directory.resolve())

    def remove(self, directories: Sequence[str]) -> None:
        """Delete nothing: `push` copied nothing."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold nothing: foreign load on this machine is seen and reported instead."""
        return nullcontext()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> CompletedRun:
        """Run a command; see `Device.run`. On Linux it ends with this process, however that ends.

        Raises:
            DeviceError: it could not be started, or ran past `timeout_s`.
        """
        command = list(argv)
        program = shutil.which(argv[0])
        if program is not None and sys.platform == "linux":
            tether = [sys.executable, "-I", "-S", "-c", _TETHERED, str(os.getpid())]
            command = [*tether, program, *argv]
        try:
            # subprocess.run kills the child on a timeout and on any other exception, Ctrl-C
            # included, before that exception goes on.
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                check=False,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, **(environment or {})},
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"the command {argv[0]!r} on the device 'local' ran past {timeout_s:.0f} s"
            ) from error
        except OSError as error:
            raise DeviceError(
                f"cannot start {argv[0]!r} on the device 'local': {error.strerror}"
            ) from error
        return CompletedRun(done.returncode, done.stdout, done.stderr)


def _usable_cores() -> int:
    """Return the CPUs this process may use: a container or taskset allows fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    """Return the CPU's model name; ARM kernels name none in /proc/cpuinfo."""
    for line in _cpu_facts().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _cpu_facts() -> str:
    return _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""


def _memory_bytes() -> int | None:
    """Return the physical memory, or `None` where sysconf does not know it."""
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


DEVICES.add("local", LocalDevice())
