"""Everything a device needs, in one folder without featherweight."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from featherweight.arguments import to_path
from featherweight.errors import UnsupportedError, UsageError
from featherweight.records import to_plain, write_bytes, write_json
from featherweight.runtimes.artifact import Artifact, check_files
from featherweight.runtimes.runtime import check_image

__all__ = ["write_bundle"]

_PROGRAM = Path(__file__).with_name("bundle_run.py")


def write_bundle(
    artifact: Artifact, out: str | Path, *, sample: np.ndarray, expected: np.ndarray
) -> Path:
    """Write a folder that classifies pictures with onnxruntime, numpy and Pillow alone.

    The folder holds the model, `labels.txt`, `preprocessing.json`, `selftest.npz` and `run.py`:
    `python run.py picture.jpg` and `python run.py --self-test`.

    Args:
        artifact: of the runtime `onnxruntime`.
        out: the folder; created.
        sample: uint8 (1, H, W, 3) picture for the self-test.
        expected: float32 (1, classes) logits of the artifact for it.

    Returns:
        The folder.

    Raises:
        UnsupportedError: an artifact of another runtime.
        UsageError: a sample or logits of another network, files that were changed.
    """
    if artifact.runtime != "onnxruntime":
        raise UnsupportedError(
            f"no bundle for the runtime {artifact.runtime!r}", allowed="onnxruntime"
        )
    check_image(sample, artifact.input_shape)
    if expected.shape != (1, len(artifact.labels)):
        raise UsageError(
            f"the expected logits have shape {expected.shape}",
            allowed=f"(1, {len(artifact.labels)})",
        )
    check_files(artifact)
    out = to_path(out, name="out")
    for name, path in zip(artifact.files, artifact.paths, strict=True):
        write_bytes(out / name, path.read_bytes())
    labels = "".join(" ".join(label.split()) + "\n" for label in artifact.labels)
    write_bytes(out / "labels.txt", labels.encode())
    write_json(
        out / "preprocessing.json",
        {
            "model": artifact.files[0],
            "precision": artifact.precision,
            "sha256": artifact.sha256,
            "input_shape": list(artifact.input_shape),
            **to_plain(artifact.preprocessing),
        },
    )
    stream = io.BytesIO()
    np.savez_compressed(stream, sample=sample, expected=expected.astype(np.float32))
    write_bytes(out / "selftest.npz", stream.getvalue())
    write_bytes(out / "run.py", _PROGRAM.read_bytes())
    return out
