"""Files of ncnn, LiteRT and OpenVINO: every network answers as torch does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of, pictures, trained_like, weights_of

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError, UsageError
from featherweight.exporting.verify import network_answers
from featherweight.layers import layers
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.runtimes.litert import LiteRt
from featherweight.runtimes.litert_writer import write_litert
from featherweight.runtimes.ncnn import Ncnn
from featherweight.runtimes.ncnn_writer import write_ncnn
from featherweight.runtimes.openvino import OpenVino
from featherweight.runtimes.runtime import ExportOptions
from featherweight.zoo.model import MODELS

SAME = create_architecture(
    "mobilenet_v2", width=0.35, resolution=44, classes=5, padding="same", form="standard"
)
DEEP = {"efficientnet_lite4", "shufflenet_v2_164_se"}
"""With norms drawn at random, or with none, their values grow to thousands and more, where gates
turn rounding into other answers: onnxruntime differs from torch by half of the largest logit, too.
They are compared with norms that halve."""
NETWORKS = [
    *[pytest.param(one, id=f"{index}-{one.name}") for index, one in enumerate(ARCHITECTURES)],
    *[
        pytest.param(create_architecture(name, resolution=45, classes=5), id=name)
        for name in MODELS
    ],
    pytest.param(SAME, id="same-padding"),
]


def damped(architecture: Architecture) -> Network:
    network = build_network(architecture, seed=0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 0.5)
    return network.eval()


@pytest.mark.parametrize("runtime", [Ncnn(), LiteRt(), OpenVino()], ids=lambda one: one.name)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_network_answers_as_torch(architecture, runtime, tmp_path: Path) -> None:
    if architecture.num_classes == 0:
        pytest.skip("a file needs a classifier")
    grey = Preprocessing(mean=(0.5,), std=(0.25,))
    preprocessing = IMAGENET if architecture.input_shape[0] == 3 else grey
    is_deep = architecture.name in DEEP
    network = damped(architecture) if is_deep else trained_like(architecture)
    images = pictures(architecture, 2, seed=3)
    artifact = runtime.export(
        architecture,
        weights_of(network),
        tmp_path,
        ExportOptions(
            precision="fp32",
            preprocessing=preprocessing,
            labels=labels_of(architecture),
        ),
    )
    predict = runtime.load(artifact, num_threads=1)
    found = np.concatenate([predict(image[None])["logits"] for image in images])
    expected = network_answers(network, images, preprocessing=preprocessing)["logits"]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_activations_are_part_of_what_they_follow() -> None:
    text, _ = write_ncnn(SAME, None, preprocessing=IMAGENET, labels=labels_of(SAME))
    kinds = [line.split()[0] for line in text.splitlines()[2:]]
    assert "Clip" not in kinds, "ReLU6 is fused"
    assert kinds.count("Split") == kinds.count("BinaryOp") > 0, "one for every skip"
    first = next(line for line in text.splitlines() if line.startswith("Convolution "))
    assert "9=3 -23310=2,0.0,6.0" in first
    assert "4=0 14=0 15=1 16=1" in first, "SAME: the odd pixel comes after"


def test_litert_computes_relu_with_what_it_follows_and_pads_by_itself_where_it_can() -> None:
    symmetric = create_architecture(
        "mobilenet_v2", width=0.35, resolution=44, classes=5, form="standard"
    )
    counts = []
    for architecture in (SAME, symmetric):
        content = write_litert(
            architecture, None, preprocessing=IMAGENET, labels=labels_of(architecture)
        )
        model = schema.ModelT.InitFromPackedBuf(content)
        codes = [code.builtinCode for code in model.operatorCodes]
        kinds = [codes[one.opcodeIndex] for one in model.subgraphs[0].operators]
        operator = schema.BuiltinOperator
        assert operator.RELU6 not in kinds
        counts.append(kinds.count(operator.PAD))
    strided = [layer.input_shape[1] for layer in layers(symmetric) if layer.stride == 2]
    even = sum(size % 2 == 0 for size in strided)
    assert 0 < even < len(strided)
    assert counts == [0, even], "SAME pads otherwise at stride 2, where the size is even"


@pytest.mark.parametrize("write", [write_ncnn, write_litert])
def test_no_classifier_and_wrong_labels_are_refused(write: Any) -> None:
    features = create_architecture("mobilenet_v2", width=0.35, resolution=32, classes=0)
    with pytest.raises(UnsupportedError, match="no classifier"):
        write(features, None, preprocessing=IMAGENET, labels=())
    with pytest.raises(UsageError, match="1 labels for 5 classes"):
        write(SAME, None, preprocessing=IMAGENET, labels=("a",))


def test_labels_are_kept_in_the_litert_file() -> None:
    content = write_litert(SAME, None, preprocessing=IMAGENET, labels=labels_of(SAME))
    model = schema.ModelT.InitFromPackedBuf(content)
    (about,) = [one for one in model.metadata if one.name == b"featherweight"]
    notes = json.loads(bytes(model.buffers[about.buffer].data))
    assert notes["labels"] == list(labels_of(SAME))
