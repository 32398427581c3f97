"""Programs of ExecuTorch: they answer as torch does, and int8 is told apart from float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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

from featherweight.architecture import Architecture
from featherweight.exporting.verify import network_answers
from featherweight.runtimes.executorch import ExecuTorch
from featherweight.runtimes.runtime import ExportOptions

RUNTIME = ExecuTorch()

# Writing a program takes seconds a layer: few layers, of every kind that the tests are about.
SWISH = network_of(
    "swish",
    block("conv", 16, stride=2, activation="hard_swish"),
    block("inverted_residual", 16, hidden_channels=32, se_channels=8, activation="relu"),
    block("inverted_residual", 24, hidden_channels=32, se_channels=8, activation="hard_swish"),
    head_channels=(40,),
    input_shape=(3, 32, 32),
)
SHUFFLED = network_of(
    "shuffled",
    block("conv", 16, stride=2, activation="relu"),
    block("shuffle_v2", 32, stride=2, hidden_channels=16, shortcut_channels=16, activation="relu"),
    block("shuffle_v2", 32, hidden_channels=16, activation="relu"),
    input_shape=(3, 32, 32),
)
PYRAMID = next(one for one in ARCHITECTURES if one.name == "pyramid")
GREY = network_of("grey", block("conv", 8, stride=2, activation="relu"), input_shape=(1, 17, 18))


@pytest.mark.parametrize(
    ("architecture", "channels"),
    [
        pytest.param(GREY, 1, marks=pytest.mark.slow),
        pytest.param(SHUFFLED, 3, marks=pytest.mark.slow),
        pytest.param(PYRAMID, 3, marks=pytest.mark.slow),
    ],
    ids=["grey", "shuffled", "pyramid"],
)
def test_programs_answer_as_torch(
    architecture: Architecture, channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = trained_like(architecture)
    images = pictures(architecture, 3, seed=3)
    preprocessing = IMAGENET
    if channels == 1:
        preprocessing = IMAGENET.model_copy(update={"mean": (0.5,), "std": (0.25,)})
    artifact = RUNTIME.export(
        architecture,
        weights_of(network),
        tmp_path,
        ExportOptions(
            precision="fp32",
            preprocessing=preprocessing,
            labels=labels_of(architecture),
        ),
    )
    predict = RUNTIME.load(artifact, num_threads=1)
    found = np.concatenate([predict(image[None])["logits"] for image in images])
    more = RUNTIME.load(artifact, num_threads=2)
    assert np.array_equal(more(images[:1])["logits"][0], found[0])
    assert "keeps its 1 threads in this process; 2 were asked for" in caplog.text
    expected = network_answers(network, images, preprocessing=preprocessing)["logits"]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.slow
def test_int8_answers_nearly_so_and_says_what_stays_float(tmp_path: Path) -> None:
    architecture = SWISH
    network = trained_like(architecture)
    images = pictures(architecture, 16, seed=3)
    artifact = RUNTIME.export(
        architecture,
        weights_of(network),
        tmp_path,
        ExportOptions(
            precision="int8",
            calibration=images,
            preprocessing=IMAGENET,
            labels=labels_of(architecture),
        ),
    )
    assert artifact.int8_operators is not None
    convolutions = artifact.int8_operators["Conv"].removeprefix("int8 ").split("/")
    assert convolutions[0] == convolutions[1] != "0"
    means = artifact.int8_operators["GlobalAveragePool"].removeprefix("int8 ").split("/")
    assert int(means[0]) < int(means[1]), "XNNPACK's hard swish is float32, and the mean after it"
    predict = RUNTIME.load(artifact, num_threads=1)
    found = np.concatenate([predict(image[None])["logits"] for image in images])
    expected = network_answers(network, images, preprocessing=IMAGENET)["logits"]
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.35 * expected.std()
    assert not np.allclose(found, expected, atol=1e-4), "int8 rounds"
