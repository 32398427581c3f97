"""A detector's file answers the boxes that torch does, in two runtimes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from drawn_objects import HEADS, SIDE, detector_of, drawn_pictures, learnt

from featherweight.data.augmentation import normalise_batch
from featherweight.detection.network import DetectorNetwork
from featherweight.detection.parts import dense_part
from featherweight.errors import UsageError
from featherweight.exporting.detector_onnx import DETECTOR_OUTPUTS, write_detector_onnx
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.runtimes.openvino import shuffle_by_transposing

PREPROCESSING = Preprocessing(mean=(0.2, 0.2, 0.2), std=(0.3, 0.3, 0.3))


def state(part: Network | None) -> dict[str, np.ndarray] | None:
    return None if part is None else {k: v.numpy() for k, v in part.state_dict().items()}


@pytest.fixture(scope="module", params=HEADS)
def trained(request: pytest.FixtureRequest) -> tuple[DetectorNetwork, np.ndarray]:
    """Return a detector and uint8 pictures that it knows."""
    drawn, objects = drawn_pictures(6)
    levels = ((drawn * 0.3 + 0.2).clamp(0, 1) * 255).round().to(torch.uint8)
    images = levels.permute(0, 2, 3, 1).contiguous()
    inputs = normalise_batch(images, mean=PREPROCESSING.mean, std=PREPROCESSING.std)
    network = learnt(detector_of(HEADS[request.param]), inputs, objects, steps=60)
    return network, images.numpy()


def written(network: DetectorNetwork) -> onnx.ModelProto:
    dense = state(network.dense)
    assert dense is not None
    return write_detector_onnx(
        network.detector,
        dense,
        state(network.boxes),
        preprocessing=PREPROCESSING,
        labels=("square", "disc"),
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_file_finds_what_torch_finds(
    runtime: str, trained: tuple[DetectorNetwork, np.ndarray], tmp_path: Path
) -> None:
    network, images = trained
    path, model = tmp_path / "model.onnx", written(network)
    if runtime == "openvino":
        shuffle_by_transposing(model, dense_part(network.detector))
    onnx.save(model, path)
    if runtime == "onnxruntime":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def answer(image: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(DETECTOR_OUTPUTS, session.run(None, {"image": image}), strict=True))
    else:
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(path, "CPU", options)

        def answer(image: np.ndarray) -> dict[str, np.ndarray]:
            found = compiled({"image": image})
            return {name: np.array(found[name]) for name in DETECTOR_OUTPUTS}

    inputs = normalise_batch(
        torch.from_numpy(images), mean=PREPROCESSING.mean, std=PREPROCESSING.std
    )
    expected, seen = network.detect(inputs), 0
    for image, own in zip(images, expected, strict=True):
        found = answer(image[None])
        sure = own.scores > 0.3
        assert sure.sum() == (found["scores"] > 0.3).sum()
        order = np.argsort(-own.scores[sure], kind="stable")
        for box, score, label in zip(
            own.boxes[sure][order], own.scores[sure][order], own.labels[sure][order], strict=True
        ):
            near = np.abs(found["boxes"] - box).max(1) + 1e3 * (found["labels"] != label)
            assert near.min() < 0.5, "pixels"
            assert found["scores"][near.argmin()] == pytest.approx(score, abs=1e-3)
            seen += 1
        assert (np.diff(found["scores"]) <= 0).all(), "the surest first"
        assert found["boxes"].min() >= 0
        assert found["boxes"].max() <= SIDE
    assert seen >= 6


def test_the_file_says_what_it_is(trained: tuple[DetectorNetwork, np.ndarray]) -> None:
    model = written(trained[0])
    onnx.checker.check_model(model, full_check=True)
    notes = {one.key: one.value for one in model.metadata_props}
    assert json.loads(notes["labels"]) == ["square", "disc"]
    assert json.loads(notes["detector"])["head"]["kind"] == trained[0].detector.head.kind
    assert notes["architecture_digest"] == trained[0].detector.digest
    with pytest.raises(UsageError, match="3 labels for 2 classes"):
        write_detector_onnx(
            trained[0].detector,
            state(trained[0].dense) or {},
            state(trained[0].boxes),
            preprocessing=PREPROCESSING,
            labels=("a", "b", "c"),
        )
