"""Bad input: one clear line on stderr, the right exit code, nothing lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from featherweight.cli.app import run


def make_pictures(folder: Path, *, count: int = 6, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, len(folder.name)])
    for k in range(count):
        pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")


def fails(capsys: pytest.CaptureFixture[str], arguments: list[str], *, code: int, says: str) -> str:
    assert run(arguments) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    assert says in lines[0], lines[0]
    return captured.out


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "empty"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))


def test_missing_folder(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["fit", "no-such-folder", "--latency", "5ms"], code=2, says="no-such-folder")


def test_empty_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    fails(capsys, ["fit", str(tmp_path / "nothing"), "--latency", "5ms"], code=2, says="nothing")


def test_one_class(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_pictures(tmp_path / "data" / "cats")
    fails(capsys, ["fit", str(tmp_path / "data"), "--latency", "5ms"], code=2, says="class")


def test_only_broken_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for label in ("cats", "dogs"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(6):
            (tmp_path / "data" / label / f"{k}.jpg").write_bytes(b"not a picture" * k)
    fails(capsys, ["fit", str(tmp_path / "data"), "--latency", "5ms"], code=2, says=".jpg")


def test_parquet_without_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"x", b"y"]), "size": pa.array([1, 2])})
    pq.write_table(table, tmp_path / "pictures.parquet")
    fails(
        capsys,
        ["fit", str(tmp_path / "pictures.parquet"), "--latency", "5ms"],
        code=2,
        says="label",
    )


@pytest.mark.parametrize("latency", ["5", "5 parsecs", "-1ms", "0ms", "fast"])
def test_wrong_latency(capsys: pytest.CaptureFixture[str], latency: str) -> None:
    fails(capsys, ["fit", "demo", f"--latency={latency}"], code=2, says="allowed")


def test_wrong_time(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--time", "soon"]
    fails(capsys, arguments, code=2, says="20m")


def test_time_and_epochs_together(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--time", "1m", "--epochs", "1"]
    fails(capsys, arguments, code=2, says="one of them")


def test_unknown_network_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["profile", "mobilnet_v2"], code=2, says="did you mean 'mobilenet_v2'?")


def test_unknown_setting(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["profile", "mobilenet_v2:widht=0.5"], code=2, says="width")


def test_unknown_platform(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--on", "local/onnxruntim"]
    fails(capsys, arguments, code=2, says="onnxruntime")


def test_unknown_precision(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--precision", "fp12"]
    fails(capsys, arguments, code=2, says="int8")


def test_unknown_flag(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["fit", "demo", "--latency", "5ms", "--fast"], code=2, says="--fast")


def test_weights_without_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--pretrained", "w.pth"]
    fails(capsys, arguments, code=2, says="--model")


def test_output_below_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    arguments = ["fit", "demo", "--latency", "5ms", "--output", str(tmp_path / "file" / "run")]
    fails(capsys, arguments, code=2, says="--output")


@pytest.mark.skipif(os.geteuid() != 0, reason="chmod stops other users")
def test_output_on_a_read_only_file_system(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--output", "/proc/featherweight"]
    fails(capsys, arguments, code=2, says="/proc/featherweight")


def test_output_of_another_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert run(["fit", "demo", "--latency", "0.0001ms", "--output", out]) == 3
    capsys.readouterr()
    arguments = ["fit", "demo", "--latency", "7ms", "--output", out]
    fails(capsys, arguments, code=2, says="latency_ms")


def test_json_error(capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, ["profile", "mobilnet_v2", "--json"], code=2, says="mobilnet_v2")
    assert set(json.loads(said)) == {"error", "allowed", "hint"}


def test_unknown_metric(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "demo", "--latency", "5ms", "--metric", "f1"]
    fails(capsys, arguments, code=2, says="balanced_accuracy")


def test_report_of_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fails(capsys, ["report", str(tmp_path)], code=2, says=str(tmp_path))


def test_evaluate_without_a_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fails(capsys, ["evaluate", str(tmp_path), "demo"], code=2, says=str(tmp_path))


def test_nan_loss_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    import featherweight.training.beginning as beginning_module

    def explosive(**settings: object) -> object:
        recipe = original(**settings)  # type: ignore[arg-type]
        return recipe.model_copy(update={"learning_rate": 1e30, "warm_up_share": 0.0})

    original = beginning_module.default_recipe
    monkeypatch.setattr(beginning_module, "default_recipe", explosive)
    arguments = ["train", "demo", "--model", "convnet:width=0.25", "--epochs", "1"]
    fails(capsys, arguments, code=1, says="learning rate")
