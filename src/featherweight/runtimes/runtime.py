"""The seam between featherweight and the libraries that execute networks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.errors import UnsupportedError, UsageError
from featherweight.registry import Registry
from featherweight.runtimes.artifact import Artifact, ExportOptions, digest_files

__all__ = [
    "RUNTIMES",
    "Answer",
    "ExportOptions",
    "Predict",
    "Runtime",
    "check_image",
    "check_loadable",
    "check_precision",
    "reading",
    "tried",
]

Answer = Mapping[str, np.ndarray]
"""What a network answers to one picture: float32 arrays by the names of its outputs."""
Predict = Callable[[np.ndarray], Answer]
"""uint8 (1, H, W, 3) -> {output: float32}; a classifier answers `logits` (1, classes)."""


class Runtime(Protocol):
    """A library that executes exported networks.

    Attributes:
        name: how platforms spell it.
        precisions: what it can compute in; the first is the default.
        runs_in_threads: whether files that were loaded apart may be asked at the same time, each in
            a thread of its own, and are then faster than one after the other.
    """

    name: str
    precisions: tuple[str, ...]
    runs_in_threads: bool

    def version(self) -> str:
        """Return the version of the library."""
        ...

    def export(
        self,
        architecture: Architecture | Detector,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write the files that this runtime executes, and artifact.json, into `out`.

        Args:
            architecture: the network.
            weights: by the names of torch's state dict; `None` draws seeded ones (for timing).
            out: directory; created.
            options: what the files compute in, take and answer.

        Raises:
            UnsupportedError: the runtime cannot hold this network or precision.
        """
        ...

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Return a callable uint8 (1, H, W, 3) -> {output: float32}; see `Predict`.

        Raises:
            UsageError: the files are absent or of another runtime; the callable raises it for
                an input of another shape or type.
        """
        ...


_AGAIN = "it is damaged or of something else: export the network again"
_SAID = 200
"""Letters of what a library says; some say pages."""

RUNTIMES: Registry[Runtime] = Registry("runtime", plugins="featherweight.runtimes")


def check_precision(runtime: Runtime, precision: str) -> None:
    """Raise UnsupportedError unless `runtime` computes in `precision`."""
    if precision not in runtime.precisions:
        raise UnsupportedError(
            f"the runtime {runtime.name!r} does not compute in {precision!r}",
            allowed=", ".join(runtime.precisions),
        )


def check_loadable(name: str, artifact: Artifact, *, num_threads: int, files: int = 1) -> None:
    """Raise UsageError unless a runtime can load an artifact: its own, files there, threads."""
    if artifact.runtime != name:
        raise UsageError(
            f"{artifact.directory} is an artifact of {artifact.runtime!r}", allowed=name
        )
    if num_threads < 1:
        raise UsageError(f"{num_threads} threads", allowed="1 or more")
    check_precision(RUNTIMES[name], artifact.precision)
    if len(artifact.files) != files:
        raise UsageError(
            f"{artifact.directory} names {len(artifact.files)} files for {name}",
            allowed=str(files),
            hint=_AGAIN,
        )
    digest_files(Path(artifact.directory), artifact.files)


@contextlib.contextmanager
def reading(artifact: Artifact, *errors: type[Exception]) -> Iterator[None]:
    """Say in one line that a library cannot read an artifact.

    Args:
        artifact: what is read.
        errors: what that library raises for files that are damaged or of something else.

    Raises:
        UsageError: one of `errors` came.
    """
    try:
        yield
    except errors as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(
            f"{artifact.runtime} cannot read {artifact.paths[0]}: "
            f"{(lines or [type(error).__name__])[-1][:_SAID]}",
            hint=_AGAIN,
        ) from error


def tried(predict: Predict, artifact: Artifact, *errors: type[Exception]) -> Predict:
    """Return `predict` once it has answered a black picture in the form that artifact.json names.

    A whole file may still be that of another network: with other inputs, outputs or classes.

    Raises:
        UsageError: it does not answer so.
    """
    with reading(artifact, *errors):
        answer = predict(np.zeros((1, *artifact.input_shape), dtype=np.uint8))
    expected = {one.name: one.shape for one in artifact.outputs}
    found = {name: getattr(value, "shape", None) for name, value in answer.items()}
    kinds = {str(getattr(value, "dtype", type(value).__name__)) for value in answer.values()}
    if found != expected or kinds != {"float32"}:
        raise UsageError(
            f"{artifact.paths[0]} answers {', '.join(sorted(kinds))} {_in_words(found)}",
            allowed=f"float32 {_in_words(expected)}, as its artifact.json says",
            hint=_AGAIN,
        )
    return predict


def _in_words(shapes: Mapping[str, tuple[int, ...] | None]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def check_image(image: np.ndarray, input_shape: tuple[int, int, int]) -> None:
    """Raise UsageError unless `image` is uint8 (1, H, W, 3) of the artifact's size."""
    expected = (1, *input_shape)
    if getattr(image, "dtype", None) != np.uint8 or image.shape != expected:
        raise UsageError(
            f"the input is {getattr(image, 'dtype', type(image).__name__)} "
            f"{getattr(image, 'shape', '')}",
            allowed=f"uint8 {expected}: one picture, height, width, RGB",
            hint="resize and crop the picture as artifact.preprocessing says; do not normalise it",
        )
