"""This machine as a device."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featherweight.devices.device import DEVICES, DeviceInfo
from featherweight.errors import DeviceError, UsageError
from featherweight.records import parse_record, to_plain


def test_local_is_registered_and_knows_itself() -> None:
    device = DEVICES["local"]
    info = device.info()
    assert device.url == "local"
    assert info.cpu
    assert 1 <= info.cores <= (os.cpu_count() or 1)
    assert info.memory_bytes is None or info.memory_bytes > 2**28
    assert parse_record(DeviceInfo, to_plain(info), source="test") == info


def test_push_copies_nothing_and_names_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    assert DEVICES["local"].push(["a.bin"], tmp_path) == str(tmp_path.resolve())
    with pytest.raises(UsageError, match=r"b\.bin does not exist"):
        DEVICES["local"].push(["a.bin", "b.bin"], tmp_path)


def test_run_passes_input_and_environment_and_returns_failures() -> None:
    code = (
        "import os, sys; print(sys.stdin.read() + os.environ['COLOUR']);"
        "print('oops', file=sys.stderr); sys.exit(3)"
    )
    done = DEVICES["local"].run(
        [sys.executable, "-c", code], timeout_s=30, stdin="in", environment={"COLOUR": "red"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "inred\n", "oops\n")


def test_run_maps_what_cannot_start_or_does_not_end() -> None:
    with pytest.raises(DeviceError, match="cannot start 'no-such-program'"):
        DEVICES["local"].run(["no-such-program"], timeout_s=5)
    start = time.monotonic()
    with pytest.raises(DeviceError, match="ran past"):
        DEVICES["local"].run([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.3)
    assert time.monotonic() - start < 10


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process of its parent's end"
)
def test_what_runs_dies_with_a_killed_parent(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = (
        "import fcntl, time\n"
        f"stream = open({str(mark)!r}, 'w')\n"
        "fcntl.flock(stream, fcntl.LOCK_EX)\n"
        "stream.write('measuring'); stream.flush(); time.sleep(60)"
    )
    parent = (
        "import sys\nfrom featherweight.devices.device import DEVICES\n"
        "import featherweight.devices.local\n"
        f"DEVICES['local'].run([sys.executable, '-c', {child!r}], timeout_s=60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    deadline = time.monotonic() + 30
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline, "the child never started"
        time.sleep(0.02)
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 5
    with mark.open() as stream:
        while True:
            try:  # a dead process holds no lock, also where nobody has buried it yet
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "the child outlived its parent"
                time.sleep(0.02)


def test_ctrl_c_kills_what_runs(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    child = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import sys\nfrom featherweight.devices.device import DEVICES\n"
        f"DEVICES['local'].run([sys.executable, '-c', {child!r}], timeout_s=60)"
    )
    # Its own session: the signal reaches the parent alone, as it would over ssh.
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 20
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline, "the child never started"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
