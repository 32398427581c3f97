"""A real OpenSSH server on the loopback interface, and an ssh client that knows it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ALIAS = "board"
"""Host name of the server in the client's configuration, as a user would have one."""


@dataclass
class Server:
    """A running sshd; `stop` cuts every connection."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"ssh://{ALIAS}"

    def connections(self) -> list[int]:
        """Return the process ids of the server's open connections."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def cut(self) -> None:
        """End all connections at once, as a pulled cable would; the server goes on."""
        for pid in self.connections():
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(pid, 9)

    def stop(self) -> None:
        self.cut()
        self.process.kill()
        self.process.wait(timeout=10)


@contextmanager
def running_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server in a short folder: a socket's path has at most 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="fw", dir="/tmp") as folder:
        running = _start(Path(folder), monkeypatch)
        try:
            yield running
        finally:
            running.stop()


def _start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Start sshd with keys of its own and put an `ssh` that uses them first on PATH."""
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "authorized").chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it when it is root
    program = shutil.which("sshd")
    assert program is not None
    argv = [program, "-D", "-E", str(folder / "log"), "-f", str(folder / "sshd_config")]
    process = subprocess.Popen(argv)
    (folder / "ssh_config").write_text(
        f"Host {ALIAS}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
        "  StrictHostKeyChecking accept-new\n"
    )
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert time.monotonic() < deadline, (folder / "log").read_text()
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.02)
    return Server(folder, port, process)
