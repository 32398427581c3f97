"""kill -9 at any moment: the same command continues, and finished stages are not repeated."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

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
EPOCHS, TRAIN_PICTURES, TEST_PICTURES = 3, 1439, 179


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


MOMENTS = ("stages.jsonl", "checkpoints/*/train.jsonl", "artifacts/onnx*/*")
"""Early, while it trains, and while it proves: one fit is killed at each of them."""


@pytest.mark.slow
def test_kill_and_continue(tmp_path: Path) -> None:
    done: list[str] = []
    for moment in MOMENTS:
        process = start(tmp_path)
        assert wait_for(Path(moment), tmp_path / "runs", process=process), process.communicate()
        time.sleep(random.Random(moment).uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = stages(tmp_path / "runs")
        assert now[: len(done)] == done
        done = now

    output, errors = start(tmp_path).communicate(timeout=240)
    assert output, errors
    summary = json.loads(output)
    (directory,) = (tmp_path / "runs").iterdir()  # not a second one
    again = stages(tmp_path / "runs")
    assert again[: len(done)] == done
    assert len(again) == len(set(again)), f"a finished stage was repeated: {again}"
    assert summary["verdict"] == "met"
    # That a training resumes to the bit is tests/training's to show.
    assert summary["network"] == "convnet:width=0.25,resolution=16"
    assert summary["accuracy"]["n"] == TEST_PICTURES
    assert 0.9 * EPOCHS * TRAIN_PICTURES < summary["images_seen"] <= EPOCHS * TRAIN_PICTURES
    # What only going on would need is gone; what ships and what `--from` needs is there.
    assert not (directory / "checkpoints").exists()
    assert [path.name for path in (directory / "artifacts").iterdir()] == [
        Path(summary["artifact"]).name
    ]
    assert list((directory / "networks").glob("*-train/weights.safetensors"))


@pytest.mark.slow
def test_kill_in_a_timed_training(tmp_path: Path) -> None:
    """The time left differs at the second attempt; the plan of the training must not."""
    arguments = [argument if argument != "--epochs" else "--time" for argument in FIT]
    arguments[arguments.index("--time") + 1] = "1s"
    _, refusal = start(tmp_path, arguments).communicate(timeout=60)
    least = re.search(r"allowed: (\d+)s or more", refusal)
    assert least is not None, refusal
    arguments[arguments.index("1s")] = f"{1.5 * int(least[1]):.0f}s"
    process = start(tmp_path, arguments)
    assert wait_for(Path("checkpoints/*train/checkpoint*"), tmp_path / "runs", process=process)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "plan" in stages(tmp_path / "runs")

    process = start(tmp_path, arguments)
    output, errors = process.communicate(timeout=240)
    # On a slow machine what is left may be too little to learn anything.
    assert process.returncode in (0, 3), errors
    assert json.loads(output)["verdict"] != "infeasible"
    (file,) = (tmp_path / "runs").glob("*/train.jsonl")
    epochs = [
        (line["network"], line["phase"], line["epoch"])
        for line in map(json.loads, file.read_text().splitlines())
    ]
    assert epochs
    assert len(epochs) == len(set(epochs)), "an epoch was journalled twice"


@pytest.mark.slow
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
    assert wait_for(Path("stages.jsonl"), tmp_path / "runs", process=process)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "continues" in errors
    assert "Traceback" not in errors
