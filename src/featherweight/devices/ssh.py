"""Another machine over the system's ssh: a Raspberry Pi, a Jetson, a server.

Only the ssh program is used, so `~/.ssh/config`, agents, jump hosts and known hosts count as they
do at the prompt. It never asks for anything (BatchMode): no password passes through featherweight.
The device needs a POSIX shell, `tar`, and Python 3.8 or newer with numpy and the runtime.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from featherweight.devices.device import DEVICE_SCHEMES, CompletedRun, DeviceInfo
from featherweight.devices.holding import device_key, held, last_line, own_folder, run_program
from featherweight.environment import int8_pairs_saturate
from featherweight.errors import DeviceError, DeviceUnreachableError, UsageError

__all__ = ["SshDevice"]

_FORM = (
    "ssh://[USER@]HOST[:PORT] with a port of 1 to 65535, such as ssh://pi@raspberrypi.local; "
    "IPv6 in brackets, such as ssh://pi@[fe80::1%eth0]:22"
)
_URL = re.compile(
    r"ssh://((?P<user>[A-Za-z0-9_][\w.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][\w.-]*|\[(?P<address>[0-9A-Fa-f:.]+)(%(25)?(?P<zone>[\w.-]+))?\])"
    r"(:0*(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)
"""A zone is written %eth0, or %25eth0 as RFC 6874 has it in URLs; a slash at the end says nothing.
"""
_PORTS = range(1, 65536)
_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlMaster=auto",
    "ControlPersist=60",
)
_CUT = 255
"""What the ssh program itself ends with, when there is no connection or it breaks."""
_SIGNALLED = 128
"""A shell adds the number of the signal that ended its command."""
_SHORT_S = 30.0
"""For commands that only ask."""
_COPY_S = 300.0
_FOLDER = ".cache/featherweight/work"
"""On the device, in the home directory; empty while nothing is measured."""
_STALE = "-mindepth 1 -maxdepth 1 -mtime +0 -exec rm -rf {} +"
"""What a process that was killed left there more than a day ago goes with the next files."""
_FACTS = """
echo "os=$(uname -s) $(uname -r)"
echo "arch=$(uname -m)"
echo "cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)"
echo "memory=$(( $(getconf PAGE_SIZE) * $(getconf _PHYS_PAGES) ))"
echo "board=$(tr -d '\\0' < /proc/device-tree/model 2>/dev/null)"
echo "cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)"
echo "flags=$(sed -n -e 's/^flags[^:]*: *//p' -e 's/^Features[^:]*: *//p' /proc/cpuinfo \
2>/dev/null | head -n 1)"
echo "governor=$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
"""


class SshDevice:
    """A machine reached with `ssh`.

    Args:
        url: `ssh://[USER@]HOST[:PORT]`; HOST may be an alias of `~/.ssh/config`.
        python: interpreter on the device that has numpy and the runtime.

    Raises:
        UsageError: not such a URL.
    """

    def __init__(self, url: str, *, python: str = "python3") -> None:
        found = _URL.fullmatch(url)
        if found is None or int(found["port"] or "22") not in _PORTS:
            raise UsageError(f"cannot read the device {url!r}", allowed=_FORM)
        self.url = url.rstrip("/")
        self.python = python
        user, host, zone = found["user"], found["host"], found["zone"]
        if found["address"] is not None:
            host = found["address"] if zone is None else f"{found['address']}%{zone}"
        self._destination = host if user is None else f"{user}@{host}"
        self._port = found["port"]
        self._token = os.urandom(4).hex()

    def info(self) -> DeviceInfo:
        """Return facts about the device; asked once.

        Raises:
            DeviceError: it does not answer.
        """
        return self._info

    @cached_property
    def _info(self) -> DeviceInfo:
        said = self._ask(_FACTS)
        facts = dict(line.partition("=")[::2] for line in said.splitlines() if "=" in line)
        try:
            return DeviceInfo(
                cpu=facts["board"] or facts["cpu"] or facts["arch"],
                cores=int(facts["cores"]),
                memory_bytes=int(facts["memory"]),
                os=facts["os"],
                arch=facts["arch"],
                governor=facts["governor"] or None,
                int8_pairs_saturate=int8_pairs_saturate(facts["arch"], facts["flags"]),
            )
        except (KeyError, ValueError) as error:
            raise DeviceError(
                f"the device {self.url!r} does not say what it is ({said[:80]!r})",
                hint="its login shell must run sh -c and print nothing of its own",
            ) from error

    def push(self, files: Sequence[str], directory: Path) -> str:
        """Copy files into a folder of their own; see `Device.push`.

        Raises:
            UsageError: a file is missing.
            DeviceError: the device does not answer or has no room.
        """
        packed = _pack(files, directory)
        # The token keeps the files of two machines that use one device apart.
        folder = f"{_FOLDER}/{hashlib.sha256(packed).hexdigest()[:16]}-{self._token}"
        script = (
            f"umask 077; find {_FOLDER} {_STALE} 2>/dev/null; "
            f"mkdir -p {folder} && tar xf - -C {folder} && cd {folder} && pwd"
        )
        done = self._ssh(script, stdin=packed, timeout_s=_COPY_S)
        if done.returncode != 0:
            self._ssh(f"rm -rf {folder}", timeout_s=_SHORT_S)
            raise DeviceError(
                f"cannot write {len(packed) / 1e6:.1f} MB to the device {self.url!r}: "
                f"{last_line(done.stderr)}",
                hint="free space in its home directory, and see that it has tar",
            )
        return done.stdout.strip().splitlines()[-1]

    def remove(self, directories: Sequence[str]) -> None:
        """Delete what `push` made, and nothing else.

        Raises:
            DeviceError: the device does not answer.
        """
        made = [one for one in directories if f"/{_FOLDER}/" in one]
        if made:
            self._ssh(f"rm -rf {shlex.join(made)}", timeout_s=_SHORT_S)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> CompletedRun:
        """Run a command; see `Device.run`.

        On the device it is ended by `timeout` a little later than here, where there is such a
        program, so that nothing goes on measuring when this process is gone.

        Raises:
            DeviceError: the connection is not there or broke, or the command ran past `timeout_s`.
        """
        words = ["env", *(f"{key}={value}" for key, value in (environment or {}).items()), *argv]
        command = shlex.join(words)
        guard = f"timeout -k 5 {int(timeout_s) + 5}"
        # Not exec: ssh reports a shell that died of a signal like a connection that broke.
        script = (
            f"if command -v timeout >/dev/null; then {guard} {command}; else {command}; fi; exit $?"
        )
        done = self._ssh(script, stdin=stdin.encode(), timeout_s=timeout_s)
        if _SIGNALLED < done.returncode < _CUT:
            return done._replace(returncode=_SIGNALLED - done.returncode)
        return done

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the device against other processes of this machine that measure on it.

        Raises:
            DeviceError: one of them held it for a quarter of an hour.
        """
        return held(self.url)

    def _ask(self, script: str) -> str:
        done = self._ssh(script, timeout_s=_SHORT_S)
        if done.returncode != 0:
            raise DeviceError(f"the device {self.url!r} answers: {last_line(done.stderr)}")
        return done.stdout

    def _ssh(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> CompletedRun:
        """Run a shell script on the device."""
        options = [part for option in _OPTIONS for part in ("-o", option)]
        control = ["-o", f"ControlPath={own_folder()}/{device_key(self.url)}"]
        port = [] if self._port is None else ["-p", self._port]
        line = f"sh -c {shlex.quote(script)}"
        argv = ["ssh", "-T", *options, *control, *port, "--", self._destination, line]
        done = run_program(
            argv, url=self.url, timeout_s=timeout_s, stdin=stdin, install="an OpenSSH client"
        )
        if done.returncode == _CUT:
            by_hand = " ".join(["ssh", *port, self._destination])
            raise DeviceUnreachableError(
                f"no connection to the device {self.url!r}: {last_line(done.stderr)}",
                hint=f"`{by_hand}` must work without a question",
            )
        return done


def _pack(files: Sequence[str], directory: Path) -> bytes:
    """Return a tar archive that holds only names, contents and nothing of this machine."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in files:
            path = directory / name
            if not path.is_file():
                raise UsageError(f"the file {path} does not exist", hint="export the network again")
            content = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


DEVICE_SCHEMES.add("ssh", lambda url, python: SshDevice(url, python=python or "python3"))
