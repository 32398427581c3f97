"""kill -9 at any moment: the same command continues, and finished stages are not repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from featherweight.cli.app import run

FIT = [
    "fit",
    "demo",
    "--latency",
    "2ms",
    "--epochs",
    "3",
    "--model",
    "convnet:width=0.25,resolution=16",
]
FIT += ["--precision", "fp32", "--json"]


def start(work: Path, arguments: list[str] = FIT) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "featherweight", *arguments]
    return subprocess.Popen(
        command, cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(path: Path, run_directory: Path, *, process: subprocess.Popen[str]) -> bool:
    """Wait until a file of the run is there; False when the command ended before."""
    while process.poll() is None:
        if any(run_directory.glob(f"*/{path}")):
            return True
        time.sleep(0.02)
    return False


def stages(run_directory: Path) -> list[str]:
    (file,) = run_directory.glob("*/stages.jsonl")
    return [json.loads(line)["stage"] for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of an uninterrupted fit."""
    work = tmp_path_factory.mktemp("whole")
    output, errors = start(work).communicate(timeout=240)
    assert output, errors
    return dict(json.loads(output))


@pytest.mark.parametrize(
    "moment", ["stages.jsonl", "checkpoints/*/train.jsonl", "artifacts/onnx*/*"]
)
def test_kill_and_continue(moment: str, whole: dict[str, Any], tmp_path: Path) -> None:
    process = start(tmp_path)
    assert wait_for(Path(moment), tmp_path / "runs", process=process), process.communicate()
    time.sleep(random.Random(moment).uniform(0.0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = stages(tmp_path / "runs")

    output, _errors = start(tmp_path).communicate(timeout=240)
    summary = json.loads(output)
    (directory,) = (tmp_path / "runs").iterdir()  # not a second one
    again = stages(tmp_path / "runs")
    assert again[: len(done)] == done
    assert len(again) == len(set(again)), f"a finished stage was repeated: {again}"
    assert summary["verdict"] == whole["verdict"] == "met"
    assert summary["network"] == whole["network"]
    # That a training resumes to the bit is tests/training's to show: here the timing that chooses
    # the form of computing (contiguous or channels_last) may come out otherwise in the two runs.
    assert summary["accuracy"]["n"] == whole["accuracy"]["n"]
    assert summary["images_seen"] == whole["images_seen"]
    # What only going on would need is gone; what ships and what `--from` needs is there.
    assert not (directory / "checkpoints").exists()
    assert [path.name for path in (directory / "artifacts").iterdir()] == [
        Path(summary["artifact"]).name
    ]
    assert list((directory / "networks").glob("*-train/weights.safetensors"))


def test_kill_in_a_timed_training(tmp_path: Path) -> None:
    """The time left differs at the second attempt; the plan of the training must not."""
    arguments = [argument if argument != "--epochs" else "--time" for argument in FIT]
    arguments[arguments.index("--time") + 1] = "55s"  # a busy machine needs 46 s
    process = start(tmp_path, arguments)
    assert wait_for(Path("checkpoints/*train/checkpoint*"), tmp_path / "runs", process=process)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "plan" in stages(tmp_path / "runs")

    process = start(tmp_path, arguments)
    output, errors = process.communicate(timeout=240)
    # On a slow machine what is left of 40 s may be too little to learn anything.
    assert process.returncode in (0, 3), errors
    assert json.loads(output)["verdict"] != "infeasible"
    (file,) = (tmp_path / "runs").glob("*/train.jsonl")
    epochs = [
        (line["network"], line["phase"], line["epoch"])
        for line in map(json.loads, file.read_text().splitlines())
    ]
    assert epochs
    assert len(epochs) == len(set(epochs)), "an epoch was journalled twice"


def test_a_finished_run_is_read_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "demo", "--latency", "0.0001ms", "--output", str(tmp_path / "run")]
    assert run(arguments) == 3
    lines = (tmp_path / "run" / "measurements.jsonl").read_text()
    capsys.readouterr()
    assert run(arguments) == 3
    assert (tmp_path / "run" / "measurements.jsonl").read_text() == lines
    assert "INFEASIBLE" in capsys.readouterr().out
    assert not list((tmp_path / "run" / "artifacts").glob("*"))


def test_ctrl_c_is_exit_130_with_a_hint(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert wait_for(Path("checkpoints/*/train.jsonl"), tmp_path / "runs", process=process)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "continues" in errors
    assert "Traceback" not in errors
