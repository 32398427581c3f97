"""What every runtime promises."""

from __future__ import annotations

import numpy as np
import pytest
from artifact_networks import (
    ARCHITECTURES,
    IMAGENET,
    labels_of,
    pictures,
    trained_like,
    weights_of,
)
from cases import often

from featherweight.errors import UnsupportedError, UsageError
from featherweight.exporting.verify import network_answers
from featherweight.runtimes.artifact import digest_files, read_artifact
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions

ARCHITECTURE = ARCHITECTURES[1]
CASES = [(name, precision) for name in RUNTIMES for precision in RUNTIMES[name].precisions]


LIMITS = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 0.05, "int8": 0.1}
EVERYWHERE = ("fp32", "int8")
"""Other precisions may need a processor that has them."""
REFUSED = [("executorch", "int8")]
"""Pools padded on some sides only; test_runtimes_executorch.py has other networks."""


def export(name, precision, out, weights=None, calibration=None):
    try:
        return RUNTIMES[name].export(
            ARCHITECTURE,
            weights,
            out,
            ExportOptions(
                precision=precision,
                calibration=calibration,
                preprocessing=IMAGENET,
                labels=labels_of(ARCHITECTURE),
            ),
        )
    except UnsupportedError as refusal:
        rare = precision in RUNTIMES[name].precisions and precision not in EVERYWHERE
        if rare or (name, precision) in REFUSED:
            pytest.skip(str(refusal))
        raise


def test_there_are_runtimes() -> None:
    assert {"onnxruntime", "torch"} <= set(RUNTIMES)
    assert ("onnxruntime", "int8") in CASES


@pytest.mark.parametrize(
    ("name", "precision"), often(CASES, [one for one in CASES if one[0] != "executorch"])
)
def test_round_trip_agrees_with_the_network(name, precision, tmp_path) -> None:
    network = trained_like(ARCHITECTURE)
    images = pictures(ARCHITECTURE, 12, seed=1)
    artifact = export(
        name, precision, tmp_path / "made" / "here", weights_of(network), pictures(ARCHITECTURE, 12)
    )
    read = read_artifact(tmp_path / "made" / "here")
    assert read == artifact
    assert (read.runtime, read.precision) == (name, precision)
    assert read.input_shape == (33, 31, 3)
    assert read.labels == labels_of(ARCHITECTURE)
    assert [(one.name, one.shape) for one in read.outputs] == [("logits", (1, 7))]
    assert read.architecture_digest == ARCHITECTURE.digest
    assert (read.size_bytes, read.sha256) == digest_files(tmp_path / "made" / "here", read.files)
    predict = RUNTIMES[name].load(read, num_threads=1)
    found = np.concatenate([predict(image[None])["logits"] for image in images])
    expected = network_answers(network, images, preprocessing=IMAGENET)["logits"]
    assert found.dtype == np.float32
    assert found.shape == (12, 7)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < LIMITS[precision]
    assert precision == "fp32" or error > 1e-6, "nothing was rounded"


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[0] == "executorch" else ())
        for case in CASES
    ],
)
def test_timing_files_need_neither_weights_nor_pictures(name, precision, tmp_path) -> None:
    first = export(name, precision, tmp_path / "a")
    assert first.sha256 == export(name, precision, tmp_path / "b").sha256
    predict = RUNTIMES[name].load(first, num_threads=1)
    assert np.isfinite(predict(pictures(ARCHITECTURE, 1))["logits"]).all()


@pytest.mark.parametrize("name", often(RUNTIMES, [one for one in RUNTIMES if one != "executorch"]))
def test_wrong_inputs_are_refused_in_one_line(name, tmp_path) -> None:
    predict = RUNTIMES[name].load(export(name, "fp32", tmp_path), num_threads=1)
    right = pictures(ARCHITECTURE, 1)
    for wrong in (right[0], right[:, :-1], right.astype(np.float32), np.repeat(right, 2, axis=0)):
        with pytest.raises(UsageError, match="uint8") as caught:
            predict(wrong)
        assert "\n" not in str(caught.value)
    assert {name: one.shape for name, one in predict(right).items()} == {"logits": (1, 7)}


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_unknown_precisions_and_foreign_artifacts_are_refused(name, tmp_path) -> None:
    assert RUNTIMES[name].version()[0].isdigit()
    with pytest.raises(UnsupportedError, match="fp12"):
        export(name, "fp12", tmp_path)
    assert not list(tmp_path.iterdir())
    other = "torch" if name == "onnxruntime" else "onnxruntime"  # quick to write
    foreign = export(other, "fp32", tmp_path)
    with pytest.raises(UsageError, match=f"artifact of '{other}'"):
        RUNTIMES[name].load(foreign, num_threads=1)
    with pytest.raises(UsageError, match="0 threads"):
        RUNTIMES[other].load(foreign, num_threads=0)
