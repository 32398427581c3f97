"""URLs of devices: a slash at the end, IPv6 with its zone, ports that there are."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from featherweight.devices import holding
from featherweight.devices.known import find_device
from featherweight.devices.ssh import SshDevice
from featherweight.errors import DeviceUnreachableError, UsageError
from featherweight.exporting.platforms import parse_platform


def asked(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what ssh is asked to connect to."""
    lines: list[list[str]] = []

    def record(argv: list[str], **settings: Any) -> subprocess.CompletedProcess[bytes]:
        lines.append(argv)
        return subprocess.CompletedProcess(argv, 255, b"", b"no route")

    monkeypatch.setattr(holding.subprocess, "run", record)
    with pytest.raises(DeviceUnreachableError):
        SshDevice(url).info()
    (argv,) = lines
    return [*(argv[argv.index("-p") : argv.index("-p") + 2] if "-p" in argv else []), argv[-2]]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://pi@board/", ["pi@board"]),
        ("ssh://board:2222/", ["-p", "2222", "board"]),
        ("ssh://board:00022", ["-p", "22", "board"]),
        ("ssh://[fe80::1%eth0]", ["fe80::1%eth0"]),
        ("ssh://me@[fe80::1%25eth0]:22/", ["-p", "22", "me@fe80::1%eth0"]),
        ("ssh://[fe80::1%25]", ["fe80::1%25"]),
    ],
)
def test_what_ssh_connects_to(url: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(url, monkeypatch) == words


@pytest.mark.parametrize(
    "url",
    [
        "ssh://board:0",
        "ssh://board:65536",
        "ssh://board:99999",
        "ssh://board:" + "9" * 400,
        "ssh://board//",
        "ssh://board/x",
        "ssh://fe80::1",
        "ssh://[fe80::1%]",
        "ssh://[fe80::1%a b]",
        "ssh://[fe80::1%-oProxyCommand=x]",
        "ssh://[::1",
        "ssh://b\n",
        "ssh://b\u0660",
    ],
)
def test_what_is_no_device(url: str) -> None:
    with pytest.raises(UsageError, match=r"port of 1 to 65535.*IPv6 in brackets"):
        SshDevice(url)


def test_a_slash_makes_no_other_device() -> None:
    assert SshDevice("ssh://board/").url == "ssh://board"
    assert find_device("ssh://board/").url == find_device("ssh://board").url
    with pytest.raises(
        UsageError, match=r"'ssh://board' names no runtime.*ssh://board/onnxruntime"
    ):
        parse_platform("ssh://board")
