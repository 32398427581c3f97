"""Milliseconds of the survey's networks on the machine at hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from featherweight.exporting.platforms import DEFAULT_PLATFORM, parse_platform
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import Measurement
from survey.examples import architecture

__all__ = ["Timing", "time_networks"]


class Timing(NamedTuple):
    """What was measured in one process.

    Attributes:
        machine: processor, runtime version and platform.
        texts: network -> milliseconds as printed, `?` behind a disturbed measurement.
    """

    machine: str
    texts: dict[str, str]


def time_networks(networks: list[str]) -> Timing:
    """Measure networks with drawn weights, interleaved, in a fresh process.

    Raises:
        DeviceError: the measuring process failed.
    """
    platform = parse_platform(DEFAULT_PLATFORM)
    with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
        artifacts = [
            export_untrained(
                architecture(network), platform=platform, out=Path(folder) / str(index)
            )
            for index, network in enumerate(networks)
        ]
        measured = measure_artifacts(artifacts, platform=platform, names=networks)
    first = measured[0]
    return Timing(
        f"{first.device_info.cpu}, onnxruntime {first.runtime_version}, {first.platform}",
        {one.network: _text(one) for one in measured},
    )


def _text(measurement: Measurement) -> str:
    return f"{measurement.median_ms:.3f}" + ("?" if measurement.disturbed else "")
