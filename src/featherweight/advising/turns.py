"""Variants that take turns with the network they are of, and what its layers cost in its file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.errors import DeviceError, UnsupportedError
from featherweight.exporting.platforms import Platform
from featherweight.layers import graph
from featherweight.measuring.bench import Untrained, export_untrained, time_untrained
from featherweight.measuring.layer_times import NodeTime, layer_times, node_times
from featherweight.measuring.measurement import latencies_in_turns

__all__ = ["LEAST", "Costs", "Turns", "TurnsTimer"]

_MOST_S_EACH = 6.0
LEAST = 0.005
"""Share of a network's ms that a change must surely save to be worth a word."""
_TOO_NOISY = 0.03
"""Two files of one network may not lie further apart than that, nor be known less well."""


class Turns(NamedTuple):
    """Variants that took turns with the network: what each took over it, `None` = not held.

    Attributes:
        base_ms: median of the network as it is.
        noise: of a second file of it, how far its ratio may be from 1.
        ratios: one each.
    """

    base_ms: float
    noise: float
    ratios: list[Latency | None]

    def is_surely_faster(self, ratio: Latency) -> bool:
        """Whether a variant saves more than two files of one network differ."""
        return ratio.interval_ms[1] < 1 - max(LEAST, self.noise)


class Costs(NamedTuple):
    """What a network's time is spent on, as the runtime's profiler splits it.

    Attributes:
        layers: layer -> ms.
        nodes: of the file.
    """

    layers: dict[str, float]
    nodes: tuple[NodeTime, ...]


class TurnsTimer:
    """Times variants beside the network as it is, twice: what that says of noise is kept."""

    def __init__(self, network: Architecture, platform: Platform, *, seed: int) -> None:
        self._network = network
        self._platform = platform
        self._seed = seed
        self.seconds = 0.0

    def time(self, variants: Sequence[Architecture], *, samples: int) -> Turns:
        """Let variants take turns with the network, in one fresh process.

        Raises:
            DeviceError: two files of the network itself differ too much.
        """
        started = time.monotonic()
        wanted = [
            Untrained(str(k), one, self._platform.precision)
            for k, one in enumerate([self._network, self._network, *variants])
        ]
        measured = time_untrained(
            wanted,
            platform=self._platform,
            samples=samples,
            max_s_each=_MOST_S_EACH,
            seed=self._seed,
            repeat_disturbed=False,  # a second time in another process is no turn of this one
            refused=self._note_refused,
        )
        self.seconds += time.monotonic() - started
        held = sorted(measured)
        base_ms = measured[0].median_ms
        latencies = dict(
            zip(
                held,
                latencies_in_turns([measured[k] for k in held], scale=1 / base_ms),
                strict=True,
            )
        )
        low, high = latencies[1].interval_ms
        if max(abs(1 - latencies[1].median_ms), (high - low) / 2) > _TOO_NOISY:
            raise DeviceError(
                f"two files of one network differ by {abs(1 - latencies[1].median_ms):.1%} "
                f"({low - 1:+.1%} to {high - 1:+.1%}): something disturbs {self._platform.device}",
                allowed=f"{_TOO_NOISY:.0%}",
                hint="stop what else runs there, and try again",
            )
        return Turns(
            base_ms,
            max(abs(1 - low), abs(1 - high)),
            [latencies.get(k + 2) for k in range(len(variants))],
        )

    def _note_refused(self, one: Untrained, refusal: UnsupportedError) -> None:
        """Leave a variant out that the runtime cannot hold; the network itself must be held."""
        if one.architecture is self._network:
            raise refusal

    def costs(self, base_ms: float) -> Costs:
        """Return what layers and nodes take, such that all nodes together take `base_ms`."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
            artifact = export_untrained(
                self._network, platform=self._platform, out=Path(folder) / "network"
            )
            (nodes,) = node_times([artifact], self._platform)
        self.seconds += time.monotonic() - started
        scale = base_ms / sum(node.ms for node in nodes)
        scaled = [node._replace(ms=scale * node.ms) for node in nodes]
        return Costs(layer_times(graph(self._network), scaled), tuple(scaled))
