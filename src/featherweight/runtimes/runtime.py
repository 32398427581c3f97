"""The seam between featherweight and the libraries that execute networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError, UsageError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.registry import Registry
from featherweight.runtimes.artifact import Artifact, digest_files

__all__ = ["RUNTIMES", "Predict", "Runtime", "check_image", "check_loadable", "check_precision"]

Predict = Callable[[np.ndarray], np.ndarray]
"""uint8 (1, H, W, 3) -> float32 (1, classes) logits."""


class Runtime(Protocol):
    """A library that executes exported networks.

    Attributes:
        name: how platforms spell it.
        precisions: what it can compute in; the first is the default.
    """

    name: str
    precisions: tuple[str, ...]

    def version(self) -> str:
        """Return the version of the library."""
        ...

    def export(
        self,
        architecture: Architecture,
        weights: Mapping[str, np.ndarray] | None,
        *,
        out: Path,
        precision: str,
        calibration: np.ndarray | None,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        limit_pairs: bool | None = None,
    ) -> Artifact:
        """Write the files that this runtime executes, and artifact.json, into `out`.

        Args:
            architecture: the network.
            weights: by the names of torch's state dict; `None` draws seeded ones (for timing).
            out: directory; created.
            precision: one of `precisions`.
            calibration: uint8 (N, H, W, 3) training pictures for int8; `None` draws seeded noise
                (for timing only).
            preprocessing: its normalisation becomes part of the file.
            labels: class names in the order of the logits.
            limit_pairs: whether int8 weights must be scaled so that sums of two products fit 16
                bits, as `DeviceInfo.int8_pairs_saturate` says; `None` = as this machine needs it.

        Raises:
            UnsupportedError: the runtime cannot hold this network or precision.
        """
        ...

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Return a callable uint8 (1, H, W, 3) -> float32 (1, classes) logits.

        Raises:
            UsageError: the files are absent or of another runtime; the callable raises it for
                an input of another shape or type.
        """
        ...


RUNTIMES: Registry[Runtime] = Registry("runtime", plugins="featherweight.runtimes")


def check_precision(runtime: Runtime, precision: str) -> None:
    """Raise UnsupportedError unless `runtime` computes in `precision`."""
    if precision not in runtime.precisions:
        raise UnsupportedError(
            f"the runtime {runtime.name!r} does not compute in {precision!r}",
            allowed=", ".join(runtime.precisions),
        )


def check_loadable(name: str, artifact: Artifact, *, num_threads: int) -> None:
    """Raise UsageError unless a runtime can load an artifact: its own, files there, threads."""
    if artifact.runtime != name:
        raise UsageError(
            f"{artifact.directory} is an artifact of {artifact.runtime!r}", allowed=name
        )
    if num_threads < 1:
        raise UsageError(f"{num_threads} threads", allowed="1 or more")
    digest_files(Path(artifact.directory), artifact.files)


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
