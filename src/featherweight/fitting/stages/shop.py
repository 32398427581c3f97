"""The second stage: measure what would ship, and find each network's largest size that fits.

Every file is timed in the precision it would ship in. Weights do not matter for time, so the
files carry some as drawn. The size of a network is found from its cheapest upwards: time is nearly
linear in multiply-adds within a family, so each look lands closer to the budget.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featherweight.errors import UnsupportedError
from featherweight.fitting.candidate import Candidate, Measured, MeasuredRecord
from featherweight.fitting.context import FitContext
from featherweight.fitting.family import Family
from featherweight.fitting.policy import ShopPolicy
from featherweight.measuring.bench import Bench
from featherweight.records import Record

__all__ = ["Rejected", "ShopResult", "find_fitting", "note_shopped", "shop"]


@dataclass(frozen=True)
class Rejected:
    """A candidate that was measured and is not kept, with the reason in one sentence."""

    measured: Measured
    reason: str


@dataclass(frozen=True)
class ShopResult:
    """What was found.

    Attributes:
        kept: what may be trained, each with why it is kept.
        rejected: everything else that was measured.
        nearest_feasible_ms: the cheapest upper bound seen.
    """

    kept: tuple[tuple[Measured, str], ...]
    rejected: tuple[Rejected, ...]
    nearest_feasible_ms: float


class _ShopRecord(Record):
    kept: tuple[MeasuredRecord, ...]
    nearest_feasible_ms: float
    process_s: float


def shop(context: FitContext, families: Sequence[Family]) -> tuple[list[Measured], float]:
    """Measure what may be trained; return the candidates and the nearest feasible ms."""
    settings, plan, ending = context.settings, context.plan, context.ending

    def work() -> _ShopRecord:
        started = time.monotonic()
        process_s: list[float] = []

        def note(seconds: float) -> None:
            process_s.append(seconds)
            context.moments.take()

        sized_alone = all(family.axis == "resolution" for family in families)
        found = find_fitting(
            families,
            precisions=settings.precisions,
            budget_ms=settings.latency_ms,
            bench=context.bench("shop", note=note),
            policy=context.policy.shop,
            is_over=lambda: plan.shop_s is not None and time.monotonic() - started > plan.shop_s,
            # The one that trains gets its size chosen again, alone in a process.
            confirms=plan.races or not sized_alone,
        )
        note_shopped(context, found)
        return _ShopRecord(
            kept=tuple(MeasuredRecord.of(one) for one, _ in found.kept),
            nearest_feasible_ms=found.nearest_feasible_ms,
            # All of it may have been measured before a cut.
            process_s=statistics.median(process_s or [ending.process_s]),
        )

    record = context.run.stage(
        "shop",
        inputs={
            "families": [family.name for family in families],
            "fit": settings.model_dump(mode="json", exclude={"data", "device"}),
        },
        outputs=_ShopRecord,
        work=work,
    )
    ending.process_s = record.process_s
    return [one.read(families) for one in record.kept], record.nearest_feasible_ms


def note_shopped(context: FitContext, found: ShopResult) -> None:
    """Write down everything that was measured, and why it goes on or not."""
    for measured, reason in found.kept:
        context.ledger.note(measured, status="kept", reason=reason, stage="shop")
    for one in found.rejected:
        context.ledger.note(one.measured, status="rejected", reason=one.reason, stage="shop")


def find_fitting(
    families: Sequence[Family],
    *,
    precisions: Sequence[str],
    budget_ms: float,
    bench: Bench[Candidate],
    policy: ShopPolicy,
    is_over: Callable[[], bool] = lambda: False,
    confirms: bool = True,
) -> ShopResult:
    """Find for every family and precision the dearest network within the budget.

    Of two precisions of one family the one that fits more multiply-adds is kept (the other
    too when it comes within 10 %); a budget below everything ends with no kept candidate.

    Args:
        families: the networks and their sizes.
        precisions: what may ship.
        budget_ms: the budget.
        bench: measures.
        policy: what is decided by.
        is_over: asked before every look but the first two: whether the time for it is gone.
        confirms: whether fresh processes time the last guesses and their neighbours.
    """
    search = _Search(families, precisions, budget_ms=budget_ms, bench=bench, policy=policy)
    search.look_at_the_cheapest()
    search.narrow(is_over=is_over, confirmations=policy.confirmations if confirms else 0)
    return search.result()


class _Search:
    """Looks for the largest sizes that fit, each of a family in a precision."""

    def __init__(
        self,
        families: Sequence[Family],
        precisions: Sequence[str],
        *,
        budget_ms: float,
        bench: Bench[Candidate],
        policy: ShopPolicy,
    ) -> None:
        self._families, self._precisions = families, precisions
        self._budget_ms, self._target_ms = budget_ms, bench.target_ms(budget_ms)
        self._bench, self._policy = bench, policy
        self._cheapest = [
            Candidate(family, family.sizes[0], precision)
            for family in families
            for precision in precisions
        ]
        self._promising: list[Candidate] = []

    def look_at_the_cheapest(self) -> None:
        """Measure the cheapest size of everything; one slow moment must not lose a family.

        What the runtime cannot hold in a precision is left out.

        Raises:
            UnsupportedError: it can hold nothing.
        """
        refused = self._bench.measure_each(self._cheapest)
        self._cheapest = [one for one in self._cheapest if one not in refused]
        if not self._cheapest:
            raise UnsupportedError(next(iter(refused.values())))
        served = {one.family.name for one in self._cheapest if self._ms(one) <= self._budget_ms}
        near = [
            one
            for one in self._cheapest
            if one.family.name not in served
            and self._budget_ms < self._ms(one) <= self._policy.narrow_miss * self._budget_ms
        ]
        for _ in range(self._policy.appeals if near else 0):
            self._bench.remeasure(near)
        self._promising = self._choose_promising()

    def narrow(self, *, is_over: Callable[[], bool], confirmations: int) -> None:
        """Measure where the budget should fall until no guess is new, then confirm around it."""
        if not self._promising:
            return
        for look in range(self._policy.looks):
            if look > 0 and is_over():
                return
            known = len(self._bench.known)
            self._bench.measure([self._guess(one) for one in self._promising])
            if len(self._bench.known) == known:
                break
        around = [near for one in self._promising for near in _with_neighbours(self._guess(one))]
        for _ in range(confirmations):
            if is_over():
                return
            self._bench.remeasure(around)

    def result(self) -> ShopResult:
        """Return what is kept, and why not the others."""
        best = {(one.family.name, one.precision): self._largest(one) for one in self._promising}
        kept = {
            chosen: reason
            for family in self._families
            for chosen, reason in self._keep(family, best)
        }
        rejected = []
        for point in self._bench.known:
            if point not in kept:
                winner = best.get((point.family.name, point.precision))
                rejected.append(Rejected(self._measured(point), self._why_not(point, winner)))
        nearest = min(self._bench.known, key=self._upper_ms)
        return ShopResult(
            kept=tuple(
                (self._measured(point), kept[point]) for point in self._bench.known if point in kept
            ),
            rejected=tuple(rejected),
            nearest_feasible_ms=self._upper_ms(nearest),
        )

    def _ms(self, one: Candidate) -> float:
        return self._bench.latency(one).median_ms

    def _upper_ms(self, one: Candidate) -> float:
        return self._bench.latency(one).interval_ms[1]

    def _measured(self, one: Candidate) -> Measured:
        return Measured(one, self._bench.latency(one))

    def _choose_promising(self) -> list[Candidate]:
        """Return the cheapest of all that fits, without precisions far slower than the other."""
        feasible = [one for one in self._cheapest if self._ms(one) <= self._budget_ms]
        fastest: dict[str, float] = {}
        for one in feasible:
            ms = self._ms(one)
            fastest[one.family.name] = min(ms, fastest.get(one.family.name, ms))
        return [
            one
            for one in feasible
            if self._ms(one) <= self._policy.hopeless * fastest[one.family.name]
        ]

    def _points(self, like: Candidate) -> list[Candidate]:
        """Return everything measured of the same family in the same precision."""
        return [
            point
            for point in self._bench.known
            if (point.family.name, point.precision) == (like.family.name, like.precision)
        ]

    def _guess(self, like: Candidate) -> Candidate:
        """Return the size whose time should just fit, linear in multiply-adds.

        Between a measured point that fits and one that does not, interpolate; above all measured
        points, extrapolate, but not beyond a leap from the work of the dearest.
        """
        target = self._target_ms
        known = sorted(
            (float(point.macs), self._ms(point), point.size) for point in self._points(like)
        )
        below = [point for point in known if point[1] <= target]
        above = [point for point in known if point[1] > target]
        if not below:
            return like.at(known[0][2])
        low = below[-1]
        high = above[0] if above else (below[-2] if len(below) > 1 else (0.0, 0.0, 0.0))
        slope = (low[1] - high[1]) / (low[0] - high[0]) if low[0] != high[0] else 0.0
        leap = self._policy.leap * low[0]
        macs = low[0] + (target - low[1]) / slope if slope > 0 else leap
        macs = min(macs, above[0][0] if above else leap)
        most = above[0][2] if above else float("inf")
        between = [like.at(size) for size in like.family.sizes if low[2] < size < most]
        if not between:
            return like.at(low[2])
        fitting = [one for one in between if one.macs <= macs]
        return fitting[-1] if fitting else between[0]

    def _largest(self, like: Candidate) -> Candidate:
        points = self._points(like)
        within = [point for point in points if self._ms(point) <= self._target_ms]
        if not within:  # only the cheapest point fits, with less than the margin
            within = [min(points, key=self._ms)]
        return max(within, key=lambda point: point.macs)

    def _keep(
        self, family: Family, best: dict[tuple[str, str], Candidate]
    ) -> list[tuple[Candidate, str]]:
        found = [
            best[family.name, precision]
            for precision in self._precisions
            if (family.name, precision) in best
        ]
        if not found:
            return []
        top = max(found, key=lambda one: (one.macs, one.precision))
        kept = [(top, f"largest of {family.name} within the budget")]
        for other in found:
            if other is not top and other.macs >= self._policy.kept_share * top.macs:
                kept.append((other, f"{other.precision} fits nearly as much of {family.name}"))
        return kept

    def _why_not(self, point: Candidate, winner: Candidate | None) -> str:
        ms = self._ms(point)
        if ms > self._budget_ms:
            return f"{ms:.3f} ms is over the budget"
        if ms > self._target_ms:
            return f"{ms:.3f} ms leaves no margin for the proof"
        if winner is not None and winner != point and winner.macs > point.macs:
            return f"{winner.label} does more within the budget"
        return "the other precision fits a larger network"


def _with_neighbours(one: Candidate) -> list[Candidate]:
    """Return a candidate with the next size below and above."""
    position = one.family.sizes.index(one.size)
    return [one.at(size) for size in one.family.sizes[max(0, position - 1) : position + 2]]
