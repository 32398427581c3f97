"""OpenVINO on the CPU: float32, bfloat16, and int8 by static quantisation; optional."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.detection.parts import dense_part
from featherweight.errors import MissingDependencyError, UnsupportedError, UsageError
from featherweight.layers import layers
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, record_artifact
from featherweight.runtimes.onnxruntime import is_saturation_safe, written
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

__all__ = ["OpenVino", "count_int8_operators", "shuffle_by_transposing"]

_MODEL = "model.onnx"
_AUDITED = {"Conv": ("Convolution", "GroupConvolution"), "Gemm": ("FullyConnected", "MatMul")}
_INT8 = frozenset({"i8", "u8"})
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What is computed where the file does not say otherwise."""


class OpenVino:
    """OpenVINO's CPU plug-in, on the ONNX file that it reads itself.

    Its own format would be two files that differ from one export to the next. The file of bf16
    is that of fp32: OpenVINO rounds when it compiles, on CPUs that compute in bfloat16.
    """

    name = "openvino"
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")
    runs_in_threads = True

    def version(self) -> str:
        """Return the version of OpenVINO.

        Raises:
            MissingDependencyError: it is not installed.
        """
        return str(_openvino().__version__).partition("-")[0]

    def export(
        self,
        architecture: Architecture | Detector,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write `model.onnx` and artifact.json; see `Runtime.export`."""
        check_precision(self, options.precision)
        _check_processor(options.precision)
        plain = dense_part(architecture) if isinstance(architecture, Detector) else architecture
        saturation_safe: bool | None = None
        if options.precision == "int8":
            _refuse_pooled_shortcuts(plain)
            saturation_safe = is_saturation_safe(options.saturation_safe)
        model = written(architecture, weights, options, saturation_safe=saturation_safe)
        shuffle_by_transposing(model, plain)
        write_bytes(out / _MODEL, model.SerializeToString())
        operators: dict[str, str] | None = None
        if options.precision == "int8":
            compiled = _compile(out / _MODEL, num_threads=1, precision=options.precision)
            operators = count_int8_operators(compiled)
        return record_artifact(
            out,
            (_MODEL,),
            runtime=self.name,
            architecture=architecture,
            options=options,
            int8_operators=operators,
            saturation_safe=saturation_safe,
        )

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Compile the network; see `Runtime.load`."""
        check_loadable(self.name, artifact, num_threads=num_threads)
        _openvino()  # absent: said before the file is read
        with reading(artifact, RuntimeError):
            compiled = _compile(
                artifact.paths[0], num_threads=num_threads, precision=artifact.precision
            )
            request = compiled.create_infer_request()
            names = [one.get_any_name() for one in compiled.outputs]
        input_shape = artifact.input_shape

        def predict(image: np.ndarray) -> Answer:
            check_image(image, input_shape)
            answer = request.infer({0: image})
            return {name: np.array(answer[index]) for index, name in enumerate(names)}

        return tried(predict, artifact, RuntimeError, TypeError)


def shuffle_by_transposing(model: Any, architecture: Architecture) -> None:
    """Write shuffled channels as two reshapes and a transposition, in place.

    Gathered, as our files have them, OpenVINO 2026.4 answers something else in every ShuffleNetV2
    and SNet (relative differences of 0.4 to 1.8, on a CPU with AVX-512), not in ShuffleNetV1.

    Args:
        model: ONNX, of `write_onnx`, or of a detector.
        architecture: its layers; of a detector those of its dense part.
    """
    from onnx import helper, numpy_helper

    orders = {f"{one.name}.order": one for one in layers(architecture) if one.op == "shuffle"}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        layer = orders.pop(node.input[1], None) if node.op_type == "Gather" else None
        if layer is None:
            model.graph.node.append(node)
            continue
        channels, height, width = layer.output_shape
        shapes = {
            f"{layer.name}.split": (1, layer.groups, channels // layer.groups, height, width),
            f"{layer.name}.joined": (1, channels, height, width),
        }
        for name, shape in shapes.items():
            model.graph.initializer.append(
                numpy_helper.from_array(np.array(shape, dtype=np.int64), name)
            )
        split, joined = shapes
        turned = f"{layer.name}.turned"
        parts = f"{layer.name}.parts"
        model.graph.node.extend(
            [
                helper.make_node("Reshape", [node.input[0], split], [parts]),
                helper.make_node("Transpose", [parts], [turned], perm=[0, 2, 1, 3, 4]),
                helper.make_node("Reshape", [turned, joined], list(node.output), name=node.name),
            ]
        )
    assert not orders, f"shuffles that were not rewritten: {', '.join(orders)}"


def _refuse_pooled_shortcuts(architecture: Architecture) -> None:
    """Refuse what OpenVINO ends the process on (segmentation fault while it compiles).

    Seen with every ShuffleNetV1, whatever its groups, and with no other network.

    Raises:
        UnsupportedError: an average pool whose output is concatenated, in int8.
    """
    plan = layers(architecture)
    pooled = {one.name for one in plan if one.op == "pool" and one.function == "average"}
    for layer in plan:
        if layer.op == "concat" and pooled & set(layer.inputs):
            raise UnsupportedError(
                f"{architecture.name}: OpenVINO crashes on int8 average pools that are "
                f"concatenated ({layer.name})",
                allowed="fp32, or the runtime onnxruntime",
            )


def count_int8_operators(compiled: Any) -> dict[str, str]:
    """Return operator -> "int8 in/of" of the graph that OpenVINO really executes here."""
    kinds = [
        (
            str(node.rt_info["layerType"].astype(str)),
            str(node.rt_info["runtimePrecision"].astype(str)),
        )
        for node in compiled.get_runtime_model().get_ordered_ops()
        if "layerType" in node.rt_info and "runtimePrecision" in node.rt_info
    ]
    audit = {}
    for operator, forms in _AUDITED.items():
        found = [precision for kind, precision in kinds if kind in forms]
        if found:
            audit[operator] = f"int8 {sum(p in _INT8 for p in found)}/{len(found)}"
    return audit


def _check_processor(precision: str) -> None:
    """Refuse bf16 where the processor lacks it, before anything is written.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        UnsupportedError: this processor does not compute in bfloat16.
    """
    core = _openvino().Core()
    if precision == "bf16":
        offered = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in offered:
            raise UnsupportedError(
                "OpenVINO does not compute in bf16 on this processor", allowed="fp32, int8"
            )


def _compile(path: Path, *, num_threads: int, precision: str) -> Any:
    """Compile a file with every setting that matters for time and precision given.

    Without the hint OpenVINO computes in bfloat16 on CPUs that have it, whatever the file says.

    Raises:
        UsageError: fewer than one thread.
        UnsupportedError: the plug-in computes in something else than was asked for.
    """
    if num_threads < 1:
        raise UsageError(f"{num_threads} threads", allowed="1 or more")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(num_threads),
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "ENABLE_CPU_PINNING": "NO",
    }
    compiled = _openvino().Core().compile_model(str(path), "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != _HINTS[precision]:
        raise UnsupportedError(f"OpenVINO computes in {used} here", allowed=_HINTS[precision])
    return compiled


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "OpenVINO is not installed", hint='pip install "featherweight[openvino]"'
        ) from error
    return openvino


RUNTIMES.add(OpenVino.name, OpenVino())
