"""Commands as a program reads them: `--json` keys of the design, and help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featherweight.cli.app import run

COMMANDS = (
    "fit",
    "train",
    "evaluate",
    "predict",
    "profile",
    "measure",
    "export",
    "verify",
    "report",
    "models",
    "doctor",
    "data",
    "device",
)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


def test_profile_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "mobilenet_v2", "--json"]) == 0
    profile = json.loads(capsys.readouterr().out)
    assert profile["macs"] == 300_774_272
    assert profile["params"] == 3_504_872
    assert profile["flops"] == 594_870_432
    assert set(profile["layers"][0]) == {
        "name",
        "op",
        "output_shape",
        "params",
        "macs",
        "flops",
        "multiplications",
        "additions",
        "memory_access_bytes",
        "arithmetic_intensity",
    }
    assert profile["multiplications"] + profile["additions"] == profile["flops"]
    assert len(profile["separable_pairs"]) == 17


def test_profile_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    from onnx import TensorProto, helper, save

    def tensor(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weight = helper.make_tensor("w", TensorProto.FLOAT, [16, 10], [0.0] * 160)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Det", ["s"], ["d"])]
    for used, unknown in ((nodes[:1], False), (nodes, True)):
        inputs = [tensor("x", "batch", 16), tensor("s", 1, 3, 3)]
        outputs = [tensor("y", "batch", 10)]
        save(helper.make_model(helper.make_graph(used, "g", inputs, outputs, [weight])), "a.onnx")
        assert run(["profile", "a.onnx", "--json"]) == 0
        profile = json.loads(capsys.readouterr().out)
        assert profile["macs"] == (None if unknown else 160)
        assert profile["unknown_ops"] == (["Det"] if unknown else [])
        assert run(["profile", "a.onnx"]) == 0
        text = capsys.readouterr().out
        assert ("unknown operators, so no totals: Det" in text) is unknown
        assert ("160 MACs" in text) is not unknown


def test_profile_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "mobilenet_v1"]) == 0
    text = capsys.readouterr().out
    assert "568,740,352 MACs (multiply-adds)" in text
    assert "13 depthwise-separable pairs" in text
    assert "plain MACs" in text
    assert run(["profile", "convnet"]) == 0
    assert "plain MACs" not in capsys.readouterr().out


def test_models_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert {"mobilenet_v1", "mobilenet_v2", "efficientnet_lite0", "convnet"} <= set(listed)
    assert listed["mobilenet_v1"]["macs"] == 568_740_352


def test_data_check_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["images"] == 1797


def test_measure_json(capsys: pytest.CaptureFixture[str]) -> None:
    on = ["--on", "local/onnxruntime:threads=1,precision=fp32"]
    assert run(["measure", "convnet:width=0.25", "convnet:width=1", *on, "--json"]) == 0
    small, large = json.loads(capsys.readouterr().out)
    assert small["median_ms"] < large["median_ms"]
    assert small["platform"] == "local/onnxruntime:threads=1,precision=fp32"
    assert small["ratio"] is None
    ratio, low, high = large["ratio"]
    assert 1.0 < low <= ratio <= high
    assert len(small["samples_ms"]) >= 5


def test_measure_sustained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", "convnet:width=0.25", "--sustained", "3s", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert len(one["samples_ms"]) > 110, "as many as three seconds hold"
    ratio, low, high = one["drift"]
    assert low <= ratio <= high
    assert 0.3 < ratio < 3.0
    assert run(["measure", "convnet:width=0.25", "--sustained", "soon"]) == 2
    assert "soon" in capsys.readouterr().err


def test_infeasible_budget_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "demo", "--latency", "0.001ms", "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert summary["verdict"] == "infeasible"
    assert summary["nearest_feasible_ms"] > 0.001
    assert not (Path(summary["run_directory"]) / "train.jsonl").exists()
    assert (Path(summary["run_directory"]) / "report.html").exists()


@pytest.mark.slow
def test_train_evaluate_predict_export(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    out = tmp_path / "trained"
    model = ["--model", "convnet:width=0.25", "--epochs", "3", "--output", str(out)]
    assert run(["train", "demo", *model, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["split"] == "val"
    assert trained["accuracy"] > 0.5

    assert run(["evaluate", str(out), "demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"

    digits = load_digits()
    picture = tmp_path / "digit.png"
    Image.fromarray((digits.images[0] * 15.9).astype("uint8")).save(picture)
    assert run(["predict", str(out), str(picture), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] == str(digits.target[0])

    platform = "local/onnxruntime:threads=1,precision=int8"
    assert run(["export", str(out), "demo", "--on", platform, "--json"]) == 0
    (shipped,) = json.loads(capsys.readouterr().out)
    assert shipped["verification"]["split"] == "test"
    folder = Path(shipped["files"][0]).parent
    assert run(["verify", str(out), str(folder), "demo", "--json"]) == 0
