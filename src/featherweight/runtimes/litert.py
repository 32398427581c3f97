"""LiteRT (TensorFlow Lite) on the CPU with XNNPACK: what Android phones run; optional."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.detection.table import DETECTION
from featherweight.errors import MissingDependencyError
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, record_artifact
from featherweight.runtimes.detector_parts import export_by_parts, load_by_parts
from featherweight.runtimes.litert_writer import write_litert
from featherweight.runtimes.runtime import (
    RUNTIMES,
    Answer,
    ExportOptions,
    Predict,
    check_image,
    check_loadable,
    check_precision,
    reading,
    tried,
)

__all__ = ["LiteRt", "count_int8_operators"]

_MODEL = "model.tflite"
_ERRORS = (ValueError, RuntimeError, IndexError)
"""For files that are damaged or of something else."""
_AUDITED = {
    "Conv": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Gemm": ("FULLY_CONNECTED",),
    "Add": ("ADD",),
    "Mul": ("MUL",),
    "AveragePool": ("AVERAGE_POOL_2D",),
    "GlobalAveragePool": ("MEAN",),
    "Sigmoid": ("LOGISTIC",),
    "HardSwish": ("HARD_SWISH",),
}


class LiteRt:
    """The interpreter of ai-edge-litert; one file, written from the layers."""

    name = "litert"
    precisions: tuple[str, ...] = ("fp32", "int8")
    runs_in_threads = True

    def version(self) -> str:
        """Return the version of ai-edge-litert.

        Raises:
            MissingDependencyError: it is not installed.
        """
        _interpreter()
        return version("ai-edge-litert")

    def export(
        self,
        architecture: Architecture | Detector,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write `model.tflite` and artifact.json; see `Runtime.export`."""
        from featherweight.runtimes.onnx_writer import write_onnx

        check_precision(self, options.precision)
        if isinstance(architecture, Detector):
            return export_by_parts(self, architecture, weights, out, options)
        _interpreter()  # absent: said before anything is written
        kinds: dict[str, Any] = {"preprocessing": options.preprocessing, "labels": options.labels}
        operators: dict[str, str] | None = None
        if options.precision == "int8":
            from featherweight.runtimes.litert_int8 import write_litert_int8
            from featherweight.runtimes.onnxruntime import quantised

            model = write_onnx(architecture, weights, **kinds)
            content = write_litert_int8(
                quantised(model, architecture, options.calibration, saturation_safe=False)
            )
            operators = count_int8_operators(content)
        else:
            content = write_litert(architecture, weights, **kinds)
        write_bytes(out / _MODEL, content)
        return record_artifact(
            out,
            (_MODEL,),
            runtime=self.name,
            architecture=architecture,
            options=options,
            int8_operators=operators,
            saturation_safe=False if options.precision == "int8" else None,
        )

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Open an interpreter; see `Runtime.load`."""
        if artifact.task == DETECTION:
            return load_by_parts(self, artifact, num_threads=num_threads)
        check_loadable(self.name, artifact, num_threads=num_threads)
        create = _interpreter()
        with reading(artifact, *_ERRORS):
            interpreter = create(model_path=str(artifact.paths[0]), num_threads=num_threads)
            interpreter.allocate_tensors()
            given = interpreter.get_input_details()[0]["index"]
            answered = [one["index"] for one in interpreter.get_output_details()]
        input_shape, outputs = artifact.input_shape, artifact.outputs

        def predict(image: np.ndarray) -> Answer:
            check_image(image, input_shape)
            interpreter.set_tensor(given, image)
            interpreter.invoke()
            return {
                one.name: _channels_first(interpreter.get_tensor(index))
                for one, index in zip(outputs, answered, strict=True)
            }

        return tried(predict, artifact, *_ERRORS)


def _channels_first(answer: np.ndarray) -> np.ndarray:
    """Return a map of a detector's dense part as (1, C, H, W); LiteRT has channels last."""
    return np.ascontiguousarray(answer.transpose(0, 3, 1, 2)) if answer.ndim == 4 else answer


def count_int8_operators(model: bytes) -> dict[str, str]:
    """Return operator -> "int8 in/of" of a file; LiteRT computes what the file says."""
    from ai_edge_litert import schema_py_generated as schema

    read = schema.ModelT.InitFromPackedBuf(model)
    graph = read.subgraphs[0]
    int8 = schema.TensorType.INT8
    audit = {}
    for operator, codes in _AUDITED.items():
        wanted = {getattr(schema.BuiltinOperator, code) for code in codes}
        found = [
            graph.tensors[one.outputs[0]].type == int8
            for one in graph.operators
            if read.operatorCodes[one.opcodeIndex].builtinCode in wanted
        ]
        if found:
            audit[operator] = f"int8 {sum(found)}/{len(found)}"
    return audit


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingDependencyError(
            "LiteRT is not installed", hint='pip install "featherweight[litert]"'
        ) from error
    return Interpreter


RUNTIMES.add(LiteRt.name, LiteRt())
