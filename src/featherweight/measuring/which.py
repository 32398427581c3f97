"""Which networks of the zoo fit a device and a budget: `models --on PLATFORM --latency 5ms`.

No data and no training: every network, width and resolution whose ImageNet accuracy somebody
published is a point. Times are predicted from the table of `device calibrate`, or without one
within a family, linear in multiply-adds, from points of that family that were measured. What may
matter is measured: points that may fit and that nothing measured beats in accuracy and time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.exporting.platforms import Platform, offered_precisions, parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.table import find_table, predict_latency
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile
from featherweight.records import Record
from featherweight.registry import unknown_name
from featherweight.zoo.model import MODELS, published_variants
from featherweight.zoo.published import Published

__all__ = ["Fitting", "which_networks"]

logger = logging.getLogger(__name__)

_ROUND = 6
"""Networks measured together."""
_REACH = 1.25
"""Multiple of the budget up to which a predicted time may still turn out to fit."""
_CLEARLY = 0.9
"""A measured time below this share of a predicted one counts as faster."""
_GLANCE, _LONG = 25, 100
"""Samples of a network while looking, and of one that is near the budget or ships."""
_NEAR = 0.85
"""Share of the budget from which a network is measured once more, longer, in a fresh process."""

Measure = Callable[[Sequence[tuple[str, Architecture]], Platform, int], list[Measurement | None]]
"""(name, architecture) ..., platform, samples -> one each; `None` = the runtime cannot hold it."""


class Fitting(Record):
    """One network on one platform.

    Attributes:
        network: its text form.
        platform: text form, with threads and precision.
        top1: published ImageNet accuracy of the float32 network, in [0, 1].
        source: where that is printed.
        params, macs: counted.
        predicted_ms: from the platform's table, else from other sizes of its family; `None` =
            nothing was predicted.
        median_ms, interval_ms: measured; `None` = not measured.
        fits: whether it was measured and the upper end of the interval is within the budget.
        best: whether nothing that was measured is both as accurate and faster.
    """

    network: str
    platform: str
    top1: float
    source: str
    params: int
    macs: int
    predicted_ms: float | None = None
    median_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    fits: bool = False
    best: bool = False


@dataclass(frozen=True)
class _Point:
    name: str
    family: str
    architecture: Architecture
    published: Published
    params: int
    macs: int

    @property
    def top1(self) -> float:
        assert self.published.top1 is not None
        return self.published.top1


def which_networks(
    on: Sequence[str], *, latency_ms: float, pattern: str = "", time_s: float = 180.0
) -> list[Fitting]:
    """Measure which published networks fit a budget; the most accurate first.

    Args:
        on: platforms in text form; without a precision fp32 and int8 are both tried.
        latency_ms: the budget.
        pattern: only networks whose name contains it.
        time_s: no further network is measured after this time.

    Returns:
        everything that was measured, and what was predicted to be too slow; what fits first.

    Raises:
        UsageError: an unknown platform, or no network of that name with a published accuracy.
        DeviceError: the device could not measure.
    """
    points = _points(pattern)
    deadline = time.monotonic() + time_s
    platforms = [
        platform.with_precision(precision)
        for text in on
        for platform in [parse_platform(text)]
        for precision in offered_precisions(platform, text)
    ]
    found: list[Fitting] = []
    for position, platform in enumerate(platforms):
        share_s = (deadline - time.monotonic()) / (len(platforms) - position)
        found += _Hunt(
            points,
            platform,
            latency_ms,
            measure=_measure,
            time_s=share_s,
            predicted=_from_table(points, platform),
        ).run()
    return sorted(found, key=lambda one: (not one.fits, -one.top1, one.median_ms or math.inf))


def _points(pattern: str) -> list[_Point]:
    points = []
    for name in MODELS:
        if pattern not in name:
            continue
        for text, published in published_variants(name):
            if published.top1 is None:
                continue
            architecture = resolve_architecture(text)
            counted = profile(architecture)
            points.append(
                _Point(text, name, architecture, published, counted.params or 0, counted.macs or 0)
            )
    if not points:
        raise unknown_name("network with a published accuracy", pattern, MODELS)
    return points


def _from_table(points: Sequence[_Point], platform: Platform) -> dict[str, float]:
    """Return what the platform's table predicts; nothing where it was never calibrated."""
    try:
        table = find_table(platform)
    except UsageError as stale:  # everything that is told is measured anyway
        logger.warning("%s", stale)
        return {}
    if table is None:
        return {}
    found = predict_latency([point.architecture for point in points], table=table)
    return {point.name: one.median_ms for point, one in zip(points, found, strict=True)}


class _Hunt:
    """Looks for the best points on one platform."""

    def __init__(
        self,
        points: Sequence[_Point],
        platform: Platform,
        budget_ms: float,
        *,
        measure: Measure,
        time_s: float,
        predicted: Mapping[str, float] | None = None,
    ) -> None:
        self._predicted = predicted or {}
        self._points = points
        self._platform = platform
        self._budget_ms = budget_ms
        self._measure = measure
        self._deadline = time.monotonic() + time_s
        self._measured: dict[str, Measurement] = {}
        self._impossible: set[str] = set()

    def run(self) -> list[Fitting]:
        """Measure what may matter until nothing does.

        Where nothing is predicted, one size of every family is measured first.
        """
        if not self._predicted:
            anchors: dict[str, _Point] = {}
            for point in sorted(self._points, key=lambda one: one.macs):
                anchors.setdefault(point.family, point)
            self._take(list(anchors.values()), _GLANCE)
        while time.monotonic() < self._deadline:
            wanted = self._worth_measuring()[:_ROUND]
            if not wanted:
                break
            self._take(wanted, _GLANCE)
        near = [
            point
            for point in self._points
            if point.name in self._measured
            and self._ms(point) >= _NEAR * self._budget_ms
            and self._measured[point.name].interval_ms[0] <= self._budget_ms
        ]
        if near:
            self._take(near, _LONG)
        return [self._describe(point) for point in self._points if self._is_told(point)]

    def _take(self, points: Sequence[_Point], samples: int) -> None:
        wanted = [(point.name, point.architecture) for point in points]
        for point, measured in zip(
            points, self._measure(wanted, self._platform, samples), strict=True
        ):
            if measured is None:
                self._impossible.add(point.name)
                continue
            self._measured[point.name] = measured
            logger.info("%s on %s: %.3f ms", point.name, self._platform, measured.median_ms)

    def _ms(self, point: _Point) -> float:
        return self._measured[point.name].median_ms

    def _predicted_ms(self, point: _Point) -> float | None:
        """Ask the table, or scale the measured size of the family nearest in multiply-adds."""
        if point.name in self._predicted:
            return self._predicted[point.name]
        known = [
            other
            for other in self._points
            if other.family == point.family and other.name in self._measured and other != point
        ]
        if not known:
            return None
        nearest = min(known, key=lambda other: abs(math.log(other.macs / point.macs)))
        return self._ms(nearest) * point.macs / nearest.macs

    def _worth_measuring(self) -> list[_Point]:
        """Return what may fit and may be the best at its time, the most accurate first."""
        wanted = []
        for point in sorted(self._points, key=lambda one: -one.top1):
            if point.name in self._measured or point.name in self._impossible:
                continue
            predicted_ms = self._predicted_ms(point)
            if predicted_ms is None or predicted_ms > _REACH * self._budget_ms:
                continue
            if not self._is_beaten(point, _CLEARLY * predicted_ms):
                wanted.append(point)
        return wanted

    def _is_beaten(self, point: _Point, ms: float) -> bool:
        """Whether a measured point is as accurate and takes less than `ms`."""
        return any(
            other.top1 >= point.top1 and self._ms(other) < ms
            for other in self._points
            if other is not point and other.name in self._measured
        )

    def _is_told(self, point: _Point) -> bool:
        """Whether a point was measured, or is known to be too slow; the rest is beaten."""
        if point.name in self._impossible:
            return False
        predicted_ms = self._predicted_ms(point)
        too_slow = predicted_ms is not None and predicted_ms > _REACH * self._budget_ms
        return point.name in self._measured or too_slow

    def _describe(self, point: _Point) -> Fitting:
        measured = self._measured.get(point.name)
        return Fitting(
            network=point.name,
            platform=str(self._platform),
            top1=point.top1,
            source=point.published.source,
            params=point.params,
            macs=point.macs,
            predicted_ms=self._predicted_ms(point),
            median_ms=None if measured is None else measured.median_ms,
            interval_ms=None if measured is None else measured.interval_ms,
            fits=measured is not None and measured.interval_ms[1] <= self._budget_ms,
            best=measured is not None and not self._is_beaten(point, measured.median_ms),
        )


def _measure(
    wanted: Sequence[tuple[str, Architecture]], platform: Platform, samples: int
) -> list[Measurement | None]:
    """Time networks in one process; `None` = the runtime cannot hold that one."""
    found = time_untrained(
        [Untrained(name, architecture, platform.precision) for name, architecture in wanted],
        platform=platform,
        samples=samples,
        max_s_each=0.04 * samples,
        repeat_disturbed=False,
        refused=lambda one, refusal: logger.warning("%s on %s: %s", one.label, platform, refusal),
    )
    return [found.get(index) for index in range(len(wanted))]
