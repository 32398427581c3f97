"""A run directory from anybody does not make this machine connect anywhere unsaid."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml
from fakes import on_val

from featherweight.cli.app import run
from featherweight.devices.device import CompletedRun
from featherweight.devices.known import KnownDevice, add_device
from featherweight.devices.ssh import SshDevice
from featherweight.errors import DeviceUnreachableError
from featherweight.fitting.candidate import Phase, TrainingRecord
from featherweight.journal import Journal
from featherweight.records import to_plain
from featherweight.run_directory import StageRecord

URL = "ssh://me@bench.invalid"


@pytest.fixture
def connections(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> list[list[str]]:
    """Return, for each connection that was tried, what the log had said before it."""
    tried: list[list[str]] = []

    def connect(self: SshDevice, script: str, **others: object) -> CompletedRun:
        tried.append([record.getMessage() for record in caplog.records])
        raise DeviceUnreachableError(f"no connection to {self.url}")

    monkeypatch.setattr(SshDevice, "_ssh", connect)
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("featherweight.cli.output.show_log", lambda quiet: None)
    caplog.set_level(logging.INFO, logger="featherweight")
    return tried


def earlier_run(folder: Path, device: str) -> Path:
    folder.mkdir()
    identity = {
        "latency_ms": 1.0,
        "fingerprint": "0",
        "platform": f"{device}/onnxruntime:threads=1,precision=fp32",
    }
    record = {"identity": identity, "given": {"data": "demo"}}
    (folder / "run.yaml").write_text(yaml.safe_dump(record))
    outputs = TrainingRecord(
        key="0123456789abcdef-fp32",
        phase=Phase(kind="train"),
        size=32.0,
        precision="fp32",
        weights_of="convnet",
        val=on_val(0.8),
        val_loss=0.5,
        images_seen=1,
        seconds=1.0,
    )
    line = StageRecord(
        stage="train:0123456789abcdef-fp32",
        inputs_digest="0",
        outputs=to_plain(outputs),
        files={},
        seconds=1.0,
        finished="2026-01-01T00:00:00+00:00",
    )
    Journal(folder / "stages.jsonl").append(to_plain(line))
    return folder


@pytest.mark.parametrize("device", [URL, "adb://SERIAL", "bench"])
def test_a_device_that_only_the_file_names_is_not_contacted(
    device: str, connections: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = earlier_run(tmp_path / "run", device)
    assert run(["fit", "--from", str(path), "--latency", "2ms"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--from {path} was made for the device {device!r}, which is not one of yours" in line
    assert f"--on {device}/onnxruntime" in line
    assert connections == []


@pytest.mark.parametrize("device", [URL, f"{URL}/", "bench"])
def test_a_device_of_the_user_is_said_before_it_is_contacted(
    device: str, connections: list[list[str]], tmp_path: Path
) -> None:
    add_device("bench", KnownDevice(url=URL))
    path = earlier_run(tmp_path / "run", device)
    assert run(["fit", "--from", str(path), "--latency", "2ms"]) == 4
    said = f"--from {path} names the device bench ({URL}): connecting to it"
    assert connections
    assert said in connections[0]


def test_a_device_named_on_the_command_line_needs_no_leave(
    connections: list[list[str]], tmp_path: Path
) -> None:
    path = earlier_run(tmp_path / "run", URL)
    on = ["--on", f"{URL}/onnxruntime"]
    assert run(["fit", "--from", str(path), "--latency", "2ms", *on]) == 4
    assert connections
