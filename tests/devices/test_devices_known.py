"""Devices by name and URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherweight.devices.device import DEVICES
from featherweight.devices.known import KnownDevice, add_device, find_device, known_devices
from featherweight.devices.ssh import SshDevice
from featherweight.errors import RecordError, UsageError
from featherweight.exporting.platforms import parse_platform


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path))
    return tmp_path


def test_a_name_stands_for_a_url(own_home: Path) -> None:
    assert known_devices() == {}
    path = add_device("pi", KnownDevice(url="ssh://pi@board:2222", python="/opt/fw/bin/python"))
    assert path == own_home / "devices.json"
    add_device("nano", KnownDevice(url="ssh://nano"))
    assert list(known_devices()) == ["pi", "nano"]
    found = find_device("pi")
    assert isinstance(found, SshDevice)
    assert (found.url, found.python) == ("ssh://pi@board:2222", "/opt/fw/bin/python")
    assert find_device("pi") is found, "one object keeps one connection"
    assert find_device("nano").python == "python3"
    add_device("pi", KnownDevice(url="ssh://other"))
    assert find_device("pi").url == "ssh://other"
    assert find_device("local") is DEVICES["local"]


def test_a_url_needs_no_name() -> None:
    assert find_device("ssh://me@host").url == "ssh://me@host"


@pytest.mark.parametrize("name", ["local", "a b", "", "pi/x", "-x"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="cannot call a device"):
        add_device(name, KnownDevice(url="ssh://host"))


def test_unknown_names_and_schemes_are_one_line() -> None:
    add_device("raspberry", KnownDevice(url="ssh://host"))
    with pytest.raises(UsageError, match=r"no device named 'rasberry'.*did you mean 'raspberry'"):
        parse_platform("rasberry/onnxruntime")
    with pytest.raises(
        UsageError, match=r"named 'bench'; allowed: local.*ssh://.*device add bench"
    ):
        parse_platform("bench/onnxruntime")
    with pytest.raises(UsageError, match=r"cannot read the device 'telnet://x'; allowed: adb.*ssh"):
        parse_platform("telnet://x/onnxruntime")
    with pytest.raises(UsageError, match="cannot read the device"):
        add_device("bad", KnownDevice(url="host"))
    assert "bad" not in known_devices()


def test_a_damaged_file_of_names_is_said(own_home: Path) -> None:
    (own_home / "devices.json").write_text('{"devices": {"pi": {"url": 3}}}')
    with pytest.raises(RecordError, match=r"devices\.json: key 'devices\.pi\.url'"):
        find_device("pi")
