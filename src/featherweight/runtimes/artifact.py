"""What a runtime executes: files, what they take and give, and how to recognise them again."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from featherweight.errors import UsageError
from featherweight.layers import LOGITS
from featherweight.networks.kinds import AnyArchitecture, outputs_of
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import Record, parse_record, read_json, to_plain, write_json

__all__ = [
    "ARTIFACT_FILE",
    "Artifact",
    "ArtifactOutput",
    "ExportOptions",
    "check_files",
    "digest_files",
    "read_artifact",
    "record_artifact",
    "write_artifact",
]

ARTIFACT_FILE = "artifact.json"

_Side = Annotated[int, Field(ge=1, le=8192)]
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
"""Beside artifact.json: what somebody else wrote there must not name other places."""


@dataclass(frozen=True, eq=False)
class ExportOptions:
    """How a network is written for a runtime.

    Attributes:
        precision: one that the runtime has.
        preprocessing: its normalisation becomes part of the file.
        labels: class names in the order of the logits.
        calibration: uint8 (N, H, W, 3) training pictures for int8; `None` draws seeded noise (for
            timing only).
        saturation_safe: whether int8 weights must be scaled so that sums of two products fit 16
            bits, as `DeviceInfo.int8_pairs_saturate` says; `None` = as this machine needs it.
        task: kind of the task that the answers are for.
    """

    precision: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    calibration: np.ndarray | None = None
    saturation_safe: bool | None = None
    task: str = "classification"


class ArtifactOutput(Record):
    """Something that a file answers: its name and its shape with the batch of one."""

    name: str
    shape: tuple[int, ...]


class Artifact(Record):
    """An exported network: `directory/files`, described by `directory/artifact.json`.

    Attributes:
        runtime: name of the runtime that executes it.
        precision: what it computes in.
        files: names relative to `directory`; the first is the one to load.
        directory: where the files lie (not stored: a moved artifact is found where it is read).
        input_shape: (H, W, 3) of the uint8 picture it takes.
        preprocessing: resize and crop the caller does; normalisation is inside the file.
        labels: class names in the order of the logits.
        task: kind of the task that its answers are for.
        outputs: what it answers, float32.
        size_bytes: of all files together.
        sha256: of the file; of the lines `sha256sum` prints when there are several.
        architecture_digest: `Architecture.digest` of what was exported.
        int8_operators: operator -> "int8 in/of": what the runtime really executes in int8 on the
            machine that exported it; `None` for other precisions.
        saturation_safe: whether int8 weights were scaled so that sums of two products fit 16 bits
            (x86 without VNNI would saturate); `None` for other precisions.
    """

    runtime: str
    precision: str
    files: Annotated[tuple[_FileName, ...], Field(min_length=1)]
    directory: str
    input_shape: tuple[_Side, _Side, Literal[3]]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    task: str = "classification"
    outputs: tuple[ArtifactOutput, ...]
    size_bytes: int
    sha256: str
    architecture_digest: str
    int8_operators: dict[str, str] | None = None
    saturation_safe: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_older_form(cls, plain: Any) -> Any:
        """Read files of before 2026-12: `pairs_limited`, and one output that is not named."""
        if isinstance(plain, dict) and "pairs_limited" in plain:
            plain = {**plain, "saturation_safe": plain["pairs_limited"]}
            del plain["pairs_limited"]
        if isinstance(plain, dict) and "outputs" not in plain and "labels" in plain:
            classes = len(plain["labels"]) if isinstance(plain["labels"], list | tuple) else 0
            plain = {**plain, "outputs": ({"name": LOGITS, "shape": (1, classes)},)}
        return plain

    @model_validator(mode="after")
    def _fits_its_labels(self) -> Artifact:
        """Refuse a classifier whose file has not one output for each label."""
        expected = (ArtifactOutput(name=LOGITS, shape=(1, len(self.labels))),)
        if self.task == "classification" and self.outputs != expected:
            raise ValueError(f"outputs that are not logits of {len(self.labels)} labels")
        return self

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files with their directory."""
        return tuple(Path(self.directory) / name for name in self.files)


def digest_files(directory: Path, files: tuple[str, ...]) -> tuple[int, str]:
    """Return the total size in bytes and the sha256 of an artifact's files.

    Raises:
        UsageError: a file is absent.
    """
    size, lines = 0, []
    for name in files:
        path = directory / name
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for, for ever
                raise OSError(errno.EINVAL, "no regular file")
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size += stream.tell()
        except OSError as error:
            raise UsageError(
                f"the artifact file {path} cannot be read ({error.strerror})",
                hint="export the network again",
            ) from error
        lines.append(f"{digest}  {name}\n")
    if len(lines) == 1:
        return size, lines[0].split()[0]
    return size, hashlib.sha256("".join(lines).encode()).hexdigest()


def record_artifact(
    out: Path,
    files: tuple[str, ...],
    *,
    runtime: str,
    architecture: AnyArchitecture,
    options: ExportOptions,
    **int8: Any,
) -> Artifact:
    """Describe the files that a runtime wrote into `out`, and write artifact.json beside them.

    Args:
        out: where the files lie.
        files: their names; the first is the one to load.
        runtime: name of the runtime that executes them.
        architecture: what was exported.
        options: what they compute in, take and answer.
        int8: `int8_operators` and `saturation_safe` of an int8 file.

    Raises:
        UsageError: a file is absent.
    """
    size_bytes, sha256 = digest_files(out, files)
    artifact = Artifact(
        runtime=runtime,
        precision=options.precision,
        files=files,
        directory=str(out),
        input_shape=(*architecture.input_shape[1:], 3),
        preprocessing=options.preprocessing,
        labels=options.labels,
        task=options.task,
        outputs=tuple(
            ArtifactOutput(name=one.name, shape=(1, *one.shape)) for one in outputs_of(architecture)
        ),
        size_bytes=size_bytes,
        sha256=sha256,
        architecture_digest=architecture.digest,
        **int8,
    )
    write_artifact(artifact)
    return artifact


def write_artifact(artifact: Artifact) -> Path:
    """Write `artifact.json` into the artifact's directory and return its path."""
    path = Path(artifact.directory) / ARTIFACT_FILE
    plain = to_plain(artifact)
    del plain["directory"]
    write_json(path, plain)
    return path


def read_artifact(directory: Path) -> Artifact:
    """Read the artifact of a directory (or of its artifact.json) and check its files.

    Raises:
        RecordError: there is no readable artifact.json.
        UsageError: a file is absent or differs from what was exported.
    """
    path = directory if directory.name == ARTIFACT_FILE else directory / ARTIFACT_FILE
    plain = read_json(path)
    if isinstance(plain, dict):
        plain = {**plain, "directory": str(path.parent)}
    artifact = parse_record(Artifact, plain, source=str(path))
    check_files(artifact)
    return artifact


def check_files(artifact: Artifact) -> None:
    """Check that the files are those that were exported.

    Raises:
        UsageError: a file is absent or its content differs.
    """
    _, sha256 = digest_files(Path(artifact.directory), artifact.files)
    if sha256 != artifact.sha256:
        raise UsageError(
            f"the files of {artifact.directory} have sha256 {sha256[:12]}..., artifact.json says "
            f"{artifact.sha256[:12]}...",
            hint="they were changed after the export: export the network again",
        )
