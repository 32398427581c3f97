"""LiteRT's int8 files come from the same quantiser as onnxruntime's: the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of, pictures, trained_like, weights_of

from featherweight.architecture import Architecture
from featherweight.exporting.verify import network_answers
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.onnxruntime import is_saturation_safe
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions

GREY = Preprocessing(mean=(0.5,), std=(0.25,))
SAME = {
    "mixed_symmetric",
    "depthwise_first",
    "residual_first",
    "pool_first",
    "grey",
    "grey_residual",
    "head_norm",
}
"""Without requantised sums and gates nothing is rounded twice: the logits are equal."""


def export(
    runtime: str, network: Network, seen: np.ndarray, preprocessing: Preprocessing, out: Path
) -> tuple[Artifact, np.ndarray]:
    artifact = RUNTIMES[runtime].export(
        network.architecture,
        weights_of(network),
        out / runtime,
        ExportOptions(
            precision="int8",
            calibration=seen,
            preprocessing=preprocessing,
            labels=labels_of(network.architecture),
            saturation_safe=False,
        ),
    )
    run = RUNTIMES[runtime].load(artifact, num_threads=1)
    return artifact, np.concatenate([run(one[None])["logits"] for one in seen])


def exact_answers(artifact: Artifact, seen: np.ndarray) -> np.ndarray:
    """Return what an int8 ONNX file says: its graph as written, without the CPU's int8 kernels.

    Those of a CPU without VNNI saturate sums of two products, which LiteRT's never do.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        str(artifact.paths[0]), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(["logits"], {name: one[None]})[0] for one in seen])


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_it_answers_as_onnxruntime(architecture: Architecture, tmp_path: Path) -> None:
    seen, preprocessing = pictures(architecture, 12, seed=3), IMAGENET
    if architecture.input_shape[0] == 1:
        seen, preprocessing = np.repeat(seen[..., :1], 3, axis=3), GREY
    network = trained_like(architecture)
    artifact, found = export("litert", network, seen, preprocessing, tmp_path)
    reference, other = export("onnxruntime", network, seen, preprocessing, tmp_path)
    if is_saturation_safe(None):
        other = exact_answers(reference, seen)
    plain = network_answers(network, seen, preprocessing=preprocessing)["logits"]
    # LiteRT computes int8 hard swish in fixed point: "squeeze" loses a third more.
    assert rms(found - plain) < 1.6 * rms(other - plain), "int8 costs about what it does there"
    if architecture.name in SAME:
        assert np.abs(found - other).max() / np.abs(other).max() < 1e-5
    assert artifact.int8_operators is not None
    done, total = artifact.int8_operators["Conv"].removeprefix("int8 ").split("/")
    assert done == total, "every convolution is int8"


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v1",
        "mobilenet_v3_large",
        "efficientnet_lite0",
        "shufflenet_v1_g3",
        "vgg16",
        "mobilenet_v4_conv_small",
        "shufflenet_v2_164_se",
        "mnasnet_a1",
        "snet49",
        "ghost_resnet56",
    ],
)
def test_networks_of_the_zoo_have_int8_files(name: str, tmp_path: Path) -> None:
    architecture = create_architecture(name, width=0.5, resolution=64, classes=5)
    artifact = RUNTIMES["litert"].export(
        architecture,
        None,
        tmp_path,
        ExportOptions(
            precision="int8",
            preprocessing=IMAGENET,
            labels=labels_of(architecture),
        ),
    )
    logits = RUNTIMES["litert"].load(artifact, num_threads=1)(pictures(architecture, 1))["logits"]
    assert logits.shape == (1, 5)
    assert np.isfinite(logits).all()
