"""Choose a network's size once more, right before it counts.

Between shopping and the last training, and again before the proof, the host may have become
faster or slower. A network that is about to be trained from the start, or whose weights run at
any resolution, can still change its size for free.
"""

from __future__ import annotations

import logging
import math
import time as clock
from collections.abc import Callable, Mapping, Sequence

from featherweight.budget import Budget, Latency
from featherweight.fitting.candidate import Candidate, Measured, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.policy import SizePolicy
from featherweight.measuring.bench import Bench
from featherweight.records import Record

__all__ = ["SizeSelector", "choose_shipped_size", "choose_trained_size"]

logger = logging.getLogger(__name__)


class _SizeRecord(Record):
    size: float
    latency: Latency


def choose_trained_size(context: FitContext, winner: Measured) -> Measured:
    """Return the winner of the race at the size that fits now.

    A width, which a training fixes, is compared with its neighbours in several processes. A
    resolution is timed alone: shopping timed it among other files, which on some processors takes
    half as long again. It leaves a little of the budget, for a network is best at the size of its
    training (`stages.refit_head`), and one that just fits would often have to leave it.
    """
    one = winner.candidate
    if len(one.family.sizes) < 2:
        return winner

    def work() -> _SizeRecord:
        selector = _selector(context)
        if one.family.axis == "width":
            found = selector.among_neighbours(one)
        else:
            found = selector.largest_alone(
                one,
                most=min(one.max_size, max(one.family.sizes)),
                share=context.policy.size.trained_share,
                within_s=context.plan.size_s,
            )
        if found.candidate.size != one.size:
            reason = "size chosen again before the last training"
            context.ledger.note(found, status="kept", reason=reason, stage="size")
        return _SizeRecord(size=found.candidate.size, latency=found.latency)

    record = context.run.stage("size", inputs={"winner": one.key}, outputs=_SizeRecord, work=work)
    if record.size == one.size:
        return winner
    chosen = Candidate(one.family, record.size, one.precision, one.max_size)
    return Measured(chosen, record.latency)


def choose_shipped_size(
    context: FitContext, trained: Trained, *, growth: float = 1.0, has_time: bool = True
) -> Measured:
    """Return the size that the trained network should ship at: the largest that fits now.

    Weights on photographs run at any resolution. Hardly a margin is kept: what misses costs one
    measurement, and a smaller size is proven. The size of a width is that of its training.

    Args:
        context: of the fit.
        trained: what should ship.
        growth: largest multiple of the size of its training.
        has_time: whether the proof leaves time for it; without, the size is that of the training,
            and a proof that misses is followed by one of a smaller size.
    """
    one = trained.candidate
    if not one.family.moves:
        return trained.measured

    def work() -> _SizeRecord:
        found = trained.measured
        if has_time:
            found = _selector(context).largest_alone(
                one,
                most=growth * one.size,
                share=context.policy.size.shipped_share,
                within_s=context.plan.size_s,
                from_smaller=True,
            )
        else:
            logger.info("size: %s: no time to look for another size", one.title)
        return _SizeRecord(size=found.candidate.size, latency=found.latency)

    record = context.run.stage(
        "ship-size",
        inputs={"trained": one.key, "phase": str(trained.phase), "growth": growth},
        outputs=_SizeRecord,
        work=work,
    )
    return Measured(one.at(record.size), record.latency)


def _selector(context: FitContext) -> SizeSelector:
    return SizeSelector(
        lambda: context.bench("size"),
        budget=context.budget,
        processes=context.samples.sizing_processes,
        policy=context.policy.size,
    )


class SizeSelector:
    """Finds the largest size of a network that fits the budget now.

    Args:
        open_bench: returns a bench that remembers nothing.
        budget: the budget.
        processes: fresh processes that time every size considered before a training.
        policy: what is decided by.
    """

    def __init__(
        self,
        open_bench: Callable[[], Bench[Candidate]],
        *,
        budget: Budget,
        processes: int,
        policy: SizePolicy,
    ) -> None:
        self._open_bench = open_bench
        self._budget = budget
        self._processes = processes
        self._policy = policy

    def among_neighbours(self, start: Candidate) -> Measured:
        """Return the largest size near a start that fits with a margin.

        Before a training: nothing can be changed afterwards. Where nothing considered fits, the
        smallest of it is returned.
        """
        bench, budget_ms = self._open_bench(), self._budget.latency_ms
        sizes = [start.at(size) for size in start.family.sizes if size <= start.max_size]
        place = sizes.index(start)
        considered: set[int] = set()
        for _ in range(self._policy.moves):
            reach = self._policy.reach
            near = range(max(0, place - reach), min(len(sizes), place + reach + 1))
            new = [index for index in near if index not in considered]
            for _ in range(self._processes if new else 0):
                bench.remeasure([sizes[index] for index in new])
            considered.update(new)
            fitting = [index for index in considered if bench.fits(sizes[index], budget_ms)]
            place = max(fitting, default=min(considered))
            larger_fails = bool(fitting) and place < max(considered)
            if larger_fails or place in (0, len(sizes) - 1):
                break
        chosen = sizes[place]
        _tell(chosen, {sizes[k].size: bench.latency(sizes[k]).median_ms for k in considered})
        return Measured(chosen, bench.latency(chosen))

    def largest_alone(
        self,
        start: Candidate,
        *,
        most: float,
        share: float = 1.0,
        within_s: float | None = None,
        from_smaller: bool = False,
    ) -> Measured:
        """Return the largest size that fits now, timed as a proof times it.

        One file in a process: among others it would lose its place in the caches to them, and
        seem up to a half slower than when it ships. A size that misses is timed twice, or a third
        time where the two differ; other programs only ever add time, so the fastest counts. The
        least size that was timed where none fits.

        Args:
            start: where the search starts.
            most: largest size considered.
            share: of the budget that it may take. Before a proof all of it: a size that only just
                fits costs a proof at worst, and the next smaller one is proven.
            within_s: time after which the largest that was found to fit is taken; `None` = no
                limit. Where none fits yet, the search goes on, one look at each.
            from_smaller: whether the fastest moment of a smaller size counts too: a larger one
                takes at most in proportion to its multiply-adds. Before a proof, which decides.
        """
        started = clock.monotonic()
        bench, target_ms = self._open_bench(), self._budget.share_ms(share)
        sizes = [size for size in start.family.sizes if size <= most]
        size, looks = start.size, dict[float, list[float]]()
        for _ in range(self._policy.alone):
            looks.setdefault(size, []).append(bench.measure_alone(start.at(size)))
            found = {seen: min(ms) for seen, ms in looks.items()}
            at_most_ms = found
            if from_smaller:
                at_most_ms = {one: _at_most_ms(start, found, one) for one in sizes}
            is_over = within_s is not None and clock.monotonic() - started > within_s
            if is_over and min(found.values()) <= target_ms:
                break
            is_open = not is_over and at_most_ms[size] > target_ms
            if is_open and self._may_be_a_moment(looks[size], target_ms=target_ms):
                continue
            step = _next(start, sizes, found, last=size, target_ms=target_ms)
            if step is None:
                break
            size = step
        fitting = [one for one, ms in at_most_ms.items() if ms <= target_ms]
        chosen = start.at(max(fitting, default=min(found)))
        if chosen.size not in found:
            found[chosen.size] = bench.measure_alone(chosen)
        _tell(chosen, found)
        return Measured(chosen, bench.latency(chosen))

    def _may_be_a_moment(self, seen_ms: Sequence[float], *, target_ms: float) -> bool:
        """Whether a size that missed so far is looked at again."""
        if not target_ms < min(seen_ms) < self._policy.second_look * target_ms:
            return False
        steady = max(seen_ms) <= self._policy.unsteady * min(seen_ms)
        return len(seen_ms) < (2 if steady else 3)


def _at_most_ms(start: Candidate, found: Mapping[float, float], size: float) -> float:
    """Return what a size takes in the fastest moment that was seen, at it or at a smaller one."""
    macs = start.at(size).macs
    return min(
        (ms * macs / max(start.at(seen).macs, 1) for seen, ms in found.items() if seen <= size),
        default=math.inf,
    )


def _next(
    start: Candidate,
    sizes: Sequence[float],
    found: Mapping[float, float],
    *,
    last: float,
    target_ms: float,
) -> float | None:
    """Return what to time next; `None` = the largest that fits is known.

    Time grows with the multiply-adds from the size that was timed last.
    """
    low = max((size for size, ms in found.items() if ms <= target_ms), default=None)
    high = min((size for size in found if low is None or size > low), default=None)
    between = [
        size for size in sizes if (low is None or size > low) and (high is None or size < high)
    ]
    if not between:
        return None
    most = start.at(last).macs * target_ms / max(found[last], 1e-9)
    within = [size for size in between if start.at(size).macs <= most]
    return max(within) if within else min(between)


def _tell(chosen: Candidate, found: Mapping[float, float]) -> None:
    logger.info(
        "size: %s (considered %s)",
        chosen.title,
        ", ".join(f"{size:g}: {found[size]:.3f} ms" for size in sorted(found)),
    )
