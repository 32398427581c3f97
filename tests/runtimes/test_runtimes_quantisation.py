import numpy as np
import onnx
import onnxruntime
import pytest
from artifact_networks import (
    ARCHITECTURES,
    IMAGENET,
    block,
    labels_of,
    network_of,
    pictures,
    trained_like,
    weights_of,
)

from featherweight.exporting.verify import network_answers
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.onnxruntime import count_int8_operators, open_session
from featherweight.runtimes.quantisation import observe, quantise_model, with_observers

HALF = Preprocessing()


def quantised(architecture, network, images, *, preprocessing=HALF, saturation_safe=True):
    model = write_onnx(
        architecture,
        weights_of(network),
        preprocessing=preprocessing,
        labels=labels_of(architecture),
    )
    session = open_session(with_observers(model).SerializeToString(), num_threads=1)
    seen = observe(model, images, run=lambda image: session.run(None, {"image": image}))
    return quantise_model(model, seen, saturation_safe=saturation_safe)


def run(model, images, *, exact=False):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if exact:  # uint8 weights: slower x86 kernels that cannot saturate
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_int8_stays_close_to_float(architecture) -> None:
    network = trained_like(architecture)
    model = quantised(architecture, network, pictures(architecture, 16))
    onnx.checker.check_model(model, full_check=True)
    images = pictures(architecture, 16, seed=1)
    expected = network_answers(network, images, preprocessing=HALF)["logits"]
    error = np.sqrt(np.mean((run(model, images) - expected) ** 2)) / expected.std()
    assert error < 0.05


def test_different_means_of_the_channels_cost_little() -> None:
    architecture = ARCHITECTURES[1]
    network = trained_like(architecture)
    model = quantised(architecture, network, pictures(architecture, 16), preprocessing=IMAGENET)
    images = pictures(architecture, 16, seed=1)
    expected = network_answers(network, images, preprocessing=IMAGENET)["logits"]
    assert np.sqrt(np.mean((run(model, images) - expected) ** 2)) / expected.std() < 0.05


WORST = network_of(
    "saturating",
    block("conv", 32, activation="relu"),
    block("conv", 32, activation="relu"),
    block("inverted_residual", 32, hidden_channels=64, activation="relu6"),
)


@pytest.mark.parametrize("architecture", [WORST, *ARCHITECTURES], ids=lambda a: a.name)
def test_limited_pairs_never_saturate(architecture) -> None:
    """White pictures and positive weights: the worst case of 16-bit sums."""
    network = trained_like(architecture)
    for name, parameter in network.named_parameters():
        if name.endswith("conv.weight"):
            parameter.data = parameter.data.abs()
    images = pictures(architecture, 6)
    images[:2] = 255
    limited = quantised(architecture, network, images)
    assert np.array_equal(run(limited, images), run(limited, images, exact=True))


def test_pictures_enter_as_bytes_and_everything_is_int8() -> None:
    architecture = ARCHITECTURES[0]
    network = trained_like(architecture)
    model = quantised(architecture, network, pictures(architecture, 4))
    operators = [node.op_type for node in model.graph.node]
    assert operators[0] == "Transpose"
    assert not {"Cast", "Sub", "Relu"} & set(operators)
    audit = count_int8_operators(model.SerializeToString())
    assert audit["Conv"] == "int8 9/9"
    assert audit["Add"] == "int8 2/2"
    assert audit["Gemm"] == "int8 1/1"


def test_a_channel_without_weights_is_kept() -> None:
    architecture = ARCHITECTURES[4]
    network = trained_like(architecture)
    network.get_parameter("blocks.0.project.conv.weight").data[3] = 0.0
    images = pictures(architecture, 4)
    expected = network_answers(network, images, preprocessing=HALF)["logits"]
    found = run(quantised(architecture, network, images), images)
    assert np.sqrt(np.mean((found - expected) ** 2)) / expected.std() < 0.05
