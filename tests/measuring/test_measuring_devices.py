"""Measuring on another machine: over a real OpenSSH server on the loopback interface."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_server import ALIAS, Server, running_server

from featherweight.cli.app import run
from featherweight.devices.known import KnownDevice, add_device
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring import agreement, device_check
from featherweight.measuring.agreement import device_difference
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.device_check import check_device
from featherweight.networks.resolve import resolve_architecture

NETWORK = "mobilenet_v2:width=0.35,resolution=64,classes=10"
pytestmark = pytest.mark.system("ssh", "sshd", "ssh-keygen", "pgrep")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))
    with running_server(monkeypatch) as running:
        # A Python of its own for every test: devices are remembered by URL and interpreter.
        python = running.folder / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        add_device("pi", KnownDevice(url=f"ssh://{ALIAS}", python=str(python)))
        yield running


def test_a_command_over_ssh_measures_there_and_leaves_nothing(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ["--on", "pi/onnxruntime:precision=int8"]
    assert run(["measure", NETWORK, "convnet:width=1,classes=10", *on, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["platform"] == second["platform"] == "pi/onnxruntime:threads=1,precision=int8"
    assert first["device_info"]["arch"] == second["device_info"]["arch"]
    assert all(0.001 < one["median_ms"] < 100 for one in (first, second))
    work = Path.home() / ".cache" / "featherweight" / "work"
    assert list(work.iterdir()) == []


@pytest.mark.slow
def test_check_looks_at_everything(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["device", "check", "pi", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == f"ssh://{ALIAS}"
    assert found["python"] == sys.version.split()[0]
    assert found["packages"]["onnxruntime"]
    assert [one["platform"].partition(":")[2] for one in found["measured"]] == [
        "threads=1,precision=fp32",
        "threads=1,precision=int8",
    ]
    # The same machine, reached another way, computes the same.
    assert [one["difference"] for one in found["measured"]] == [0.0, 0.0]
    assert code == (0 if found["ok"] else 1)
    assert found["ok"] == (not found["problems"])


@pytest.mark.slow
def test_a_device_that_computes_something_else_is_seen(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    platform = parse_platform("pi/onnxruntime")
    artifact = export_untrained(
        resolve_architecture(NETWORK), platform=platform, out=tmp_path / "net"
    )
    assert device_difference(artifact, platform=platform) == 0.0
    true_answer = agreement.answer_of_device

    def wrong(*arguments, **more):
        answer = true_answer(*arguments, **more)
        answer["answers"] = [{"logits": answer["answers"][0]["logits"][::-1]}]
        return answer

    monkeypatch.setattr(agreement, "answer_of_device", wrong)
    assert device_difference(artifact, platform=platform) > 0.1
    monkeypatch.setattr(device_check, "_NETWORK", NETWORK)
    found = check_device("pi")
    assert not found["ok"]
    assert "fp32: the device computes something else" in found["problems"][0]


def test_a_device_without_python_says_what_to_do(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["device", "add", "bare", f"ssh://{ALIAS}", "--python", "/no/such/python"]) == 0
    assert "next: featherweight device check bare" in capsys.readouterr().out
    assert run(["device", "check", "bare"]) == 4
    said = capsys.readouterr().err
    assert "cannot start Python on the device" in said
    assert "--python PATH" in said
    assert run(["measure", NETWORK, "--on", "bare/onnxruntime"]) == 4
    assert "cannot start Python on the device" in capsys.readouterr().err


def test_a_device_that_is_gone_is_exit_4(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    assert run(["measure", NETWORK, "--on", f"ssh://me@{ALIAS}/onnxruntime"]) == 4
    said = capsys.readouterr().err
    assert f"error: no connection to the device 'ssh://me@{ALIAS}'" in said
    assert said.count("\n") <= 2, "one line"


def test_list_asks_nobody(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.stop()
    assert run(["device", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == ["local", "pi"]
    assert run(["device", "list"]) == 0
    assert f"ssh://{ALIAS}" in capsys.readouterr().out
