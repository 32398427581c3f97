"""ncnn on the CPU: small, without dependencies, at home on phones and boards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.detection.table import DETECTION
from featherweight.errors import MissingDependencyError, UsageError
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, record_artifact
from featherweight.runtimes.detector_parts import export_by_parts, load_by_parts
from featherweight.runtimes.ncnn_writer import IMAGE, write_ncnn
from featherweight.runtimes.runtime import (
    RUNTIMES,
    Answer,
    ExportOptions,
    Predict,
    check_image,
    check_loadable,
    check_precision,
    tried,
)

__all__ = ["Ncnn"]

_PARAM, _BIN = "model.ncnn.param", "model.ncnn.bin"


class Ncnn:
    """ncnn's Python package; the files are those that its C++ library reads.

    The cast of the uint8 picture is done by ncnn outside the file, and timed with it. The files of
    fp16 are those of fp32: ncnn rounds when it loads, stores maps and weights in 16 bits and, on
    processors that can (ARMv8.2), computes in them.
    """

    name = "ncnn"
    precisions: tuple[str, ...] = ("fp32", "fp16")
    runs_in_threads = False

    def version(self) -> str:
        """Return the version of ncnn."""
        return str(_ncnn().__version__)

    def export(
        self,
        architecture: Architecture | Detector,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write `model.ncnn.param`, `model.ncnn.bin` and artifact.json; see `Runtime.export`."""
        check_precision(self, options.precision)
        if isinstance(architecture, Detector):
            return export_by_parts(self, architecture, weights, out, options)
        text, content = write_ncnn(
            architecture, weights, preprocessing=options.preprocessing, labels=options.labels
        )
        write_bytes(out / _PARAM, text.encode())
        write_bytes(out / _BIN, content)
        return record_artifact(
            out,
            (_PARAM, _BIN),
            runtime=self.name,
            architecture=architecture,
            options=options,
        )

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Read the two files; see `Runtime.load`."""
        if artifact.task == DETECTION:
            return load_by_parts(self, artifact, num_threads=num_threads)
        check_loadable(self.name, artifact, num_threads=num_threads, files=2)
        ncnn, net = _ncnn(), _open(artifact, num_threads=num_threads)
        input_shape = artifact.input_shape
        height, width, _ = input_shape
        outputs = artifact.outputs

        def predict(image: np.ndarray) -> Answer:
            check_image(image, input_shape)
            pixels = ncnn.Mat.from_pixels(
                np.ascontiguousarray(image[0]), ncnn.Mat.PixelType.PIXEL_RGB, width, height
            )
            extractor = net.create_extractor()
            extractor.input(IMAGE, pixels)
            return {
                one.name: np.array(extractor.extract(one.name)[1], dtype=np.float32).reshape(
                    one.shape
                )
                for one in outputs
            }

        return tried(predict, artifact, RuntimeError, ValueError, TypeError)


def _open(artifact: Artifact, *, num_threads: int) -> Any:
    """Load the files with every setting that matters for time and precision given.

    By default ncnn stores and computes in 16 bits where the processor can.

    Raises:
        UsageError: fewer than one thread, or files that ncnn cannot read.
    """
    if num_threads < 1:
        raise UsageError(f"{num_threads} threads", allowed="1 or more")
    net = _ncnn().Net()
    net.opt.num_threads = num_threads
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
        setattr(net.opt, f"use_{name}", artifact.precision == "fp16")
    net.opt.use_bf16_storage = False
    param, weights = artifact.paths
    if net.load_param(str(param)) != 0 or net.load_model(str(weights)) != 0:
        raise UsageError(f"ncnn cannot read {param}", hint="export the network again")
    return net


def _ncnn() -> Any:
    try:
        import ncnn
    except ImportError as error:
        raise MissingDependencyError(
            "ncnn is not installed", hint='pip install "featherweight[ncnn]"'
        ) from error
    return ncnn


RUNTIMES.add(Ncnn.name, Ncnn())
