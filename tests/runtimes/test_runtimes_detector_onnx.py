"""A detector's file answers the boxes that torch does, in two runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cases import often
from drawn_objects import FINE, HEADS, SIDE, detector_of, drawn_pictures, learnt

from featherweight.data.augmentation import normalise_batch
from featherweight.detection.answering import COMPARED, LEAST_SCORE
from featherweight.detection.network import DetectorNetwork, build_detector
from featherweight.detection.table import DETECTIONS, NO_OBJECT
from featherweight.errors import FeatherweightError, UnsupportedError, UsageError
from featherweight.exporting.export import export_network
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.latency import measure_artifacts
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact, ExportOptions
from featherweight.runtimes.detector_onnx import write_detector_onnx
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.tasks.task import TASKS

PREPROCESSING = Preprocessing(mean=(0.2, 0.2, 0.2), std=(0.3, 0.3, 0.3))


@pytest.fixture(scope="module", params=HEADS)
def trained(request: pytest.FixtureRequest) -> tuple[DetectorNetwork, np.ndarray]:
    """Return a detector and uint8 pictures that it knows."""
    drawn, objects = drawn_pictures(6)
    levels = ((drawn * 0.3 + 0.2).clamp(0, 1) * 255).round().to(torch.uint8)
    images = levels.permute(0, 2, 3, 1).contiguous()
    inputs = normalise_batch(images, mean=PREPROCESSING.mean, std=PREPROCESSING.std)
    network = learnt(detector_of(HEADS[request.param]), inputs, objects, steps=60)
    return network, images.numpy()


def export(network: DetectorNetwork, runtime: str, out: Path, **more: Any) -> Artifact:
    return export_network(
        network,
        runtime=runtime,
        out=out,
        preprocessing=PREPROCESSING,
        labels=("square", "disc"),
        task="detection",
        **more,
    )


def expected_of(network: DetectorNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    inputs = normalise_batch(
        torch.from_numpy(images), mean=PREPROCESSING.mean, std=PREPROCESSING.std
    )
    return {DETECTIONS: network(inputs).numpy()}


@pytest.mark.parametrize(
    "runtime",
    [
        "onnxruntime",
        "openvino",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("ncnn", marks=pytest.mark.slow),
        pytest.param("litert", marks=pytest.mark.slow),
        pytest.param("executorch", marks=pytest.mark.slow),  # half a minute to lower
    ],
)
def test_the_file_finds_what_torch_finds(
    runtime: str, trained: tuple[DetectorNetwork, np.ndarray], tmp_path: Path
) -> None:
    network, images = trained
    artifact = export(network, runtime, tmp_path)
    found, expected = load_answers(artifact)(images), expected_of(network, images)
    table = found[DETECTIONS]
    assert table.shape == (len(images), 100, 6)
    assert (table[..., 5] != NO_OBJECT).sum() >= len(images)
    task = TASKS["detection"]
    largest, counted = task.error(found, expected)
    assert largest < 0.5 / SIDE, "half a pixel"
    assert counted < 1e-3
    assert task.agreement(found, expected) == 1.0
    rows = table[table[..., 5] != NO_OBJECT]
    assert rows[:, :5].min() >= 0.0
    assert rows[:, :5].max() <= 1.0
    for own in table:
        scores = own[own[:, 5] != NO_OBJECT, 4]
        assert (np.diff(scores) <= 0).all(), "the surest first"
        assert not own[len(scores) :, :5].any()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "ncnn"])
def test_of_too_many_answers_the_surest_are_compared(runtime: str, tmp_path: Path) -> None:
    """A detector that knows nothing says a box for every anchor."""
    many = tuple((0.1 + 0.02 * k, 0.2 - 0.02 * k) for k in range(6))
    network = build_detector(detector_of(FINE.model_copy(update={"fine_anchors": many})), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, module in network.dense.named_modules():
            if "anchor_scores" in name and isinstance(module, torch.nn.Conv2d):
                module.weight.normal_(0.0, 0.3, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    inputs = normalise_batch(
        torch.from_numpy(images), mean=PREPROCESSING.mean, std=PREPROCESSING.std
    )
    network.eval()
    scores = network.raw(inputs).logits.softmax(2)[..., 1:]
    assert (scores > LEAST_SCORE).sum((1, 2)).min() > COMPARED
    artifact = export(network, runtime, tmp_path)
    found, expected = load_answers(artifact)(images), expected_of(network, images)
    assert TASKS["detection"].error(found, expected)[0] < 0.5 / SIDE
    assert TASKS["detection"].agreement(found, expected) > 0.98


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "ncnn"])
def test_proposals_without_width_are_dropped_as_in_torch(runtime: str, tmp_path: Path) -> None:
    """The likeliest proposals lie beside the picture: clipped to it they have no width."""
    network = build_detector(detector_of(HEADS["thundernet"]), seed=0).eval()
    convs = dict(network.dense.named_modules())
    with torch.no_grad():
        scores, deltas = (convs[f"proposal.{one}"].conv for one in ("scores", "deltas"))
        scores.bias.zero_()
        scores.bias[1::8] = 10.0
        deltas.bias.zero_()
        deltas.bias[0::16] = 50.0
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    inputs = normalise_batch(
        torch.from_numpy(images), mean=PREPROCESSING.mean, std=PREPROCESSING.std
    )
    raw = network.raw(inputs)
    kept = network.proposals(raw, most=50)[0]
    assert len(kept)
    assert (kept[:, 2] - kept[:, 0]).min() >= 1.0
    found, expected = (
        load_answers(export(network, runtime, tmp_path))(images),
        expected_of(network, images),
    )
    assert TASKS["detection"].error(found, expected)[0] < 0.5 / SIDE
    assert np.allclose(found[DETECTIONS], expected[DETECTIONS], atol=1e-3)


@pytest.mark.parametrize("runtime", often(["onnxruntime", "openvino"], ["onnxruntime"]))
def test_the_dense_part_is_rounded_to_int8(
    runtime: str, trained: tuple[DetectorNetwork, np.ndarray], tmp_path: Path
) -> None:
    network, images = trained
    artifact = export(network, runtime, tmp_path, precision="int8", calibration=images)
    assert artifact.int8_operators is not None
    whole = export(network, runtime, tmp_path / "whole")
    assert artifact.size_bytes < 0.5 * whole.size_bytes
    found, expected = load_answers(artifact)(images), expected_of(network, images)
    assert TASKS["detection"].agreement(found, expected) > 0.8


@pytest.mark.parametrize("runtime", ["litert", "executorch"])
def test_int8_in_parts_is_refused(
    runtime: str, trained: tuple[DetectorNetwork, np.ndarray], tmp_path: Path
) -> None:
    network, images = trained
    with pytest.raises(UnsupportedError, match="int8 of a detector"):
        export(network, runtime, tmp_path, precision="int8", calibration=images)


def test_a_detector_in_parts_is_timed(
    trained: tuple[DetectorNetwork, np.ndarray], tmp_path: Path
) -> None:
    artifact = export(trained[0], "ncnn", tmp_path)
    assert artifact.files[-2:] == ("boxes.safetensors", "detector.json")
    (measured,) = measure_artifacts(
        [artifact],
        platform=parse_platform("local/ncnn:threads=1"),
        names=["small"],
        samples=5,
        max_s_each=1.0,
        repeat_disturbed=False,
    )
    assert 0.1 < measured.median_ms < 1000
    (tmp_path / "detector.json").write_text("{}")
    with pytest.raises(FeatherweightError, match=r"detector\.json"):
        RUNTIMES["ncnn"].load(artifact, num_threads=1)


def test_the_file_says_what_it_is(
    trained: tuple[DetectorNetwork, np.ndarray], tmp_path: Path
) -> None:
    network = trained[0]
    artifact = export(network, "onnxruntime", tmp_path)
    model = onnx.load(artifact.paths[0])
    onnx.checker.check_model(model, full_check=True)
    notes = {one.key: one.value for one in model.metadata_props}
    assert json.loads(notes["labels"]) == ["square", "disc"]
    assert json.loads(notes["detector"])["head"]["kind"] == network.architecture.head.kind
    assert notes["architecture_digest"] == network.architecture.digest
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    with pytest.raises(UsageError, match="3 labels for 2 classes"):
        write_detector_onnx(
            network.architecture, weights, preprocessing=PREPROCESSING, labels=("a", "b", "c")
        )


@pytest.mark.parametrize("head", HEADS)
def test_a_detector_without_weights_can_be_timed(head: str, tmp_path: Path) -> None:
    options = ExportOptions(
        precision="fp32", preprocessing=PREPROCESSING, labels=("square", "disc"), task="detection"
    )
    artifact = RUNTIMES["onnxruntime"].export(detector_of(HEADS[head]), None, tmp_path, options)
    predict = RUNTIMES["onnxruntime"].load(artifact, num_threads=1)
    answer = predict(np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8))
    assert {name: value.shape for name, value in answer.items()} == {DETECTIONS: (1, 100, 6)}
