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


_SAMPLES, _MOST_S_EACH = 100, 5.0
_MOST_SAMPLES = 1_000_000
"""More than any time allows: the time is the limit."""


def measure(
    networks: Sequence[str],
    *,
    on: Sequence[str] = (DEFAULT_PLATFORM,),
    sustained_s: float | None = None,
    seed: int = 0,
) -> list[Measurement]:
    """Time networks on platforms; those of one platform are interleaved in one fresh process.

    Args:
        networks: zoo names with settings, run directories or architecture.json files.
        on: platforms in text form.
        sustained_s: seconds for which each network runs, instead of 100 samples: a device that
            becomes hot becomes slow (`Measurement.samples_ms` in the order they were taken).
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
            measured += measure_artifacts(
                artifacts,
                platform=platform,
                names=networks,
                samples=_SAMPLES if sustained_s is None else _MOST_SAMPLES,
                max_s_each=sustained_s or _MOST_S_EACH,
                seed=seed,
                repeat_disturbed=sustained_s is None,
            )
    return measured
