"""`ghost` from a trained run to a proven file; multiply-adds for milliseconds choose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest
from fakes import PlayedDevice

from featherweight.cli.app import run
from featherweight.errors import UsageError
from featherweight.fitting.ghost import ghost
from featherweight.journal import Journal
from featherweight.layers import layers
from featherweight.measuring import latency
from featherweight.networks.storage import load_network
from featherweight.runtimes.artifact import Artifact

NETWORK = "convnet:width=0.5,resolution=16"


class FineDevice(PlayedDevice):
    """Nearly all of a time is that of the multiply-adds."""

    fixed_ms = 0.001


class FixedDevice(PlayedDevice):
    """Nothing that a network computes takes any time."""

    fixed_ms = 1.0
    gmacs: ClassVar = {"fp32": 1e9, "int8": 1e9}


@pytest.fixture(scope="module", autouse=True)
def _played() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "answer_of_device", FineDevice())
        yield


@pytest.fixture(scope="module")
def parent(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parent") / "run"
    words = ["train", str(few_digits), "--model", NETWORK, "--epochs", "2"]
    assert run([*words, "--output", str(path)]) == 0
    return path


@pytest.fixture
def ask(parent: Path, few_digits: Path, tmp_path: Path, capsys: Any) -> Any:
    def ask(*words: str, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        place = ["--output", str(tmp_path / "run"), "--epochs", "1", "--json"]
        assert run(["ghost", str(parent), str(few_digits), *words, *place]) == status
        said = capsys.readouterr().out
        return dict(json.loads(said)) if status != 130 else {}

    return ask


@pytest.mark.parametrize("form", ["ghost", pytest.param("rep", marks=pytest.mark.slow)])
def test_modules_where_the_device_is_faster(ask: Any, form: str) -> None:
    found = ask("--form", form)
    assert found["verdict"] == "met"
    assert found["theoretical_speed_up"] > 1.1
    assert found["measured_speed_up"] == pytest.approx(found["theoretical_speed_up"], rel=0.05)
    assert found["final"]["latency_ms"] < found["start"]["latency_ms"]
    assert found["final"]["split"] == "test"
    kept = [name for one in found["layers"] if one["kept"] for name in one["layers"]]
    made = {one.name for one in layers(load_network(found["run_directory"]).network.architecture)}
    assert kept
    assert all(f"{name}_primary" in made for name in kept)
    assert set(found["explained"]) == (set(kept) if form == "ghost" else set())
    stages = [one["stage"] for one in Journal(Path(found["run_directory"]) / "stages.jsonl").read()]
    assert stages.index("start") < stages.index("ghosts")
    assert ask("--form", form) == found, "a finished run is read back"


@pytest.mark.slow
def test_a_cut_ghost_in_int8_goes_on_with_the_same_modules(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--on", "local/onnxruntime:threads=1,precision=int8"]

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("featherweight.fitting.ghost"), "train_in_turn", cut)
        ask(*words, status=130)
    stages = Journal(tmp_path / "run" / "stages.jsonl")
    before = [one for one in stages.read() if one["stage"] in ("start", "ghosts")]
    assert len(before) == 2
    found = ask(*words)
    assert found["platform"].endswith("precision=int8")
    assert found["verdict"] == "met"
    assert [one for one in stages.read() if one["stage"] in ("start", "ghosts")] == before
    assert found["layers"] == before[1]["outputs"]["trials"]


def test_where_nothing_becomes_faster_nothing_is_changed(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "answer_of_device", FixedDevice())
    found = ask(status=3)
    assert found["verdict"] == "infeasible"
    assert found["measured_speed_up"] is None
    assert not any(one["kept"] for one in found["layers"])


class ConcatDevice(FineDevice):
    """Every concatenation takes as long as all the rest."""

    def _ms(self, artifact: Artifact) -> float:
        model = onnx.load(Path(artifact.directory) / artifact.files[0])
        joins = sum(node.op_type == "Concat" for node in model.graph.node)
        return super()._ms(artifact) * (1 + joins)


@pytest.mark.slow
def test_everywhere_is_proven_as_it_is_though_it_is_slower(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "answer_of_device", ConcatDevice())
    found = ask("--everywhere", status=3)
    assert found["verdict"] == "not_met"
    assert found["measured_speed_up"] < 1
    assert all(one["kept"] for one in found["layers"])
    made = {one.name for one in layers(load_network(found["run_directory"]).network.architecture)}
    assert any(name.endswith("_primary") for name in made)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ratio", "1"], "a ghost ratio of 1 changes nothing"),
        (["--kernel-size", "4"], "cheap filters of side 4"),
        (["--form", "gost"], "no form of ghost modules named 'gost'"),
        (["--time", "1m", "--epochs", "1"], "both time and epochs"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, parent: Path, few_digits: Path, capsys: Any
) -> None:
    assert run(["ghost", str(parent), str(few_digits), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_network_without_dense_convolutions_is_refused(few_digits: Path, tmp_path: Path) -> None:
    words = ["train", str(few_digits), "--model", "mobilenet_v1:width=0.1,resolution=16"]
    assert run([*words, "--epochs", "1", "--output", str(tmp_path / "thin")]) == 0
    with pytest.raises(UsageError, match="no dense convolution"):
        ghost(tmp_path / "thin", few_digits, epochs=1, output=tmp_path / "run", kernel_size=15)
