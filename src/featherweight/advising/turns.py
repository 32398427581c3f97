"""Variants that take turns with the network they are of, and what its layers cost in its file."""

from __future__ import annotations

import tempfile
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
from featherweight.measuring.measurement import COPIES_DIFFER, latencies_in_turns

__all__ = ["Costs", "Turns", "TurnsTimer"]

_MOST_S_EACH = 6.0
_TOO_NOISY = 0.03
"""Two files of one network may not lie further apart than that, nor be known less well."""
_TOGETHER = 12
"""Variants that take turns in one process: all their files are held at once."""


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

    @property
    def least(self) -> float:
        """Share that a change must save to be told from two files of one network."""
        return max(COPIES_DIFFER, self.noise)

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
        """That networks ran while they were timed, without warming up, writing and loading."""

    def time(
        self, variants: Sequence[Architecture], *, samples: int, is_glance: bool = False
    ) -> Turns:
        """Let variants take turns with the network, twelve in one fresh process.

        Args:
            variants: of the network.
            samples: of each; twice as many are taken once where the machine is disturbed.
            is_glance: whether what comes out is measured again: any noise will do.

        Raises:
            DeviceError: two files of the network itself differ too much.
        """
        found = []
        for first in range(0, max(1, len(variants)), _TOGETHER):
            part = variants[first : first + _TOGETHER]
            turns, noise = self._in_one_process(part, samples=samples)
            if noise is not None and not is_glance:
                turns, noise = self._in_one_process(part, samples=2 * samples)
                if noise is not None:
                    raise noise
            found.append(turns)
        return Turns(
            found[0].base_ms,
            max(one.noise for one in found),
            [ratio for one in found for ratio in one.ratios],
        )

    def _in_one_process(
        self, variants: Sequence[Architecture], *, samples: int
    ) -> tuple[Turns, DeviceError | None]:
        """Return what variants took, and what is wrong where two files of the network differ."""
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
        self.seconds += sum(
            1e-3 * one.runs_per_sample * sum(one.samples_ms) for one in measured.values()
        )
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
        noise = None
        if max(abs(1 - latencies[1].median_ms), (high - low) / 2) > _TOO_NOISY:
            noise = DeviceError(
                f"two files of one network differ by {abs(1 - latencies[1].median_ms):.1%} "
                f"({low - 1:+.1%} to {high - 1:+.1%}): something disturbs {self._platform.device}",
                allowed=f"{_TOO_NOISY:.0%}",
                hint="stop what else runs there, and try again",
            )
        turns = Turns(
            base_ms,
            max(abs(1 - low), abs(1 - high)),
            [latencies.get(k + 2) for k in range(len(variants))],
        )
        return turns, noise

    def _note_refused(self, one: Untrained, refusal: UnsupportedError) -> None:
        """Leave a variant out that the runtime cannot hold; the network itself must be held."""
        if one.architecture is self._network:
            raise refusal

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
