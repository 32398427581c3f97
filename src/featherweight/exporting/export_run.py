"""Export a trained network's run directory and prove the files: the verbs `export`, `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.arguments import optional_path, to_data, to_path
from featherweight.data.cache import cached_pixels
from featherweight.data.home import cache_directory
from featherweight.data.images import ImageData
from featherweight.devices.known import find_device
from featherweight.errors import UsageError
from featherweight.exporting.export import export_network
from featherweight.exporting.verification import Verification
from featherweight.exporting.verify import verify_artifact
from featherweight.networks.storage import StoredNetwork, load_network, recorded_seed
from featherweight.readable import figure_name
from featherweight.records import to_plain
from featherweight.runtimes.artifact import Artifact, read_artifact
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.tasks.task import TASKS, check_same_task, load_data

__all__ = [
    "CALIBRATION_PICTURES",
    "ExportResult",
    "calibration_pixels",
    "calibration_rows",
    "export",
    "verify",
]

CALIBRATION_PICTURES = 128
"""8, 32 and 64 pictures differed by less than 2 % in the error they left (EfficientNet-Lite0)."""


@dataclass(frozen=True)
class ExportResult:
    """A file and, when there was data, what was verified about it."""

    platform: str
    artifact: Artifact
    verification: Verification | None

    def plain(self) -> dict[str, Any]:
        """Return one item of `export --json`."""
        return {
            "platform": self.platform,
            "files": [str(path) for path in self.artifact.paths],
            "size_bytes": self.artifact.size_bytes,
            "verification": None if self.verification is None else to_plain(self.verification),
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [f"{path} ({self.artifact.size_bytes:,} bytes)" for path in self.artifact.paths]
        if self.verification is None:
            return [*lines, "not verified: give DATA to compare it with the network"]
        v = self.verification
        return [
            *lines,
            (
                f"{'verified' if v.passed else 'NOT VERIFIED'}: "
                f"{figure_name(TASKS[self.artifact.task].metric)} {v.accuracy:.3f} on {v.n} "
                f"{v.split} pictures (95 % interval {v.interval[0]:.3f}-{v.interval[1]:.3f}), "
                f"same answer as the network on {v.top1_agreement:.1%}, "
                f"relative error {v.relative_error:.2g}"
            ),
        ]


def export(
    network: str | Path,
    *,
    data: str | Path | None = None,
    on: Sequence[str],
    output: str | Path | None = None,
    seed: int | None = None,
) -> list[ExportResult]:
    """Write files for platforms; with data, calibrate int8 and verify on the test split.

    Args:
        network: run directory of a trained network.
        data: the pictures it was trained on; int8 needs them.
        on: platforms in text form.
        output: folder of the files; default `artifacts` in the run directory.
        seed: of the splits; by default the one the training used.

    Raises:
        UsageError: no network there, int8 without data, other classes, unknown platforms.
    """
    network, output = to_path(network, name="network"), optional_path(output, name="output")
    stored = load_network(network)
    seed = recorded_seed(network) if seed is None else seed
    images = None if data is None else _load(stored, data, seed=seed)
    shipped = []
    for text in on:
        device, runtime, precision = _parts(text)
        calibration = saturation_safe = None
        if precision == "int8":
            saturation_safe = find_device(device).info().int8_pairs_saturate
            if images is None:
                raise UsageError(
                    "int8 needs pictures to calibrate on",
                    hint=f"give the data: featherweight export {network} DATA --on {text}",
                )
            calibration = calibration_pixels(images, stored, seed=seed)
        artifact = export_network(
            stored.network,
            runtime=runtime,
            precision=precision,
            out=(output or network / "artifacts") / f"{runtime}-{precision}",
            calibration=calibration,
            preprocessing=stored.preprocessing,
            labels=stored.classes,
            saturation_safe=saturation_safe,
            task=stored.task,
        )
        verification = None if images is None else _verify(artifact, stored, images)
        shipped.append(ExportResult(text, artifact, verification))
    return shipped


def verify(
    network: str | Path, *, artifact: str | Path, data: str | Path, seed: int | None = None
) -> ExportResult:
    """Compare an exported file with its network on the test split.

    Raises:
        UsageError: no network or file there, a file that was changed, other classes.
    """
    network, artifact = to_path(network, name="network"), to_path(artifact, name="artifact")
    stored = load_network(network)
    found = read_artifact(artifact)
    if found.architecture_digest != stored.network.architecture.digest:
        raise UsageError(
            f"{found.directory} was not exported from the network of {network}",
            hint="export that network again",
        )
    if found.task != stored.task:
        raise UsageError(f"{found.directory} answers {found.task}", allowed=stored.task)
    RUNTIMES[found.runtime].load(found, num_threads=1)  # refused before pictures are read
    images = _load(stored, data, seed=recorded_seed(network) if seed is None else seed)
    text = f"local/{found.runtime}:threads=1,precision={found.precision}"
    return ExportResult(text, found, _verify(found, stored, images))


def calibration_pixels(images: ImageData, stored: StoredNetwork, *, seed: int) -> NDArray[np.uint8]:
    """Return training pictures as the file takes them, (n, R, R, 3), to set int8 ranges."""
    rows = calibration_rows(len(images.splits["train"]), seed=seed)
    resolution = stored.network.architecture.resolution
    return np.ascontiguousarray(_pixels(images, "train", stored, resolution, rows=rows))


def calibration_rows(total: int, *, seed: int) -> NDArray[np.int64]:
    """Return which of `total` training pictures set int8 ranges: the same in fit and export."""
    chosen = np.random.default_rng([seed, 128]).permutation(total)[:CALIBRATION_PICTURES]
    return np.sort(chosen)


def _load(stored: StoredNetwork, data: str | Path, *, seed: int) -> ImageData:
    images = load_data(to_data(data), seed=seed)
    check_same_task(images, task=stored.task, classes=stored.classes)
    return images


def _pixels(
    images: ImageData,
    split: str,
    stored: StoredNetwork,
    size: int,
    *,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    return cached_pixels(
        images,
        split,
        size=size,
        preprocessing=stored.preprocessing,
        directory=cache_directory(),
        rows=rows,
    )


def _verify(artifact: Artifact, stored: StoredNetwork, images: ImageData) -> Verification:
    return verify_artifact(
        artifact,
        stored.network,
        images=_pixels(images, "test", stored, artifact.input_shape[0]),
        targets=images.splits["test"].targets,
        split="test",
    )


def _parts(text: str) -> tuple[str, str, str]:
    """Read device, runtime and precision (measuring, which parses platforms, is above)."""
    device, _, rest = text.rpartition("/")
    runtime, _, given = rest.partition(":")
    settings = dict(pair.partition("=")[::2] for pair in given.split(",") if pair)
    return device, runtime, settings.get("precision", "fp32")
