"""Turn architectures into timed files, for shopping and for the choice beside the proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight.architecture import Architecture
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measure import export_drawn
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.platform import Platform

__all__ = ["time_architectures"]

_MOST_S_PER_SAMPLE = 0.03
"""A network slower than this gets fewer samples in the same window."""


def time_architectures(
    wanted: Sequence[tuple[str, Architecture, str]],
    folder: Path,
    *,
    platform: Platform,
    samples: int,
    seed: int,
) -> list[Measurement]:
    """Write each (label, architecture, precision) with drawn weights and time them.

    Files of one precision are interleaved in one fresh process. Disturbed measurements are not
    repeated: shopping looks at each family several times, and the proof measures again.

    Args:
        wanted: label, architecture and precision of each.
        folder: where the files are written.
        platform: where they run; its precision is replaced.
        samples: of each; a sample takes 10 ms or more, so they also set the length of the window.
        seed: of the order of the turns.
    """
    measured: dict[int, Measurement] = {}
    for precision in dict.fromkeys(precision for _, _, precision in wanted):
        indices = [k for k, (_, _, kind) in enumerate(wanted) if kind == precision]
        artifacts = [
            export_drawn(
                wanted[k][1],
                platform=platform.with_precision(precision),
                out=folder / f"{wanted[k][1].digest[:16]}-{precision}",
            )
            for k in indices
        ]
        found = measure_artifacts(
            artifacts,
            platform=platform.with_precision(precision),
            names=[wanted[k][0] for k in indices],
            samples=samples,
            max_s_each=_MOST_S_PER_SAMPLE * samples,
            seed=seed,
            repeat_disturbed=False,
        )
        measured.update(zip(indices, found, strict=True))
    return [measured[k] for k in range(len(wanted))]
