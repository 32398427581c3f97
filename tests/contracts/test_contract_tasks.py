"""A kind of task is one file and one registry line: every command works with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import two_labels
from PIL import Image
from sklearn.datasets import load_digits

from featherweight.cli.app import run

NETWORK = "convnet:width=0.25,resolution=16"
SMALL, MIDDLE = 4, 7
PICTURES, EPOCHS = 800, 7
CHANCE = 0.21
"""Share of the commonest pair."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "digits"
    digits = load_digits()
    chosen = zip(digits.images[:PICTURES], digits.target[:PICTURES], strict=True)
    for index, (scan, digit) in enumerate(chosen):
        size = "small" if digit < SMALL else "middle" if digit < MIDDLE else "large"
        place = folder / f"{'odd' if digit % 2 else 'even'}+{size}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(scan * 15.9375).astype(np.uint8)).save(place / f"{index}.png")
    (folder / two_labels.MARKER).touch()
    return folder


@pytest.fixture(autouse=True)
def _task() -> Iterator[None]:
    two_labels.install()
    yield
    two_labels.uninstall()


@pytest.fixture
def ask(capsys: Any) -> Any:
    def ask(*words: object, status: tuple[int, ...] = (0,)) -> Any:
        capsys.readouterr()
        assert run([*map(str, words), "--json"]) in status
        return json.loads(capsys.readouterr().out)

    return ask


def test_train_evaluate_predict_export_and_verify(pictures: Path, tmp_path: Path, ask: Any) -> None:
    output, exported = tmp_path / "run", tmp_path / "exported"
    words = ("--model", NETWORK, "--epochs", EPOCHS, "--output", output)
    trained = ask("train", pictures, *words)
    found = ask("evaluate", output, pictures)
    assert trained["both_right"] > 0.8 > CHANCE
    assert 0.8 < found["both_right"] <= found["second_right"] <= 1
    (file,) = ask("export", output, pictures, "--on", "local/onnxruntime", "--output", exported)
    (verified,) = ask("verify", output, exported / "onnxruntime-fp32", pictures)
    assert verified["verification"]["passed"]
    assert (
        file["verification"]["accuracy"]
        == verified["verification"]["accuracy"]
        == found["both_right"]
    )
    assert verified["verification"]["top1_agreement"] == 1.0
    assert run(["report", str(output)]) == 0
    page = (output / "report.html").read_text()
    assert f"After {EPOCHS} epochs the both right of the network is" in page
    told = ask("predict", output, next(pictures.glob("odd+large/*.png")))
    assert told[0]["label"] == "odd large"


def test_what_is_printed_names_the_metric(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "run"
    words = ["--model", NETWORK, "--epochs", "1", "--output", str(output)]
    assert run(["train", str(pictures), *words]) == 0
    assert run(["evaluate", str(output), str(pictures)]) == 0
    assert run(["predict", str(output), str(next(pictures.glob("odd+large/*.png")))]) == 0
    text = capsys.readouterr().out
    assert text.count("both right ") == 2
    assert "second right " in text


def test_fit_reports_and_packs(pictures: Path, tmp_path: Path, ask: Any) -> None:
    output = tmp_path / "run"
    words = (
        "--model",
        NETWORK,
        "--latency",
        "50ms",
        "--precision",
        "int8",
        "--epochs",
        EPOCHS,
        "--output",
        output,
    )
    found = ask("fit", pictures, *words)
    assert (found["verdict"], found["precision"]) == ("met", "int8")
    assert found["accuracy"]["artifact"] > 0.8
    assert "both right of the file on test" in (output / "report.html").read_text()
    picture = next(pictures.glob("odd+large/*.png"))
    told = subprocess.run(
        [sys.executable, output / "bundle" / "run.py", picture],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(told.stdout.split()) >= 2 + 3, "raw numbers: the runner knows classes alone"


def test_data_of_another_task_are_refused(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "run"
    words = ["--model", NETWORK, "--epochs", "1", "--output", str(output)]
    assert run(["train", str(pictures), *words]) == 0
    assert run(["evaluate", str(output), "demo"]) == 2
    assert "data for classification" in capsys.readouterr().err
