"""Everything a device needs, in one folder without featherweight."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

import numpy as np

from featherweight.arguments import to_path
from featherweight.data import drawing, pictures
from featherweight.errors import UnsupportedError, UsageError
from featherweight.records import to_plain, write_bytes, write_json
from featherweight.runtimes.artifact import Artifact, check_files
from featherweight.runtimes.runtime import Answer, check_image

__all__ = ["write_bundle"]

_COPIED = (pictures, drawing)


def _stem(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


_PROGRAM = {"run.py": Path(__file__).with_name("bundle_run.py")} | {
    f"{_stem(module)}.py": Path(str(module.__file__)) for module in _COPIED
}
"""Name in the bundle -> source."""


def write_bundle(
    artifact: Artifact, out: str | Path, *, sample: np.ndarray, expected: Answer
) -> Path:
    """Write a folder that answers pictures with onnxruntime, numpy and Pillow alone.

    The folder holds the model, `labels.txt`, `preprocessing.json`, `selftest.npz`, `run.py`,
    `pictures.py`, which decodes as training does, and `drawing.py`, which draws a detector's boxes:
    `python run.py picture.jpg` and `python run.py --self-test`.

    Args:
        artifact: of the runtime `onnxruntime`.
        out: the folder; created.
        sample: uint8 (1, H, W, 3) picture for the self-test.
        expected: what the artifact answers to it.

    Returns:
        The folder.

    Raises:
        UnsupportedError: an artifact of another runtime.
        UsageError: a sample or answers of another network, files that were changed.
    """
    if artifact.runtime != "onnxruntime":
        raise UnsupportedError(
            f"no bundle for the runtime {artifact.runtime!r}", allowed="onnxruntime"
        )
    check_image(sample, artifact.input_shape)
    found = {name: values.shape for name, values in expected.items()}
    if found != {one.name: one.shape for one in artifact.outputs}:
        raise UsageError(
            f"the expected answers have the shapes {found}",
            allowed=", ".join(f"{one.name} {one.shape}" for one in artifact.outputs),
        )
    check_files(artifact)
    out = to_path(out, name="out")
    for name, path in zip(artifact.files, artifact.paths, strict=True):
        write_bytes(out / name, path.read_bytes())
    labels = "".join(" ".join(label.split()) + "\n" for label in artifact.labels)
    # A class folder whose name is no UTF-8 has the same bytes here.
    write_bytes(out / "labels.txt", labels.encode(errors="surrogateescape"))
    write_json(
        out / "preprocessing.json",
        {
            "model": artifact.files[0],
            "precision": artifact.precision,
            "sha256": artifact.sha256,
            "task": artifact.task,
            "input_shape": list(artifact.input_shape),
            **to_plain(artifact.preprocessing),
        },
    )
    stream = io.BytesIO()
    answers = {f"expected.{name}": values for name, values in expected.items()}
    np.savez_compressed(stream, sample=sample, **answers)  # type: ignore[arg-type]
    write_bytes(out / "selftest.npz", stream.getvalue())
    # Beside the program there is no featherweight, but what decodes and draws, as it is.
    for name, source in _PROGRAM.items():
        program = source.read_text(encoding="utf-8")
        for module in _COPIED:
            program = program.replace(
                f"from {module.__name__} import", f"from {_stem(module)} import"
            )
        write_bytes(out / name, program.encode())
    return out
