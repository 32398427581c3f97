"""The second stage: measure what would ship, and find each family's largest fit.

Every file is timed in the precision it would ship in. Weights do not matter for time, so the
files carry drawn ones. The knob of a family is found from its cheapest network upwards: time is
nearly linear in multiply-adds within a family, so each look lands closer to the budget.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherweight.architecture import Architecture
from featherweight.fitting.families import Family
from featherweight.fitting.time_plan import SamplePlan
from featherweight.measuring.measurement import Measurement
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate

__all__ = ["Measure", "Shopper", "Stock", "shop"]

logger = logging.getLogger(__name__)

_LOOKS = 4
"""Measurements per family and precision after the cheapest: two to come near, two to confirm."""
CONFIRMATIONS = 1
"""Further processes that measure the guess and its neighbours; the size that is trained is chosen
again right before its training."""
_APPEALS = 2
"""Further processes that measure a family whose cheapest network narrowly misses the budget."""
_NARROW_MISS = 2.0
"""Up to this multiple of the budget a slow moment may explain the miss."""
_LEAP = 6.0
"""Most growth in multiply-adds from one look to the next."""
_HOPELESS = 1.3
"""Times another precision of the same network: one that much slower cannot fit 0.9 of its
multiply-adds, and would not be kept."""

Measure = Callable[[Sequence[tuple[str, Architecture, str]], Path, int], list[Measurement]]
"""(label, architecture, precision) ..., a folder for the files, samples -> one measurement each."""


Point = tuple[Family, str, float]
"""Family, precision and knob value."""


@dataclass(frozen=True)
class Stock:
    """What one shopping trip found.

    Attributes:
        candidates: everything measured, chosen ones with status `kept`.
        nearest_feasible_ms: the cheapest upper bound seen.
    """

    candidates: tuple[Candidate, ...]
    nearest_feasible_ms: float
    nearest_name: str


class Shopper:
    """Measures points of families and remembers them."""

    def __init__(
        self,
        measure: Measure,
        *,
        folder: Path,
        runtime: str,
        samples: SamplePlan,
        stage: str = "shop",
    ) -> None:
        self._measure = measure
        self._folder = folder
        self._runtime = runtime
        self._samples = samples
        self._stage = stage
        self._seen: dict[tuple[str, str, float], list[Measurement]] = {}
        self.points: dict[tuple[str, str, float], Candidate] = {}

    def visit(self, wanted: Sequence[Point]) -> None:
        """Measure the points not yet known, all interleaved in one process."""
        new = [p for p in dict.fromkeys(wanted) if (p[0].name, p[1], p[2]) not in self.points]
        if new:
            self._take(new, self._samples.glance)

    def confirm(self, wanted: Sequence[Point]) -> None:
        """Measure points once more, longer, in a fresh process."""
        self._take(wanted, self._samples.confirm)

    def time_alone(self, wanted: Point) -> float:
        """Measure one point in a process of its own; return the median of that process in ms."""
        self._take([wanted], self._samples.alone)
        family, precision, value = wanted
        return self._seen[family.name, precision, value][-1].median_ms

    def _take(self, wanted: Sequence[Point], samples: int) -> None:
        """Measure points in a fresh process, known or not.

        One file's median moves by up to a third between processes on a shared machine, which no
        interval from one process shows: a point's latency is the median over its processes, and
        its interval spans all of theirs.
        """
        built = [(f.label(value), f.build(value), precision) for f, precision, value in wanted]
        for (family, precision, value), (label, architecture, _), measured in zip(
            wanted, built, self._measure(built, self._folder, samples), strict=True
        ):
            seen = self._seen.setdefault((family.name, precision, value), [])
            seen.append(measured)
            counted = profile(architecture)
            latency_ms = statistics.median(one.median_ms for one in seen)
            self.points[family.name, precision, value] = Candidate(
                name=label,
                architecture_digest=architecture.digest,
                family=family.name,
                width=value if family.knob == "width" else None,
                resolution=architecture.resolution,
                precision=precision,
                runtime=self._runtime,
                params=counted.params,
                macs=counted.macs,
                latency_ms=latency_ms,
                interval_ms=(
                    min(one.interval_ms[0] for one in seen),
                    max(one.interval_ms[1] for one in seen),
                ),
                pretrained=family.source is not None,
                status="rejected",
                reason="measured",
                stage=self._stage,
            )
            logger.info(
                "%s: %s %s %.3f ms%s",
                self._stage,
                label,
                precision,
                measured.median_ms,
                " (disturbed)" if measured.disturbed else "",
            )

    def at(self, family: Family, precision: str, value: float) -> Candidate:
        """Return a measured point."""
        return self.points[family.name, precision, value]

    def target_ms(self, budget_ms: float) -> float:
        """Return the part of the budget that a network may take before its proof."""
        return self._samples.margin * budget_ms

    def fits(self, family: Family, precision: str, value: float, budget_ms: float) -> bool:
        """Whether a point's median keeps the target, and its slower moments nearly do.

        A machine that switches between two speeds may spend the whole proof in the slower one:
        the upper quartile of all runs must stay within the middle between target and budget.
        """
        seen = self._seen[family.name, precision, value]
        median_ms = statistics.median(one.median_ms for one in seen)
        slow_ms = float(np.quantile([ms for one in seen for ms in one.samples_ms], 0.75))
        target_ms = self.target_ms(budget_ms)
        return median_ms <= target_ms and slow_ms <= (target_ms + budget_ms) / 2


def shop(
    stalls: Sequence[Family],
    *,
    precisions: Sequence[str],
    budget_ms: float,
    shopper: Shopper,
    is_over: Callable[[], bool] = lambda: False,
    confirmations: int = CONFIRMATIONS,
) -> Stock:
    """Find for every family and precision the dearest network within the budget.

    Of two precisions of one family the one that fits more multiply-adds is kept (the other
    too when it comes within 10 %); a budget below everything ends with no kept candidate.

    Args:
        stalls: the networks and their sizes.
        precisions: what may ship.
        budget_ms: the budget.
        shopper: measures.
        is_over: asked before every look but the first two: whether the time for it is gone.
        confirmations: fresh processes that time the last guesses and their neighbours.
    """
    pairs = [(family, precision) for family in stalls for precision in precisions]
    shopper.visit([(f, p, f.values[0]) for f, p in pairs])
    served = {f.name for f, p in pairs if _median(_cheapest(f, p, shopper)) <= budget_ms}
    near = [
        (family, precision)
        for family, precision in pairs
        if family.name not in served
        and _misses_narrowly(_cheapest(family, precision, shopper), budget_ms)
    ]
    for _ in range(_APPEALS if near else 0):  # one slow moment must not lose a family
        shopper.confirm([(f, p, f.values[0]) for f, p in near])
    feasible = [pair for pair in pairs if _median(_cheapest(*pair, shopper)) <= budget_ms]
    feasible = _promising(feasible, shopper)
    if feasible:
        _narrow(
            feasible, budget_ms=budget_ms, shopper=shopper, is_over=is_over,
            confirmations=confirmations,
        )  # fmt: skip
    best = {(f.name, p): _largest(f, p, budget_ms=budget_ms, shopper=shopper) for f, p in feasible}
    chosen: dict[tuple[str, str], str] = {}
    for family in stalls:
        for precision, reason in _keep(family, precisions, best):
            chosen[family.name, precision] = reason
    listed = []
    for (name, precision, _), point in shopper.points.items():
        winner = best.get((name, precision))
        if winner is point and (name, precision) in chosen:
            listed.append(
                point.model_copy(update={"status": "kept", "reason": chosen[name, precision]})
            )
        else:
            reason = _why_not(point, winner, budget_ms, target_ms=shopper.target_ms(budget_ms))
            listed.append(point.model_copy(update={"reason": reason}))
    cheapest = min(shopper.points.values(), key=_upper)
    return Stock(tuple(listed), _upper(cheapest), f"{cheapest.name} {cheapest.precision}")


def _cheapest(family: Family, precision: str, shopper: Shopper) -> Candidate:
    return shopper.at(family, precision, family.values[0])


def _misses_narrowly(point: Candidate, budget_ms: float) -> bool:
    return budget_ms < _median(point) <= _NARROW_MISS * budget_ms


def _promising(
    feasible: Sequence[tuple[Family, str]], shopper: Shopper
) -> list[tuple[Family, str]]:
    """Leave out a precision that is far slower than another one of the same network."""
    fastest: dict[str, float] = {}
    for family, precision in feasible:
        ms = _median(_cheapest(family, precision, shopper))
        fastest[family.name] = min(ms, fastest.get(family.name, ms))
    return [
        (family, precision)
        for family, precision in feasible
        if _median(_cheapest(family, precision, shopper)) <= _HOPELESS * fastest[family.name]
    ]


def _narrow(
    feasible: Sequence[tuple[Family, str]],
    *,
    budget_ms: float,
    shopper: Shopper,
    is_over: Callable[[], bool],
    confirmations: int,
) -> None:
    """Measure where the budget should fall until no guess is new, then confirm around it."""
    for look in range(_LOOKS):
        if look > 0 and is_over():
            return
        known = len(shopper.points)
        shopper.visit(
            [(f, p, _guess(f, p, budget_ms=budget_ms, shopper=shopper)) for f, p in feasible]
        )
        if len(shopper.points) == known:
            break
    around = [
        (family, precision, value)
        for family, precision in feasible
        for value in _neighbours(
            family, _guess(family, precision, budget_ms=budget_ms, shopper=shopper)
        )
    ]
    for _ in range(confirmations):
        if is_over():
            return
        shopper.confirm(around)


def _neighbours(family: Family, value: float) -> list[float]:
    """Return a knob value with the next below and above."""
    position = family.values.index(value)
    return list(family.values[max(0, position - 1) : position + 2])


def _guess(family: Family, precision: str, *, budget_ms: float, shopper: Shopper) -> float:
    """Return the knob value whose time should just fit, linear in multiply-adds.

    Between a measured point that fits and one that does not, interpolate; above all measured
    points, extrapolate, but not beyond `_LEAP` times the work of the dearest.
    """
    target = shopper.target_ms(budget_ms)
    known = sorted(
        (float(point.macs or 0), point.latency_ms or 0.0, value)
        for (name, kind, value), point in shopper.points.items()
        if name == family.name and kind == precision
    )
    below = [point for point in known if point[1] <= target]
    above = [point for point in known if point[1] > target]
    if not below:
        return known[0][2]
    low = below[-1]
    high = above[0] if above else (below[-2] if len(below) > 1 else (0.0, 0.0, 0.0))
    slope = (low[1] - high[1]) / (low[0] - high[0]) if low[0] != high[0] else 0.0
    macs = low[0] + (target - low[1]) / slope if slope > 0 else _LEAP * low[0]
    macs = min(macs, above[0][0] if above else _LEAP * low[0])
    ceiling = above[0][2] if above else float("inf")
    between = [v for v in family.values if low[2] < v < ceiling]
    if not between:
        return low[2]
    fitting = [v for v in between if (profile(family.build(v)).macs or 0) <= macs]
    return fitting[-1] if fitting else between[0]


def _largest(family: Family, precision: str, *, budget_ms: float, shopper: Shopper) -> Candidate:
    points = [
        point
        for (name, kind, _), point in shopper.points.items()
        if name == family.name and kind == precision
    ]
    within = [p for p in points if _median(p) <= shopper.target_ms(budget_ms)]
    if not within:  # only the cheapest point fits, with less than the margin
        within = [min(points, key=_median)]
    return max(within, key=lambda point: point.macs or 0)


def _keep(
    family: Family, precisions: Sequence[str], best: dict[tuple[str, str], Candidate]
) -> list[tuple[str, str]]:
    found = [(best[family.name, p].macs or 0, p) for p in precisions if (family.name, p) in best]
    if not found:
        return []
    top, precision = max(found)
    kept = [(precision, f"largest of {family.name} within the budget")]
    for macs, other in found:
        if other != precision and macs >= 0.9 * top:
            kept.append((other, f"{other} fits nearly as much of {family.name}"))
    return kept


def _why_not(
    point: Candidate, winner: Candidate | None, budget_ms: float, *, target_ms: float
) -> str:
    if _median(point) > budget_ms:
        return f"{_median(point):.3f} ms is over the budget"
    if _median(point) > target_ms:
        return f"{_median(point):.3f} ms leaves no margin for the proof"
    if winner is not None and winner is not point and (winner.macs or 0) > (point.macs or 0):
        return f"{winner.name} does more within the budget"
    return "the other precision fits a larger network"


def _median(point: Candidate) -> float:
    return point.latency_ms if point.latency_ms is not None else float("inf")


def _upper(point: Candidate) -> float:
    return point.interval_ms[1] if point.interval_ms else float("inf")
