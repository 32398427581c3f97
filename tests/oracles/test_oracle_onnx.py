"""The ONNX file against PyTorch, and against what torch's own exporter writes."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from artifact_networks import (
    ARCHITECTURES,
    IMAGENET,
    labels_of,
    pictures,
    relative_error,
    trained_like,
    weights_of,
)

from featherweight.exporting.verify import network_answers
from featherweight.layers import layers
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.onnxruntime import open_session


def test_the_networks_use_every_primitive_and_function() -> None:
    plan = [layer for architecture in ARCHITECTURES for layer in layers(architecture)]
    assert {layer.op for layer in plan} == {
        "conv",
        "activation",
        "pool",
        "global_pool",
        "linear",
        "add",
        "multiply",
        "pad",
        "resize",
        "concat",
        "select",
        "shuffle",
    }
    assert {layer.function for layer in plan if layer.op == "activation"} == {
        "relu",
        "relu6",
        "hard_swish",
        "hard_sigmoid",
        "sigmoid",
    }
    assert {layer.function for layer in plan if layer.op == "pool"} == {"max", "average"}
    assert any(layer.padding[:2] != layer.padding[2:] for layer in plan if layer.op == "pool")


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_file_computes_what_pytorch_computes(architecture) -> None:
    network = trained_like(architecture)
    images = pictures(architecture, 3)
    model = write_onnx(
        architecture,
        weights_of(network),
        preprocessing=IMAGENET_OF[architecture.name],
        labels=labels_of(architecture),
    )
    onnx.checker.check_model(model, full_check=True)
    session = open_session(model.SerializeToString(), num_threads=1)
    found = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    expected = network_answers(network, images, preprocessing=IMAGENET_OF[architecture.name])[
        "logits"
    ]
    assert np.ptp(expected, axis=0).max() > 0.05  # the pictures differ: not only biases
    assert relative_error(found, expected) < 1e-5


GREY = IMAGENET.model_copy(update={"mean": (0.45,), "std": (0.23,)})
IMAGENET_OF = {a.name: GREY if a.input_shape[0] == 1 else IMAGENET for a in ARCHITECTURES}


@pytest.mark.slow
def test_float_input_equals_torch_export() -> None:
    architecture = ARCHITECTURES[1]
    network = trained_like(architecture)
    images = torch.randn(1, *architecture.input_shape, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            network, (images,), dynamo=True, verbose=False, input_names=["image"]
        )
    assert program is not None
    peer = open_session(program.model_proto.SerializeToString(), num_threads=1)
    model = write_onnx(
        architecture,
        weights_of(network),
        preprocessing=IMAGENET,
        labels=labels_of(architecture),
        uint8_input=False,
    )
    ours = open_session(model.SerializeToString(), num_threads=1)
    expected = peer.run(None, {"image": images.numpy()})[0]
    assert relative_error(ours.run(None, {"image": images.numpy()})[0], expected) < 1e-5
