"""Another machine over ssh: a real OpenSSH server on the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_server import Server, running_server

from featherweight.devices import holding
from featherweight.devices.device import DEVICES
from featherweight.devices.ssh import SshDevice
from featherweight.errors import DeviceError, DeviceUnreachableError, UsageError

needs_ssh = pytest.mark.system("ssh", "sshd", "ssh-keygen", "pgrep")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running_server(monkeypatch) as running:
        yield running


@pytest.fixture
def device(server: Server) -> SshDevice:
    return SshDevice(server.url, python=sys.executable)


@pytest.mark.parametrize(
    "url",
    ["ssh://pi@raspberrypi.local", "ssh://10.0.0.7:2222", "ssh://board", "ssh://me@[fe80::1]:22"],
)
def test_urls_that_can_be_read(url: str) -> None:
    assert SshDevice(url).url == url


@pytest.mark.parametrize(
    "url",
    ["ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://host:port", "ssh://host/path", "pi"],
)
def test_urls_that_cannot(url: str) -> None:
    with pytest.raises(UsageError, match="allowed: ssh://"):
        SshDevice(url)


@needs_ssh
def test_the_facts_are_those_of_the_machine(device: SshDevice) -> None:
    found, known = device.info(), DEVICES["local"].info()
    assert (found.arch, found.os, found.cores) == (known.arch, known.os, known.cores)
    assert found.memory_bytes == known.memory_bytes
    assert found.int8_pairs_saturate == known.int8_pairs_saturate
    assert found.cpu == known.cpu


@needs_ssh
def test_files_go_there_and_away_again(device: SshDevice, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "artifact.json").write_text("{}")
    there = Path(device.push(["a.bin", "artifact.json"], tmp_path))
    try:
        assert there != tmp_path
        assert (there / "a.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
        assert there.stat().st_mode & 0o077 == 0, "nobody else reads them"
        assert device.push(["a.bin", "artifact.json"], tmp_path) == str(there)
    finally:
        device.remove([str(there), "/tmp"])
    assert not there.exists()
    assert Path("/tmp").exists(), "only what push made is deleted"
    with pytest.raises(UsageError, match=r"b\.bin does not exist"):
        device.push(["b.bin"], tmp_path)


@needs_ssh
def test_what_a_killed_process_left_goes_after_a_day(device: SshDevice, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    there = Path(device.push(["a.bin"], tmp_path))
    left, young = there.parent / "left-behind", there.parent / "in-use"
    for folder, age_s in ((left, 2.5 * 86_400), (young, 60.0)):
        folder.mkdir()
        then = time.time() - age_s
        os.utime(folder, (then, then))
    try:
        device.push(["a.bin"], tmp_path)
        assert not left.exists()
        assert young.exists()
    finally:
        young.rmdir()
        device.remove([str(there)])


@needs_ssh
def test_run_passes_input_and_environment_and_returns_failures(device: SshDevice) -> None:
    code = (
        "import os, sys; print(sys.stdin.read() + os.environ['COLOUR'] + sys.argv[1]);"
        "print('oops', file=sys.stderr); sys.exit(3)"
    )
    awkward = "a b'c\"d$HOME;`id`\\"
    done = device.run(
        [sys.executable, "-c", code, awkward],
        timeout_s=30,
        stdin="in",
        environment={"COLOUR": "red$X"},
    )
    assert (done.returncode, done.stdout) == (3, f"inred$X{awkward}\n")
    assert done.stderr.splitlines()[-1] == "oops"
    assert device.run(["no-such-program"], timeout_s=5).returncode in (126, 127)
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert device.run(killed, timeout_s=30).returncode == -9, "as out of memory does"


@needs_ssh
def test_a_command_that_does_not_end_is_ended(device: SshDevice) -> None:
    start = time.monotonic()
    with pytest.raises(DeviceError, match="ran past"):
        device.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=1.0)
    assert time.monotonic() - start < 10


@needs_ssh
def test_a_cut_connection_says_so_at_once(device: SshDevice, server: Server) -> None:
    device.info()
    cut = threading.Timer(0.5, server.cut)
    cut.start()
    start = time.monotonic()
    with pytest.raises(DeviceUnreachableError, match="no connection to the device 'ssh://board'"):
        device.run([sys.executable, "-c", "import time; time.sleep(30)"], timeout_s=60)
    assert time.monotonic() - start < 20
    cut.join()
    assert device.run(["echo", "back"], timeout_s=10).stdout == "back\n", "a new connection works"


@needs_ssh
def test_no_server_no_key_no_host(device: SshDevice, server: Server) -> None:
    server.stop()
    with pytest.raises(DeviceUnreachableError, match=r"Connection refused.*must work without"):
        device.info()
    with pytest.raises(DeviceUnreachableError, match="no connection"):
        SshDevice("ssh://no-such-host.invalid").info()
    with pytest.raises(DeviceUnreachableError, match=r"`ssh -p 1 me@127\.0\.0\.1` must work"):
        SshDevice("ssh://me@127.0.0.1:1").info()


@needs_ssh
def test_a_key_that_is_not_known_is_refused_without_a_question(
    device: SshDevice, server: Server
) -> None:
    (server.folder / "authorized").write_text("")
    with pytest.raises(DeviceUnreachableError, match="Permission denied"):
        device.info()


@needs_ssh
def test_a_full_device_is_named(device: SshDevice, tmp_path: Path, server: Server) -> None:
    small = server.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        full = _InFolder("ssh://board", folder=small)
        (tmp_path / "large.bin").write_bytes(os.urandom(200_000))
        with pytest.raises(
            DeviceError, match=r"cannot write 0\.2 MB .*(No space|Wrote only).*; free"
        ):
            full.push(["large.bin"], tmp_path)
        assert list(small.rglob("*.bin")) == [], "nothing half-written stays"
    finally:
        subprocess.run(["umount", str(small)], check=True)


class _InFolder(SshDevice):
    """A device whose home is another folder: a small file system."""

    def __init__(self, url: str, *, folder: Path) -> None:
        super().__init__(url)
        self.folder = folder

    def _ssh(self, script: str, **more: object):
        return super()._ssh(f"cd {self.folder} && {{ {script}; }}", **more)


@needs_ssh
def test_two_processes_do_not_measure_on_a_device_at_once(
    device: SshDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_WAIT_S", 0.3)
    other = SshDevice(device.url)
    with (
        device.exclusive(),
        pytest.raises(DeviceError, match="another process has been using"),
        other.exclusive(),
    ):
        pass
    with other.exclusive():
        pass


def test_no_ssh_program_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"cannot start ssh.*install an OpenSSH client"):
        SshDevice("ssh://board").info()
