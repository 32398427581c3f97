"""What people pass from Python: paths as text, seeds, and what is neither."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import featherweight
from featherweight.arguments import LARGEST_SEED, check_seed, home_folder, to_data, to_path
from featherweight.data.home import cache_directory
from featherweight.devices.known import settings_folder
from featherweight.errors import DataError, RecordError, UsageError
from featherweight.networks.resolve import resolve_architecture
from featherweight.nn.network import build_network

_GIVEN_BY_OTHERS = {"train_network"}
"""Takes the directory of an open run."""


def test_every_public_function_takes_paths_as_text() -> None:
    strict, found = [], 0
    for name in featherweight.__all__:
        function = getattr(featherweight, name)
        if name in _GIVEN_BY_OTHERS or not inspect.isfunction(function):
            continue
        for parameter in inspect.signature(function).parameters.values():
            kinds = str(parameter.annotation)
            found += "Path" in kinds
            if "Path" in kinds and "str" not in kinds:
                strict.append(f"{name}({parameter.name})")
    assert strict == []
    assert found >= 20


def test_text_is_a_path_in_every_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import featherweight as fw
    from featherweight.networks.preprocessing import Preprocessing

    monkeypatch.chdir(tmp_path)
    network = build_network(resolve_architecture("convnet:width=0.25,classes=2"), seed=0)
    fw.save_network(network, "run", preprocessing=Preprocessing(), classes=("a", "b"))
    assert fw.load_network("run").classes == ("a", "b")
    assert fw.read_architecture("run/architecture.json") == network.architecture
    with pytest.raises(DataError, match="cannot read the picture nothing"):
        fw.predict("run", pictures=["nothing.png"])
    with pytest.raises(DataError, match="cannot read the picture nothing"):
        fw.predict("run", pictures="nothing.png")
    with pytest.raises(UsageError, match="no such file or folder: nowhere"):
        fw.evaluate("run", data="nowhere")
    with pytest.raises(UsageError, match="no such file or folder: nowhere"):
        fw.train("nowhere", model="convnet", teacher="run", output="out", runs="runs")
    with pytest.raises(RecordError, match=r"artifact\.json"):
        fw.verify("run", artifact="nowhere", data="demo")
    (shipped,) = fw.export("run", on=["local/onnxruntime"], output="files")
    assert shipped.artifact.paths[0].is_file()
    with pytest.raises(UsageError, match="nowhere"):
        fw.write_report("nowhere")
    with pytest.raises(UsageError, match="nowhere"):
        fw.fit(from_run="nowhere", latency="1ms", output="out", runs="runs")
    with pytest.raises(UsageError, match="nowhere"):
        fw.predict_latencies(["convnet"], table="nowhere.json")


def test_an_array_is_no_path() -> None:
    import featherweight as fw

    array = np.zeros((3, 3))
    for call in (
        lambda: fw.predict(array, pictures=[]),
        lambda: fw.predict("run", pictures=[array]),
        lambda: fw.evaluate("run", data=array),
        lambda: fw.export(array, on=[]),
        lambda: fw.verify("run", artifact=array, data="demo"),
        lambda: fw.train(array, model="convnet"),
        lambda: fw.train("demo", model="convnet", output=array),
        lambda: fw.fit("demo", latency="1ms", output=array),
        lambda: fw.load_network(array),
        lambda: fw.read_architecture(array),
        lambda: fw.write_report(array),
    ):
        with pytest.raises(UsageError, match=r"numpy\.ndarray, not a path; allowed: a str or"):
            call()


def test_a_home_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert to_path("~/x", name="output") == Path.home() / "x"
    with pytest.raises(UsageError, match=r"output '~nosuchuser/x' is in the home directory of n"):
        to_path("~nosuchuser/x", name="output")
    with pytest.raises(UsageError, match="zero byte"):
        to_path("a\0b", name="output")

    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    monkeypatch.delenv("FEATHERWEIGHT_HOME", raising=False)
    for call in (lambda: home_folder("x"), settings_folder, cache_directory):
        with pytest.raises(UsageError, match="set HOME, or FEATHERWEIGHT_HOME"):
            call()
    with pytest.raises(UsageError, match="cannot be found"):
        to_path("~", name="output")


def test_a_folder_called_demo_is_not_the_demo() -> None:
    assert to_data("./demo") == "./demo"
    assert to_data(Path("pets")) == "pets"
    assert to_data("~/pets") == str(Path.home() / "pets")


@pytest.mark.parametrize("seed", [-1, 2**63, 10**400, 1.5, True, "1"])
def test_seeds_out_of_range_are_refused(seed: object) -> None:
    assert check_seed(0) == 0
    assert check_seed(LARGEST_SEED) == 2**63 - 1
    with pytest.raises(UsageError, match="cannot use the seed"):
        check_seed(seed)  # type: ignore[arg-type]
