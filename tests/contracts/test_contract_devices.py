"""What every device promises; those that are reached have tests of their own beside this."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fakes import FakeDevice

from featherweight.devices.device import DEVICES, Device, DeviceInfo
from featherweight.errors import DeviceError, UsageError
from featherweight.records import parse_record, to_plain

KINDS = (*DEVICES, "fake")


@pytest.fixture(params=KINDS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    return FakeDevice(tmp_path / "there") if request.param == "fake" else DEVICES[request.param]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_there_are_devices() -> None:
    assert "local" in KINDS


def test_it_tells_facts_that_can_be_stored(device: Device) -> None:
    info = device.info()
    assert parse_record(DeviceInfo, to_plain(info), source="facts") == info
    assert info.cpu
    assert info.cores >= 1
    assert device.url


def test_files_are_there_by_their_names_and_the_originals_stay(
    device: Device, tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("a.bin", "inner/b.bin"):
        (tmp_path / name).write_text(name)
    there = device.push(["a.bin", "inner/b.bin"], tmp_path)
    for name in ("a.bin", "inner/b.bin"):
        read = device.run(python(f"print(open({there!r} + '/{name}').read())"), timeout_s=30)
        assert read.stdout.strip() == name
    device.remove([there])
    assert (tmp_path / "inner" / "b.bin").read_text() == "inner/b.bin"
    with pytest.raises(UsageError, match=r"c\.bin does not exist"):
        device.push(["a.bin", "c.bin"], tmp_path)


def test_a_command_gets_input_and_environment_and_its_failure_is_a_result(device: Device) -> None:
    code = "import os, sys; print(sys.stdin.read() + os.environ['COLOUR']); sys.exit(3)"
    done = device.run(python(code), timeout_s=30, stdin="light ", environment={"COLOUR": "blue"})
    assert (done.returncode, done.stdout.strip()) == (3, "light blue")
    assert "COLOUR" not in os.environ


def test_a_command_that_never_ends_and_one_that_is_not_there_are_device_errors(
    device: Device,
) -> None:
    with pytest.raises(DeviceError):
        device.run(python("import time; time.sleep(60)"), timeout_s=0.5)
    with pytest.raises(DeviceError):
        device.run(["no-such-program-anywhere"], timeout_s=5)


def test_it_can_be_held_and_let_go(device: Device) -> None:
    for _ in range(2):
        with device.exclusive():
            assert device.run(python("pass"), timeout_s=30).returncode == 0
