"""The roofline: peaks from differences, layers from the profiler's nodes, and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from featherweight.cli.app import run
from featherweight.errors import DeviceError
from featherweight.measuring import roofline as rooflines
from featherweight.measuring.layer_times import NodeTime
from featherweight.measuring.node_times import node_times
from featherweight.measuring.roofline import measure_roofline
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile
from featherweight.reporting.roofline import render_roofline, roofline_chart
from featherweight.runtimes.artifact import Artifact, read_artifact
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions

GFLOP_PER_S, CACHE, MEMORY = 100.0, 50.0, 10.0
NETWORK = "mobilenet_v2:width=0.35,resolution=64,classes=10"


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that computes at one speed and moves bytes at another, big maps slower."""
    exported: list[Any] = []

    def export(architecture: Any, **_: Any) -> Any:
        exported.append(architecture)
        return architecture

    def measure(artifacts: Sequence[Any], **_: Any) -> list[Any]:
        return [SimpleNamespace(median_ms=imagined_ms(one)) for one in artifacts]

    monkeypatch.setattr(rooflines, "export_untrained", export)
    monkeypatch.setattr(rooflines, "measure_artifacts", measure)
    monkeypatch.setattr(rooflines, "node_times", lambda artifacts, _: [[] for _ in artifacts])


def imagined_ms(architecture: Any) -> float:
    counted = profile(architecture)
    flops, moved = float(counted.flops or 0), float(counted.memory_access_bytes or 0)
    if architecture.name == "convolutions":
        return 1.0 + flops / GFLOP_PER_S * 1e-6
    if architecture.name == "additions":
        return 1.0 + moved / (MEMORY if architecture.resolution > 100 else CACHE) * 1e-6
    return 2.0 * max(flops / GFLOP_PER_S, moved / CACHE) * 1e-6


def test_peaks_are_those_of_the_layers_alone(imagined: None) -> None:
    found = measure_roofline([NETWORK], on="local/onnxruntime")
    assert found.roof.gflop_per_s == pytest.approx(GFLOP_PER_S, rel=0.01)
    assert found.roof.cache_gb_per_s == pytest.approx(CACHE, rel=0.01)
    assert found.roof.memory_gb_per_s == pytest.approx(MEMORY, rel=0.01)
    (spot,) = found.networks
    assert spot.flops == profile(resolve_architecture(NETWORK)).flops
    assert spot.share == pytest.approx(0.5, rel=0.01), "it takes twice what the roof allows"


def test_int8_moves_a_quarter_of_the_bytes_at_the_same_bandwidth(imagined: None) -> None:
    found = [
        measure_roofline([NETWORK], on=f"local/onnxruntime:precision={precision}")
        for precision in ("fp32", "int8")
    ]
    fp32, int8 = (one.networks[0] for one in found)
    assert int8.memory_bytes == fp32.memory_bytes / 4
    assert int8.intensity == pytest.approx(4 * fp32.intensity)
    assert found[0].roof.cache_gb_per_s == found[1].roof.cache_gb_per_s


def test_layers_that_cost_nothing_are_no_measurement(
    imagined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = lambda artifacts, **_: [SimpleNamespace(median_ms=1.0) for _ in artifacts]  # noqa: E731
    monkeypatch.setattr(rooflines, "measure_artifacts", constant)
    with pytest.raises(DeviceError, match="8 equal layers took no longer than 2"):
        measure_roofline([NETWORK], on="local/onnxruntime")


def written(network: str, precision: str, out: Path) -> Artifact:
    architecture = resolve_architecture(network)
    RUNTIMES["onnxruntime"].export(
        architecture,
        None,
        out,
        ExportOptions(
            precision=precision,
            preprocessing=Preprocessing(),
            labels=tuple(map(str, range(architecture.num_classes))),
        ),
    )
    return read_artifact(out)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_nodes_of_a_real_file_are_its_layers(precision: str, tmp_path: Path) -> None:
    artifact = written(NETWORK, precision, tmp_path)
    network = {"directory": str(tmp_path), "files": artifact.files, "input_shape": (64, 64, 3)}
    nodes = [NodeTime(*node) for node in node_times(network, num_threads=1, runs=3)]
    architecture = resolve_architecture(NETWORK)
    found = rooflines._layer_times(architecture, profile(architecture), nodes)
    timed = {layer.name for layer, _ in found}
    computing = {one.name for one in profile(architecture).layers if one.op in ("conv", "linear")}
    assert computing <= timed, computing - timed
    assert sum(ms for _, ms in found) <= 1.001 * sum(node.ms for node in nodes)


def test_the_page_and_the_command(
    imagined: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "roofline.html"
    assert run(["device", "roofline", "local/onnxruntime", "--plot", str(page)]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    assert run(["device", "roofline", "local/onnxruntime", "--plot", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert run(["device", "roofline", "local/onnxruntime", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["networks"]) == 4
    text = page.read_text()
    assert "mobilenet_v3_small" in text
    assert "http" not in text.split("<script>")[0].replace("http-equiv", "")


def test_the_roof_turns_at_its_ridge(imagined: None) -> None:
    found = measure_roofline([NETWORK], on="local/onnxruntime")
    cache = roofline_chart(found)["data"][0]
    assert cache["x"][1] == pytest.approx(found.roof.gflop_per_s / found.roof.cache_gb_per_s)
    assert cache["y"][1] == cache["y"][2] == pytest.approx(found.roof.gflop_per_s)
    assert "Roofline of local/onnxruntime" in render_roofline(found)
