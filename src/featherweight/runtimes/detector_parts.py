"""A detector for runtimes whose files hold no suppression: the dense part is a file of theirs.

What lies behind it is numpy: choosing proposals, pooling regions, the box head, suppressing
duplicates. The same table comes out as from the other runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from featherweight.detection.answers import answer_picture
from featherweight.detection.detector import Detector
from featherweight.detection.parts import box_head, dense_part
from featherweight.detection.table import DETECTIONS
from featherweight.errors import UnsupportedError, UsageError
from featherweight.layers import graph
from featherweight.networks.kinds import read_any_architecture, write_any_architecture
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, ArtifactOutput, record_artifact
from featherweight.runtimes.runtime import (
    Answer,
    ExportOptions,
    Predict,
    Runtime,
    check_image,
    reading,
    tried,
)
from featherweight.runtimes.weights import check_weights, random_weights

__all__ = ["export_by_parts", "load_by_parts"]

_BOXES, _DETECTOR = "boxes.safetensors", "detector.json"
_PART = "part"
"""Task of the dense part's file: what its maps mean is told by the detector."""


def export_by_parts(
    runtime: Runtime,
    detector: Detector,
    weights: Mapping[str, np.ndarray] | None,
    out: Path,
    options: ExportOptions,
) -> Artifact:
    """Write the dense part in a runtime's own form, and beside it what numpy needs.

    Raises:
        UsageError: weights or labels of another detector.
        UnsupportedError: the runtime cannot hold the dense part; int8, which was not proven here.
    """
    if options.precision == "int8":
        raise UnsupportedError(
            f"int8 of a detector for {runtime.name}",
            allowed="fp32, or int8 of onnxruntime and openvino",
        )
    if len(options.labels) != detector.num_classes:
        raise UsageError(f"{len(options.labels)} labels for {detector.num_classes} classes")
    weights = random_weights(detector, seed=0) if weights is None else weights
    check_weights(detector, weights)
    apart: dict[str, dict[str, np.ndarray]] = {"dense": {}, "boxes": {}}
    for name, values in weights.items():
        part, _, own = name.partition(".")
        apart[part][own] = np.ascontiguousarray(values)
    plain = ExportOptions(
        precision=options.precision,
        preprocessing=options.preprocessing,
        labels=options.labels,
        calibration=options.calibration,
        saturation_safe=options.saturation_safe,
        task=_PART,
    )
    dense = runtime.export(dense_part(detector), apart["dense"], out, plain)
    write_bytes(out / _BOXES, save(apart["boxes"]))
    write_any_architecture(detector, out / _DETECTOR)
    return record_artifact(
        out,
        (*dense.files, _BOXES, _DETECTOR),
        runtime=runtime.name,
        architecture=detector,
        options=options,
    )


def load_by_parts(runtime: Runtime, artifact: Artifact, *, num_threads: int) -> Predict:
    """Return a callable uint8 (1, H, W, 3) -> `detections`, float32 (1, 100, 6).

    Raises:
        UsageError: the files are absent, damaged or of another detector.
    """
    *_, boxes, description = artifact.paths
    detector = read_any_architecture(description)
    if not isinstance(detector, Detector) or detector.digest != artifact.architecture_digest:
        raise UsageError(
            f"{description} is not the detector that {artifact.directory} was exported from",
            hint="export the network again",
        )
    with reading(artifact, SafetensorError, OSError):
        weights = load_file(boxes)
    head = box_head(detector)
    if head is not None:
        check_weights(head, weights)
    part = dense_part(detector)
    dense = artifact.model_copy(
        update={
            "task": _PART,
            "files": artifact.files[:-2],
            "architecture_digest": part.digest,
            "outputs": tuple(
                ArtifactOutput(name=one.name, shape=(1, *one.shape)) for one in graph(part).outputs
            ),
        }
    )
    ask = runtime.load(dense, num_threads=num_threads)
    input_shape = artifact.input_shape

    def predict(image: NDArray[np.uint8]) -> Answer:
        check_image(image, input_shape)
        maps = {name: values[0] for name, values in ask(image).items()}
        return {DETECTIONS: answer_picture(detector, maps, weights)[None]}

    return tried(predict, artifact, ValueError)
