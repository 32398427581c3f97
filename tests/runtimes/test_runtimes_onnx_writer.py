import json
import time

import numpy as np
import pytest
from artifact_networks import ARCHITECTURES, IMAGENET, block, labels_of, network_of

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError, UsageError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.weights import random_weights, weight_shapes

SMALL = ARCHITECTURES[4]


def write(architecture=SMALL, weights=None, **settings):
    given = {"preprocessing": IMAGENET, "labels": labels_of(architecture), **settings}
    return write_onnx(architecture, weights, **given)


def test_metadata_describes_the_network() -> None:
    facts = {item.key: item.value for item in write().metadata_props}
    assert json.loads(facts["labels"]) == list(labels_of(SMALL))
    assert Preprocessing.model_validate_json(facts["preprocessing"]) == IMAGENET
    assert Architecture.model_validate_json(facts["architecture"]) == SMALL
    assert facts["architecture_digest"] == SMALL.digest


def test_division_is_folded_and_norms_are_gone() -> None:
    operators = [node.op_type for node in write().graph.node]
    assert operators[:4] == ["Transpose", "Cast", "Sub", "Conv"]
    assert not {"BatchNormalization", "Mul", "Div"} & set(operators)


def test_mobilenet_v2_size_is_written_in_milliseconds() -> None:
    blocks = [block("conv", 32, stride=2, activation="relu6")]
    for width, stride in ((24, 2), (32, 2), (64, 2), (96, 1), (160, 2), (384, 1)) * 2:
        blocks.append(
            block(
                "inverted_residual",
                width,
                hidden_channels=6 * width,
                stride=stride,
                activation="relu6",
            )
        )
    blocks.append(block("conv", 1280, kernel_size=1, activation="relu6"))
    architecture = network_of("size", *blocks, input_shape=(3, 224, 224))
    weights = random_weights(architecture, seed=0)
    assert sum(value.size for value in weights.values()) > 3.4e6
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        write(architecture, weights).SerializeToString()
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_random_weights_are_those_of_the_seed() -> None:
    first, second = random_weights(SMALL, seed=1), random_weights(SMALL, seed=1)
    assert all(np.array_equal(first[name], second[name]) for name in weight_shapes(SMALL))
    assert not np.array_equal(
        first["classifier.weight"], random_weights(SMALL, seed=2)["classifier.weight"]
    )
    assert write().SerializeToString() == write().SerializeToString()


def test_weights_of_another_network_are_refused() -> None:
    weights = random_weights(SMALL, seed=0)
    missing = {name: value for name, value in weights.items() if name != "classifier.bias"}
    with pytest.raises(UsageError, match=r"no 'classifier\.bias'"):
        write(weights=missing)
    with pytest.raises(UsageError, match="has shape"):
        write(weights={**weights, "classifier.bias": np.zeros(8, np.float32)})
    with pytest.raises(UsageError, match=r"no weights named 'blocks\.9"):
        write(weights={**weights, "blocks.9.main.conv.weight": np.zeros(8, np.float32)})


def test_what_a_file_cannot_hold_is_refused() -> None:
    two = network_of("two", block("conv", 8), input_shape=(2, 8, 8))
    with pytest.raises(UnsupportedError, match="2 input channels"):
        write(two)
    assert write(two, uint8_input=False).graph.input[0].name == "image"
    with pytest.raises(UsageError, match="2 values of mean"):
        write(preprocessing=Preprocessing(mean=(0.1, 0.2)))
    with pytest.raises(UsageError, match="2 labels for 7 classes"):
        write(labels=("a", "b"))
