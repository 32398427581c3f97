"""onnxruntime on the CPU: float32, and int8 by static quantisation."""

from __future__ import annotations

import platform
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.environment import int8_pairs_saturate
from featherweight.errors import UsageError
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, record_artifact
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
from featherweight.runtimes.weights import calibration_pictures

if TYPE_CHECKING:
    from featherweight.runtimes.quantisation import Observations

__all__ = [
    "OnnxRuntime",
    "count_int8_operators",
    "is_saturation_safe",
    "observations",
    "open_session",
    "quantised",
    "written",
]

_MODEL = "model.onnx"
_CPU_FACTS = Path("/proc/cpuinfo")
_AUDITED = {
    "Conv": ("Conv", "FusedConv", "QLinearConv"),
    "Gemm": ("Gemm", "FusedGemm", "QGemm"),
    "Add": ("Add", "QLinearAdd"),
    "Mul": ("Mul", "QLinearMul"),
    "AveragePool": ("AveragePool", "QLinearAveragePool"),
    "GlobalAveragePool": ("GlobalAveragePool", "QLinearGlobalAveragePool"),
    "Sigmoid": ("Sigmoid", "QLinearSigmoid"),
    "HardSigmoid": ("HardSigmoid",),
    "HardSwish": ("HardSwish",),
}


class OnnxRuntime:
    """The default runtime: installed with featherweight, one ONNX file."""

    name = "onnxruntime"
    precisions: tuple[str, ...] = ("fp32", "int8")
    runs_in_threads = True

    def version(self) -> str:
        """Return the version of onnxruntime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def export(
        self,
        architecture: Architecture | Detector,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write `model.onnx` and artifact.json; see `Runtime.export`."""
        check_precision(self, options.precision)
        operators: dict[str, str] | None = None
        saturation_safe: bool | None = None
        if options.precision == "int8":
            saturation_safe = is_saturation_safe(options.saturation_safe)
        model = written(architecture, weights, options, saturation_safe=saturation_safe)
        if options.precision == "int8":
            operators = count_int8_operators(model.SerializeToString())
        write_bytes(out / _MODEL, model.SerializeToString())
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
        """Open a session; see `Runtime.load`."""
        check_loadable(self.name, artifact, num_threads=num_threads)
        errors = _errors()
        with reading(artifact, *errors):
            session = open_session(str(artifact.paths[0]), num_threads=num_threads)
        input_shape = artifact.input_shape
        names = [one.name for one in session.get_outputs()]

        def predict(image: np.ndarray) -> Answer:
            check_image(image, input_shape)
            return dict(zip(names, session.run(names, {"image": image}), strict=True))

        return tried(predict, artifact, *errors)


def written(
    architecture: Architecture | Detector,
    weights: Mapping[str, np.ndarray] | None,
    options: ExportOptions,
    *,
    saturation_safe: bool | None,
) -> Any:
    """Return the ONNX model of a classifier or a detector, whose dense part alone may be int8.

    Args:
        architecture: the network.
        weights: as `Runtime.export` takes them.
        options: likewise.
        saturation_safe: of int8, see `quantise_model`; `None` = all is float32.
    """
    from featherweight.runtimes.detector_onnx import write_detector_onnx
    from featherweight.runtimes.onnx_writer import write_onnx

    def quantise(model: Any, part: Architecture) -> Any:
        assert saturation_safe is not None
        return quantised(model, part, options.calibration, saturation_safe=saturation_safe)

    known: dict[str, Any] = {"preprocessing": options.preprocessing, "labels": options.labels}
    if isinstance(architecture, Detector):
        return write_detector_onnx(
            architecture,
            weights,
            quantise=None if saturation_safe is None else quantise,
            **known,
        )
    model = write_onnx(architecture, weights, **known)
    return model if saturation_safe is None else quantise(model, architecture)


def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for files that are damaged or of something else."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NotImplemented,
        state.RuntimeException,
        ValueError,
        RuntimeError,
    )


def open_session(model: str | bytes, *, num_threads: int) -> Any:
    """Open a file or serialised model on the CPU with every setting that matters for time given.

    Raises:
        UsageError: fewer than one thread.
    """
    import onnxruntime

    if num_threads < 1:
        raise UsageError(f"{num_threads} threads", allowed="1 or more")
    return onnxruntime.InferenceSession(
        model, _session_options(num_threads), providers=["CPUExecutionProvider"]
    )


def _session_options(num_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting workers spin (the default) so that a second thread is there when it is needed.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(num_threads > 1)))
    options.log_severity_level = 3
    return options


def is_saturation_safe(asked: bool | None) -> bool:  # noqa: FBT001 - what `Runtime.export` was given
    """Return `asked`, or what this machine's CPU needs where nobody knows the device's."""
    if asked is not None:
        return asked
    facts = _CPU_FACTS.read_text(encoding="utf-8") if _CPU_FACTS.is_file() else ""
    return int8_pairs_saturate(platform.machine(), facts)


def count_int8_operators(model: bytes) -> dict[str, str]:
    """Return operator -> "int8 in/of" of the graph onnxruntime really executes on this machine.

    Reading it from the optimised graph shows what quantisation asked for and did not get.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _MODEL
        options = _session_options(1)
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    audit = {}
    for operator, forms in _AUDITED.items():
        total = sum(counts[form] for form in forms)
        quantised = sum(counts[form] for form in forms if form.startswith("Q"))
        if total:
            audit[operator] = f"int8 {quantised}/{total}"
    return audit


def quantised(
    model: Any, architecture: Architecture, calibration: np.ndarray | None, *, saturation_safe: bool
) -> Any:
    """Return the int8 form of what `write_onnx` wrote; onnxruntime looks at the pictures.

    Args:
        model: the float model.
        architecture: what it was written from.
        calibration: uint8 (N, H, W, 3); `None` draws noise, for timing.
        saturation_safe: see `quantise_model`.

    Raises:
        UsageError: the pictures do not fit the network.
    """
    from featherweight.runtimes.quantisation import quantise_model

    seen = observations(model, architecture, calibration)
    return quantise_model(model, seen, saturation_safe=saturation_safe)


def observations(
    model: Any, architecture: Architecture, calibration: np.ndarray | None
) -> Observations:
    """Return what the tensors of a float model hold when it sees pictures; see `quantised`.

    Raises:
        UsageError: the pictures do not fit the network.
    """
    from featherweight.runtimes.quantisation import observe, with_observers

    calibration = calibration_pictures(architecture, calibration)
    session = open_session(with_observers(model).SerializeToString(), num_threads=1)
    return observe(model, calibration, run=lambda image: session.run(None, {"image": image}))


RUNTIMES.add(OnnxRuntime.name, OnnxRuntime())
