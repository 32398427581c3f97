"""A phone over adb, the system's Android debug bridge.

Phones have no Python. What is timed is timed by the runtime's own native program, which the user
has pushed to `/data/local/tmp` (`measuring.native`). Not yet run on a phone: tested against a
stand-in for `adb` and transcripts of the program.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from featherweight.devices.device import DEVICE_SCHEMES, CompletedRun, DeviceInfo
from featherweight.devices.holding import held, last_line, run_program
from featherweight.errors import DeviceError, DeviceUnreachableError, UsageError

__all__ = ["AdbDevice"]

_FORM = "adb://SERIAL as `adb devices` lists it, or adb:// when one phone is connected"
_URL = re.compile(r"adb://(?P<serial>([A-Za-z0-9][A-Za-z0-9._:-]*)?)")
_FOLDER = "/data/local/tmp/featherweight"
_SHORT_S, _COPY_S = 30.0, 300.0
_FACTS = """
echo "model=$(getprop ro.product.manufacturer) $(getprop ro.product.model)"
echo "soc=$(getprop ro.soc.model)"
echo "os=Android $(getprop ro.build.version.release)"
echo "arch=$(uname -m)"
echo "cores=$(nproc)"
echo "memory=$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
echo "governor=$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
"""
_LOST = re.compile(
    r"(error: (no devices|device .* not found|device (offline|unauthorized)|closed"
    r"|more than one device)|adb: error: failed to get feature set)"
)


class AdbDevice:
    """A phone or tablet with USB debugging switched on.

    Args:
        url: `adb://SERIAL`, or `adb://` for the only one.

    Raises:
        UsageError: not such a URL.
    """

    python = None

    def __init__(self, url: str) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise UsageError(f"cannot read the device {url!r}", allowed=_FORM)
        self.url = url
        self._serial = found["serial"]
        self._token = os.urandom(4).hex()

    def info(self) -> DeviceInfo:
        """Return facts about the device; asked once.

        Raises:
            DeviceError: it does not answer.
        """
        return self._info

    @cached_property
    def _info(self) -> DeviceInfo:
        done = self._shell(_FACTS, timeout_s=_SHORT_S)
        facts = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
        try:
            return DeviceInfo(
                cpu=f"{facts['model'].strip()} {facts['soc'].strip()}".strip(),
                cores=int(facts["cores"]),
                memory_bytes=1024 * int(facts["memory"]),
                os=facts["os"].strip(),
                arch=facts["arch"].strip(),
                governor=facts["governor"].strip() or None,
                int8_pairs_saturate=False,  # ARM adds products in 32 bits
            )
        except (KeyError, ValueError) as error:
            raise DeviceError(
                f"the device {self.url!r} does not say what it is ({done.stdout[:80]!r})"
            ) from error

    def push(self, files: Sequence[str], directory: Path) -> str:
        """Copy files into a folder of their own; see `Device.push`.

        Raises:
            UsageError: a file is missing.
            DeviceError: the device does not answer or has no room.
        """
        paths = [directory / name for name in files]
        for path in paths:
            if not path.is_file():
                raise UsageError(f"the file {path} does not exist", hint="export the network again")
        digest = hashlib.sha256("".join(f"{path}\0" for path in paths).encode()).hexdigest()[:16]
        folder = f"{_FOLDER}/{digest}-{self._token}"
        self._shell(f"mkdir -p {folder}", timeout_s=_SHORT_S)
        done = self._adb(["push", *map(str, paths), f"{folder}/"], timeout_s=_COPY_S)
        if done.returncode != 0:
            self.remove([folder])
            raise DeviceError(
                f"cannot copy files to the device {self.url!r}: "
                f"{last_line(done.stderr or done.stdout)}",
                hint="free space on it",
            )
        return folder

    def remove(self, directories: Sequence[str]) -> None:
        """Delete what `push` made, and nothing else.

        Raises:
            DeviceError: the device does not answer.
        """
        made = [one for one in directories if one.startswith(f"{_FOLDER}/")]
        if made:
            self._shell(f"rm -rf {shlex.join(made)}", timeout_s=_SHORT_S)

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the device against other processes of this machine; see `Device.exclusive`."""
        return held(self.url)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> CompletedRun:
        """Run a command; see `Device.run`. Standard input is not passed on.

        Raises:
            DeviceError: no such device, or the command ran past `timeout_s`.
        """
        del stdin
        words = [*(f"{key}={value}" for key, value in (environment or {}).items())]
        command = shlex.join(["env", *words, *argv] if words else argv)
        return self._shell(command, timeout_s=timeout_s)

    def _shell(self, script: str, *, timeout_s: float) -> CompletedRun:
        return self._adb(["shell", script], timeout_s=timeout_s)

    def _adb(self, arguments: Sequence[str], *, timeout_s: float) -> CompletedRun:
        chosen = ["-s", self._serial] if self._serial else []
        done = run_program(
            ["adb", *chosen, *arguments],
            url=self.url,
            timeout_s=timeout_s,
            install="Android's platform-tools",
        )
        if done.returncode != 0 and _LOST.search(done.stderr):
            raise DeviceUnreachableError(
                f"no connection to the device {self.url!r}: {last_line(done.stderr)}",
                hint="`adb devices` must list it as `device`; allow USB debugging on its screen",
            )
        return done


def _open(url: str, python: str | None) -> AdbDevice:
    if python is not None:
        raise UsageError(
            f"--python was given for {url}", allowed="nothing: a phone is measured without Python"
        )
    return AdbDevice(url)


DEVICE_SCHEMES.add("adb", _open)
