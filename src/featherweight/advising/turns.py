"""Variants that take turns with the network they are of, and what its layers cost in its file."""

from __future__ import annotations

import logging
import statistics
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
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.layer_times import NodeTime, layer_times, node_times
from featherweight.measuring.measurement import COPIES_DIFFER, latencies_in_turns
from featherweight.runtimes.artifact import Artifact

__all__ = ["Costs", "Turns", "TurnsTimer"]

logger = logging.getLogger(__name__)

_LEAST_S, _S_A_SAMPLE = 4.0, 0.1
"""For the samples of each: a network above 40 ms has fewer than were asked for."""
_TOO_NOISY = 0.03
"""Two files of one network may not lie further apart than that, nor be known less well."""
_TOGETHER = 12
"""Variants that take turns in one process: all their files are held at once."""


class Turns(NamedTuple):
    """Variants that took turns with the network: what each took over it, `None` = not held.

    Attributes:
        base_ms: median of the network as it is, of the faster of its two files.
        noise: of a second file of it, how far its ratio may be from 1.
        ratios: one each, over the faster of the two files.
        slower: of its two files the slower over the faster.
    """

    base_ms: float
    noise: float
    ratios: list[Latency | None]
    slower: float

    @property
    def middle(self) -> float:
        """What a file of the network takes on average, over the faster of the two."""
        return (1 + self.slower) / 2

    @property
    def least(self) -> float:
        """Share that a change must save to be told from two files of one network."""
        return max(COPIES_DIFFER, self.noise)

    def may_be_faster(self, ratio: Latency, *, macs_ratio: float = 1.0) -> bool:
        """Whether a variant, beside the slower file, saves more than copies differ."""
        return ratio.median_ms / self.slower < min(1.0, macs_ratio) - COPIES_DIFFER

    def is_surely_faster(self, ratio: Latency, *, macs_ratio: float = 1.0) -> bool:
        """Whether a variant saves more than copies differ, and more than its multiply-adds."""
        return ratio.interval_ms[1] < min(1.0, macs_ratio) - self.least


class Costs(NamedTuple):
    """What a network's time is spent on, as the runtime's profiler splits it.

    Attributes:
        layers: layer -> ms; an activation that is computed with its convolution is part of that.
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
        """That measuring processes took; without writing the files."""

    def glance(self, variants: Sequence[Architecture], *, samples: int) -> Turns:
        """Let variants take turns with the network for a short time: to be measured again.

        Args:
            variants: of the network.
            samples: of each; twice as many are taken once where the machine is disturbed, and
                whatever comes out then is told.
        """
        return _one_after_the_other(
            [self._twice_if_disturbed(part, samples=samples)[0] for part in _parts(variants)]
        )

    def time(self, variants: Sequence[Architecture], *, samples: int, processes: int = 2) -> Turns:
        """Let variants take turns with the network, twelve in one fresh process.

        A file's median moves between processes, which no interval of one process shows: a ratio is
        the mean over processes, and its interval spans those of all.

        Args:
            variants: of the network.
            samples: of each in each process; twice as many are taken once where the machine is
                disturbed.
            processes: in which each variant is timed.

        Raises:
            DeviceError: two files of the network itself differ too much.
        """
        return _one_after_the_other(
            [
                _pooled([self._undisturbed(part, samples=samples) for _ in range(processes)])
                for part in _parts(variants)
            ]
        )

    def _undisturbed(self, variants: Sequence[Architecture], *, samples: int) -> Turns:
        turns, noise = self._twice_if_disturbed(variants, samples=samples)
        if noise is not None:
            raise noise
        return turns

    def _twice_if_disturbed(
        self, variants: Sequence[Architecture], *, samples: int
    ) -> tuple[Turns, DeviceError | None]:
        turns, noise = self._in_one_process(variants, samples=samples)
        if noise is not None:
            turns, noise = self._in_one_process(variants, samples=2 * samples)
        return turns, noise

    def _in_one_process(
        self, variants: Sequence[Architecture], *, samples: int
    ) -> tuple[Turns, DeviceError | None]:
        """Return what variants took, and what is wrong where two files of the network differ."""
        with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
            artifacts = self._written(variants, Path(folder))
            began = time.monotonic()
            measured = measure_artifacts(
                list(artifacts.values()),
                platform=self._platform,
                names=list(map(str, artifacts)),
                samples=samples,
                max_s_each=max(_LEAST_S, _S_A_SAMPLE * samples),
                seed=self._seed,
                repeat_disturbed=False,  # a second time in another process is no turn of this one
            )
            self.seconds += time.monotonic() - began
        own_ms = measured[0].median_ms
        latencies = dict(
            zip(artifacts, latencies_in_turns(measured, scale=1 / own_ms), strict=True)
        )
        second = latencies[1]
        low, high = second.interval_ms
        noise = None
        if max(abs(1 - second.median_ms), (high - low) / 2) > _TOO_NOISY:
            noise = DeviceError(
                f"two files of one network differ by {abs(1 - second.median_ms):.1%} "
                f"({low - 1:+.1%} to {high - 1:+.1%}): something disturbs {self._platform.device}",
                allowed=f"{_TOO_NOISY:.0%}",
                hint="stop what else runs there, and try again",
            )
        faster = min(1.0, second.median_ms)  # a slow file of the network makes no change a saving
        turns = Turns(
            own_ms * faster,
            max(abs(1 - low), abs(1 - high)),
            [_over(latencies.get(k + 2), faster) for k in range(len(variants))],
            max(1.0, second.median_ms) / faster,
        )
        return turns, noise

    def _written(self, variants: Sequence[Architecture], folder: Path) -> dict[int, Artifact]:
        """Write the network twice, then variants but those that the runtime cannot hold."""
        found = {}
        for place, one in enumerate([self._network, self._network, *variants]):
            try:
                found[place] = export_untrained(
                    one, platform=self._platform, out=folder / str(place)
                )
            except UnsupportedError:
                if one is self._network:
                    raise
                logger.info("%s cannot hold one of the variants", self._platform.runtime)
        return found

    def costs(self, base_ms: float) -> Costs:
        """Return what layers and nodes take, such that all nodes together take `base_ms`."""
        with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
            artifact = export_untrained(
                self._network, platform=self._platform, out=Path(folder) / "network"
            )
            (nodes,) = node_times([artifact], self._platform)
        scale = base_ms / sum(node.ms for node in nodes)
        scaled = [node._replace(ms=scale * node.ms) for node in nodes]
        plan = graph(self._network)
        times = layer_times(plan, scaled)
        fused = [
            one.name
            for one in plan.layers
            if one.op == "activation" and times.get(one.name) == times.get(one.inputs[0])
        ]
        return Costs({name: ms for name, ms in times.items() if name not in fused}, tuple(scaled))


def _over(ratio: Latency | None, share: float) -> Latency | None:
    """Return a ratio to something that took that share of what it was told over."""
    if ratio is None:
        return None
    low, high = ratio.interval_ms
    return Latency(median_ms=ratio.median_ms / share, interval_ms=(low / share, high / share))


def _parts(variants: Sequence[Architecture]) -> list[Sequence[Architecture]]:
    """Return what is timed together; no variants are one part, for the network is timed as well."""
    starts = range(0, max(1, len(variants)), _TOGETHER)
    return [variants[first : first + _TOGETHER] for first in starts]


def _one_after_the_other(parts: Sequence[Turns]) -> Turns:
    return Turns(
        parts[0].base_ms,
        max(one.noise for one in parts),
        [ratio for one in parts for ratio in one.ratios],
        max(one.slower for one in parts),
    )


def _pooled(processes: Sequence[Turns]) -> Turns:
    """Return what the same variants came to in several processes."""
    return Turns(
        statistics.mean(one.base_ms for one in processes),
        max(one.noise for one in processes),
        [
            _spanning([ratio for ratio in ratios if ratio is not None])
            for ratios in zip(*(one.ratios for one in processes), strict=True)
        ],
        statistics.mean(one.slower for one in processes),
    )


def _spanning(ratios: Sequence[Latency]) -> Latency | None:
    if not ratios:
        return None
    ends = [end for one in ratios for end in one.interval_ms]
    return Latency(
        median_ms=statistics.mean(one.median_ms for one in ratios),
        interval_ms=(min(ends), max(ends)),
    )
