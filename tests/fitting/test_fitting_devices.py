"""A fit for another machine: every latency and the verdict come from there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ssh_server import ALIAS, running_server

from featherweight.cli.app import run
from featherweight.devices.known import KnownDevice, add_device
from featherweight.journal import Journal


@pytest.mark.slow
@pytest.mark.system("ssh", "sshd", "ssh-keygen", "pgrep")
def test_a_fit_over_ssh(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))
    with running_server(monkeypatch) as server:
        python = server.folder / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        add_device("pi", KnownDevice(url=f"ssh://{ALIAS}", python=str(python)))
        out = tmp_path / "run"
        arguments = [
            "fit",
            "demo",
            "--latency",
            "20ms",
            "--epochs",
            "2",
            "--precision",
            "int8",
            "--model",
            "convnet:width=0.25,resolution=16",
            "--on",
            "pi/onnxruntime",
            "--output",
            str(out),
            "--json",
        ]
        assert run(arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["verdict"] == "met"
    assert summary["platform"] == "pi/onnxruntime:threads=1,precision=int8"
    measured = Journal(out / "measurements.jsonl").read()
    assert {line["platform"].partition("/")[0] for line in measured} == {"pi"}
    assert measured[-1]["purpose"] == "prove"
    (verified,) = Journal(out / "verifications.jsonl").read()
    assert verified["device_difference"] == 0.0, "the same machine, reached another way"
    assert "pi/onnxruntime" in (out / "report.html").read_text(encoding="utf-8")
