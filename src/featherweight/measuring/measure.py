"""Time networks by name: the verb `measure`."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.exporting.platforms import DEFAULT_PLATFORM, parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import Measurement
from featherweight.networks.detectors import resolve_network

__all__ = ["measure"]


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
    architectures = [resolve_network(network) for network in networks]
    measured = []
    for platform in [parse_platform(text) for text in on]:
        found = time_untrained(
            [
                Untrained(network, architecture, platform.precision)
                for network, architecture in zip(networks, architectures, strict=True)
            ],
            platform=platform,
            samples=_SAMPLES if sustained_s is None else _MOST_SAMPLES,
            max_s_each=sustained_s or _MOST_S_EACH,
            seed=seed,
            repeat_disturbed=sustained_s is None,
        )
        measured += [found[index] for index in range(len(networks))]
    return measured
