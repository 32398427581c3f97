"""The first networks of a search: even draws that are timed as they ship, before any trial."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import numpy as np

from featherweight.budget import Latency
from featherweight.errors import UnsupportedError, UsageError
from featherweight.fitting.candidate import Candidate
from featherweight.fitting.context import FitContext
from featherweight.fitting.family import Family
from featherweight.measuring.bench import Bench
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import Record
from featherweight.searching.features import PointFeatures
from featherweight.searching.sampler import Fate, NoNetworkLeft, allowed_point
from featherweight.searching.space import Point, Space, mutated, random_point
from featherweight.searching.speeds import LEAST_TIMED, Foretold, foretell_speeds

__all__ = ["FastDraws", "Speeds", "candidate_of", "time_first_networks"]

logger = logging.getLogger(__name__)

_FIRST_TIMED, _FEWEST_TIMED = 48, 12
"""Networks that are timed before the first trial; in a short search fewer."""
_S_PER_TIMED, _TIMED_SHARE = 0.8, 0.2
"""Seconds that a network takes to be written and timed, and the share of the time for them."""
_FASTEST_DRAWS, _FASTEST_STEPS = 300, 300
_FASTEST_TIMED = 4
_DRAWN_FROM, _CHANGES = 64, 4
"""Fast networks that others are drawn from, and in how many choices they are changed."""


class Speeds(Record):
    """Networks that were timed before the first trial, as they ship.

    Attributes:
        points: of the space.
        latencies: of each.
        fits: whether each is fast enough.
    """

    points: tuple[Point, ...]
    latencies: tuple[Latency, ...]
    fits: tuple[bool, ...]

    @property
    def timed(self) -> dict[Point, float]:
        """Milliseconds by point."""
        return {
            point: latency.median_ms
            for point, latency in zip(self.points, self.latencies, strict=True)
        }

    @property
    def nearest_ms(self) -> float:
        """Upper end of the interval of the fastest one."""
        return min(latency.interval_ms[1] for latency in self.latencies)


def candidate_of(space: Space, point: Point, *, precision: str) -> Candidate:
    """Return the network of a point as a candidate of one size."""
    drawn = space.decode(point)
    name = f"{space.name}:network={drawn.digest[:8]},resolution={drawn.resolution}"
    named = drawn.changed(name=name)
    family = Family(
        name=name,
        axis="resolution",
        sizes=(float(drawn.resolution),),
        build=lambda _: named,
        source=None,
        preprocessing=Preprocessing(),
        weights_of=space.name,
    )
    return Candidate(family, float(drawn.resolution), precision)


def time_first_networks(context: FitContext, space: Space, *, features: PointFeatures) -> Speeds:
    """Time even draws of a space, and where none is fast enough the fastest there may be: a stage.

    Args:
        context: of the search.
        space: of the networks.
        features: of the space.
    """
    bench = context.bench("first networks")
    generator = np.random.default_rng((context.seed, 2**32))

    def work() -> Speeds:
        points: dict[str, Point] = {}
        count = _count_of_first(context.plan.total_s)
        for _ in range(20 * count):
            point = random_point(space, generator)
            points.setdefault(space.key(point), point)
            if len(points) == count:
                break
        if len(points) < 2:
            raise UsageError(
                f"all draws of {space.name} are one network", allowed="a space of two or more"
            )
        found = _timed(context, bench, space, list(points.values()))
        if len(found.points) < min(len(points), LEAST_TIMED):
            raise UnsupportedError(
                f"{len(found.points)} of {len(points)} networks of {space.name} can run on "
                f"{context.settings.platform}",
                allowed=f"{LEAST_TIMED} or more, so that the others can be foretold",
            )
        if any(found.fits):
            return found
        fastest = _fastest(space, foretell_speeds(features, found.timed), generator)
        more = _timed(context, bench, space, [one for one in fastest if one not in found.points])
        return Speeds(
            points=found.points + more.points,
            latencies=found.latencies + more.latencies,
            fits=found.fits + more.fits,
        )

    return context.run.stage("first-networks", inputs={}, outputs=Speeds, work=work)


def _count_of_first(total_s: float | None) -> int:
    if total_s is None:
        return _FIRST_TIMED
    return max(_FEWEST_TIMED, min(_FIRST_TIMED, int(_TIMED_SHARE * total_s / _S_PER_TIMED)))


class FastDraws:
    """Draws networks that are foretold to be fast enough: some, changed a few times.

    Args:
        space: of the networks.
        features: of the space.
        speeds: what was timed before.
        most_ms: of what is drawn; `None` = any network.
        seed: of the first ones.
    """

    def __init__(
        self,
        space: Space,
        features: PointFeatures,
        speeds: Speeds,
        *,
        most_ms: float | None,
        seed: int,
    ) -> None:
        self._space, self._most_ms, self._speeds = space, most_ms, speeds
        self._foretold = foretell_speeds(features, speeds.timed)
        self._seed = seed

    def __call__(self, generator: np.random.Generator) -> Point:
        """Return a network."""
        point = self._first[int(generator.integers(len(self._first)))]
        for _ in range(_CHANGES):
            other = mutated(self._space, point, generator)
            point = other if self._fits(other) else point
        return point

    @functools.cached_property
    def _first(self) -> list[Point]:
        """Return what others are drawn from; where draws are too slow, what was timed as fast."""
        generator = np.random.default_rng((self._seed, 2**33))
        try:
            return [self._fast(generator) for _ in range(_DRAWN_FROM)]
        except NoNetworkLeft:
            pairs = zip(self._speeds.points, self._speeds.fits, strict=True)
            return [point for point, fits in pairs if fits]

    def _fits(self, point: Point) -> bool:
        return self._most_ms is None or self._foretold(point) <= self._most_ms

    def _fast(self, generator: np.random.Generator) -> Point:
        def even() -> Point:
            return random_point(self._space, generator)

        def judge(point: Point) -> Fate:
            return "new" if self._fits(point) else "slow"

        return allowed_point(self._space, even, judge=judge, generator=generator).point


def _timed(
    context: FitContext, bench: Bench[Candidate], space: Space, points: Sequence[Point]
) -> Speeds:
    precision = context.settings.precisions[0]
    drawn = {candidate_of(space, point, precision=precision): point for point in points}
    refused = bench.measure_each(list(drawn))
    candidates = [one for one in drawn if one not in refused]
    return Speeds(
        points=tuple(drawn[one] for one in candidates),
        latencies=tuple(bench.latency(one) for one in candidates),
        fits=tuple(bench.fits(one, context.settings.latency_ms) for one in candidates),
    )


def _fastest(space: Space, foretold: Foretold, generator: np.random.Generator) -> list[Point]:
    """Return points that a forecast takes for the fastest: changed one choice at a time."""
    drawn = [random_point(space, generator) for _ in range(_FASTEST_DRAWS)]
    best = sorted(dict.fromkeys(drawn), key=foretold)[:_FASTEST_TIMED]
    for place in range(len(best)):
        for _ in range(_FASTEST_STEPS):
            other = mutated(space, best[place], generator)
            if foretold(other) < foretold(best[place]):
                best[place] = other
    return list(dict.fromkeys(best))
