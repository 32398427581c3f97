"""ExecuTorch on the CPU with XNNPACK: PyTorch's own runtime for phones and boards; optional."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.detection.table import DETECTION
from featherweight.errors import MissingDependencyError
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, record_artifact
from featherweight.runtimes.detector_parts import export_by_parts, load_by_parts
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
from featherweight.runtimes.weights import check_labels, check_weights, random_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ExecuTorch", "levels_of"]

logger = logging.getLogger(__name__)

_PROGRAM = "model.pte"
_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)
"""For files that are damaged or of something else."""
_HEAD = 8
"""Bytes: an offset, and the identifier that flatbuffers have."""


class ExecuTorch:
    """The XNNPACK backend of executorch; one file, traced by torch.export.

    The file takes float32 (1, C, H, W), levels 0 to 255; the normalisation is inside. Its threads
    belong to the process: the first file that is loaded sets their number.
    """

    name = "executorch"
    precisions: tuple[str, ...] = ("fp32", "int8")
    runs_in_threads = False

    def version(self) -> str:
        """Return the version of executorch.

        Raises:
            MissingDependencyError: it is not installed.
        """
        _bindings()
        return version("executorch")

    def export(
        self,
        architecture: Architecture | Detector,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write `model.pte` and artifact.json; see `Runtime.export`. Takes seconds."""
        check_precision(self, options.precision)
        if isinstance(architecture, Detector):
            return export_by_parts(self, architecture, weights, out, options)
        _bindings()  # absent: said before anything is written
        with _without_warnings():
            from featherweight.runtimes.executorch_program import (
                count_int8_operators,
                write_program,
            )
        check_labels(architecture, options.labels)
        weights = random_weights(architecture, seed=0) if weights is None else weights
        check_weights(architecture, weights)
        program = write_program(
            architecture,
            weights,
            preprocessing=options.preprocessing,
            calibration=options.calibration,
            int8=options.precision == "int8",
        )
        write_bytes(out / _PROGRAM, program.buffer)
        int8: dict[str, Any] = {}
        if options.precision == "int8":
            int8 = {"int8_operators": count_int8_operators(program), "saturation_safe": False}
        return record_artifact(
            out,
            (_PROGRAM,),
            runtime=self.name,
            architecture=architecture,
            options=options,
            **int8,
        )

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Load the program; see `Runtime.load`."""
        if artifact.task == DETECTION:
            return load_by_parts(self, artifact, num_threads=num_threads)
        check_loadable(self.name, artifact, num_threads=num_threads)
        _check_identifier(artifact)  # first: the import takes seconds
        from executorch.runtime import Runtime

        _set_threads(num_threads)
        with reading(artifact, *_ERRORS):
            program = Runtime.get().load_program(artifact.paths[0])
            method = program.load_method("forward")
            (_, channels, _, _) = method.metadata.input_tensor_meta(0).sizes()
        input_shape, outputs = artifact.input_shape, artifact.outputs

        def predict(image: np.ndarray) -> Answer:
            check_image(image, input_shape)
            answer = method.execute([levels_of(image, channels=channels)])
            return {
                one.name: np.array(value.numpy())
                for one, value in zip(outputs, answer, strict=True)
            }

        return tried(predict, artifact, *_ERRORS)


def _check_identifier(artifact: Artifact) -> None:
    """Refuse what is no program: ExecuTorch ends the process on some such files."""
    with artifact.paths[0].open("rb") as stream:
        head = stream.read(_HEAD)
    with reading(artifact, ValueError):
        if len(head) < _HEAD or not head[4:].startswith(b"ET"):
            raise ValueError("it does not begin as an ExecuTorch program does")


def levels_of(image: np.ndarray, *, channels: int) -> Tensor:
    """Return uint8 (1, H, W, 3) as programs take it: float32 (1, C, H, W), grey where C is 1."""
    import torch

    found = torch.tensor(image).permute(0, 3, 1, 2).float()
    return found.contiguous() if channels == found.shape[1] else found.mean(1, keepdim=True)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Executorch's imports warn of deprecated parts of Python and torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _bindings() -> Any:
    try:
        with _without_warnings():
            from executorch.extension.pybindings import portable_lib
    except ImportError as error:
        raise MissingDependencyError(
            "ExecuTorch is not installed", hint='pip install "featherweight[executorch]"'
        ) from error
    return portable_lib


_threads: list[int] = []
"""How many threads programs of this process have, once one was loaded."""


def _set_threads(count: int) -> None:
    """Let programs have so many threads, if none was loaded before.

    They share one pool, and crash when it is replaced under them. Answers do not depend on it;
    whatever is timed runs in a process of its own, with one number of threads.
    """
    if not _threads:
        bindings = _bindings()
        if bindings._threadpool_get_thread_count() != count:
            bindings._unsafe_reset_threadpool(count)
        _threads.append(count)
    if _threads != [count]:
        logger.warning(
            "ExecuTorch keeps its %d threads in this process; %d were asked for",
            _threads[0],
            count,
        )


RUNTIMES.add(ExecuTorch.name, ExecuTorch())
