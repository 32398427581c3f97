"""Time networks by name: the verb `measure`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from featherweight.architecture import Architecture
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.platform import DEFAULT_PLATFORM, Platform, parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import resolve_architecture
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES

__all__ = ["export_drawn", "measure"]


def export_drawn(architecture: Architecture, *, platform: Platform, out: Path) -> Artifact:
    """Export a network with drawn weights: for timing, where their values do not matter."""
    return RUNTIMES[platform.runtime].export(
        architecture,
        None,
        out=out,
        precision=platform.precision,
        calibration=None,
        preprocessing=Preprocessing(),
        labels=tuple(str(k) for k in range(architecture.num_classes)),
        limit_pairs=platform.limits_pairs,
    )


def measure(
    networks: Sequence[str], *, on: Sequence[str] = (DEFAULT_PLATFORM,), seed: int = 0
) -> list[Measurement]:
    """Time networks on platforms; those of one platform are interleaved in one fresh process.

    Args:
        networks: zoo names with settings, run directories or architecture.json files.
        on: platforms in text form.
        seed: of the order of the runs.

    Raises:
        UsageError: an unknown network or platform, with the nearest spelling.
        DeviceError: the device could not measure.
    """
    architectures = [resolve_architecture(network) for network in networks]
    platforms = [parse_platform(text) for text in on]
    measured = []
    with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
        for platform in platforms:
            artifacts = [
                export_drawn(
                    architecture,
                    platform=platform,
                    out=Path(folder) / f"{k}-{platform.runtime}-{platform.precision}",
                )
                for k, architecture in enumerate(architectures)
            ]
            measured += measure_artifacts(artifacts, platform=platform, names=networks, seed=seed)
    return measured
