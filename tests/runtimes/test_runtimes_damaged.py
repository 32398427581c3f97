"""Files that are empty, cut, damaged or of something else: one line from every runtime."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of, trained_like, weights_of

from featherweight.errors import FailedError, RecordError, UsageError
from featherweight.exporting.verify import verify_artifact
from featherweight.records import read_json, write_json
from featherweight.runtimes.artifact import Artifact, digest_files, read_artifact, write_artifact
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions

ARCHITECTURE = ARCHITECTURES[1]
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name == "executorch" else ()) for name in RUNTIMES
]
"""ExecuTorch takes a quarter of a minute to lower a network."""


def export(name: str, out: Path, *, classes: int | None = None) -> Artifact:
    drawn = ARCHITECTURE if classes is None else ARCHITECTURE.changed(num_classes=classes)
    return RUNTIMES[name].export(
        drawn,
        None,
        out,
        ExportOptions(
            precision="fp32",
            preprocessing=IMAGENET,
            labels=labels_of(drawn),
        ),
    )


def vouched(artifact: Artifact) -> Artifact:
    """Return the artifact with the digest of what lies there now, as a forger would."""
    size, sha256 = digest_files(Path(artifact.directory), artifact.files)
    return artifact.model_copy(update={"size_bytes": size, "sha256": sha256})


def refused(artifact: Artifact) -> None:
    with pytest.raises((UsageError, RecordError)) as caught:
        RUNTIMES[artifact.runtime].load(vouched(artifact), num_threads=1)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    assert artifact.directory in line


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    artifact = export(name, tmp_path)
    for path in artifact.paths:
        whole = path.read_bytes()
        noise = np.random.default_rng(0).bytes(4096)
        for content in (b"", b"hello\n", b"{}", noise, whole[:64], whole[: len(whole) // 2]):
            path.write_bytes(content)
            refused(artifact)
        path.write_bytes(whole)
    assert RUNTIMES[name].load(artifact, num_threads=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_of_another_network_is_one_line(name: str, tmp_path: Path) -> None:
    artifact = export(name, tmp_path / "ours")
    other = export(name, tmp_path / "other", classes=5)
    for file in artifact.files:
        (tmp_path / "ours" / file).write_bytes((tmp_path / "other" / file).read_bytes())
    assert artifact.files == other.files
    refused(artifact)
    refused(artifact.model_copy(update={"files": (*artifact.files, "artifact.json")}))


def test_a_foreign_description_names_no_other_place(tmp_path: Path) -> None:
    write_artifact(export("onnxruntime", tmp_path))
    plain = read_json(tmp_path / "artifact.json")
    for key, value in (
        ("files", ["../model.onnx"]),
        ("files", ["/etc/passwd"]),
        ("files", []),
        ("input_shape", [10**9, 10**9, 3]),
        ("input_shape", [0, 0, 3]),
    ):
        write_json(tmp_path / "artifact.json", {**plain, key: value})
        with pytest.raises(RecordError, match=f"key '{key}"):
            read_artifact(tmp_path)
    write_json(tmp_path / "artifact.json", {**plain, "precision": "fp12"})
    with pytest.raises(UsageError, match="fp12"):
        RUNTIMES["onnxruntime"].load(read_artifact(tmp_path), num_threads=1)
    write_json(tmp_path / "artifact.json", plain)
    (tmp_path / "model.onnx").unlink()
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="no regular file"):
        read_artifact(tmp_path)


def test_answers_that_are_not_finite_are_said(tmp_path: Path) -> None:
    network = trained_like(ARCHITECTURE)
    weights = weights_of(network)
    artifact = RUNTIMES["torch"].export(
        ARCHITECTURE,
        weights,
        tmp_path,
        ExportOptions(
            precision="fp32",
            preprocessing=IMAGENET,
            labels=labels_of(ARCHITECTURE),
        ),
    )
    from safetensors.numpy import save

    broken = {
        name: value * np.float32(np.nan) if value.dtype.kind == "f" else value
        for name, value in weights.items()
    }
    artifact.paths[0].write_bytes(save(broken))
    images = np.zeros((2, *artifact.input_shape), dtype=np.uint8)
    with pytest.raises(FailedError, match="not finite on 2 of 2 pictures"):
        verify_artifact(
            vouched(artifact), network, images=images, targets=np.zeros(2, np.int64), split="test"
        )
