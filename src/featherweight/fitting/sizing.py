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

from featherweight.fitting.families import Family
from featherweight.fitting.shop import Shopper
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate

__all__ = ["Sizer"]

logger = logging.getLogger(__name__)

_REACH = 2
"""Sizes considered on each side of the present one."""
_MOVES = 3
"""How often the present size may move to the edge of what was considered."""
_ALONE = 9
"""Most processes that time one size each."""
_SECOND_LOOK = 1.6
"""A size that misses by less than this factor is timed again: a moment of the machine can be that
slow."""
_UNSTEADY = 1.1
"""Looks at one size that differ by more than this factor show such moments: a third is taken."""


class Sizer:
    """Finds the largest size of a network that fits the budget now.

    Args:
        open_shopper: returns a shopper that remembers nothing.
        budget_ms: the budget.
        processes: fresh processes that time every size considered before a training.
    """

    def __init__(
        self, open_shopper: Callable[[], Shopper], *, budget_ms: float, processes: int
    ) -> None:
        self._open_shopper = open_shopper
        self._budget_ms = budget_ms
        self._processes = processes

    def size(
        self, family: Family, precision: str, value: float, *, ceiling: float | None = None
    ) -> tuple[float, Candidate]:
        """Return the largest knob value near `value` that fits with a margin, and its measurement.

        Before a training: nothing can be changed afterwards. Where nothing considered fits, the
        smallest of it is returned.

        Args:
            family: whose knob is turned.
            precision: of the file.
            value: where the search starts.
            ceiling: largest value considered; `None` = any.
        """
        shopper = self._open_shopper()
        values = [v for v in family.values if ceiling is None or v <= ceiling]
        place = values.index(value)
        considered: set[int] = set()
        for _ in range(_MOVES):
            reach = range(max(0, place - _REACH), min(len(values), place + _REACH + 1))
            new = [index for index in reach if index not in considered]
            for _ in range(self._processes if new else 0):
                shopper.confirm([(family, precision, values[index]) for index in new])
            considered.update(new)
            fitting = [
                index
                for index in considered
                if shopper.fits(family, precision, values[index], self._budget_ms)
            ]
            place = max(fitting, default=min(considered))
            larger_fails = bool(fitting) and place < max(considered)
            if larger_fails or place in (0, len(values) - 1):
                break
        chosen = shopper.at(family, precision, values[place])
        _tell(chosen, {
            values[k]: shopper.at(family, precision, values[k]).latency_ms or 0.0
            for k in considered
        })  # fmt: skip
        return values[place], chosen

    def largest_alone(
        self,
        family: Family,
        precision: str,
        value: float,
        *,
        ceiling: float,
        share: float = 1.0,
        within_s: float | None = None,
        from_smaller: bool = False,
    ) -> tuple[float, Candidate]:
        """Return the largest knob value that fits now, timed as a proof times it.

        One file in a process: among others it would lose its place in the caches to them, and
        seem up to a half slower than when it ships. A size that misses is timed twice, or a third
        time where the two differ; other programs only ever add time, so the fastest counts. The
        least value that was timed where none fits.

        Args:
            family: whose knob is turned.
            precision: of the file.
            value: where the search starts.
            ceiling: largest value considered.
            share: of the budget that it may take. Before a proof all of it: a size that only just
                fits costs a proof at worst, and the next smaller one is proven.
            within_s: time after which the largest that was found to fit is taken; `None` = no
                limit. Where none fits yet, the search goes on, one look at each.
            from_smaller: whether the fastest moment of a smaller size counts too: a larger one
                takes at most in proportion to its multiply-adds. Before a proof, which decides.
        """
        started = clock.monotonic()
        shopper, budget_ms = self._open_shopper(), share * self._budget_ms
        values = [v for v in family.values if v <= ceiling]
        looks: dict[float, list[float]] = {}
        for _ in range(_ALONE):
            looks.setdefault(value, []).append(shopper.time_alone((family, precision, value)))
            found = {size: min(seen) for size, seen in looks.items()}
            at_most_ms = found
            if from_smaller:
                at_most_ms = {v: _at_most_ms(family, found, v) for v in values}
            is_over = within_s is not None and clock.monotonic() - started > within_s
            if is_over and min(found.values()) <= budget_ms:
                break
            is_open = not is_over and at_most_ms[value] > budget_ms
            if is_open and _may_be_a_moment(looks[value], budget_ms=budget_ms):
                continue
            if (step := _next(family, values, found, last=value, budget_ms=budget_ms)) is None:
                break
            value = step
        fitting = [value for value, ms in at_most_ms.items() if ms <= budget_ms]
        chosen = max(fitting, default=min(found))
        if chosen not in found:
            found[chosen] = shopper.time_alone((family, precision, chosen))
        candidate = shopper.at(family, precision, chosen)
        _tell(candidate, found)
        return chosen, candidate


def _at_most_ms(family: Family, found: Mapping[float, float], value: float) -> float:
    """Return what a size takes in the fastest moment that was seen, at it or at a smaller one."""
    macs = profile(family.build(value)).macs or 0
    return min(
        (ms * macs / (profile(family.build(v)).macs or 1) for v, ms in found.items() if v <= value),
        default=math.inf,
    )


def _may_be_a_moment(seen_ms: Sequence[float], *, budget_ms: float) -> bool:
    """Whether a size that missed so far is looked at again."""
    if not budget_ms < min(seen_ms) < _SECOND_LOOK * budget_ms:
        return False
    steady = max(seen_ms) <= _UNSTEADY * min(seen_ms)
    return len(seen_ms) < (2 if steady else 3)


def _next(
    family: Family,
    values: Sequence[float],
    found: Mapping[float, float],
    *,
    last: float,
    budget_ms: float,
) -> float | None:
    """Return what to time next; `None` = the largest that fits is known.

    Time grows with the multiply-adds from the size that was timed last.
    """
    low = max((v for v, ms in found.items() if ms <= budget_ms), default=None)
    high = min((v for v in found if low is None or v > low), default=None)
    between = [v for v in values if (low is None or v > low) and (high is None or v < high)]
    if not between:
        return None
    most = (profile(family.build(last)).macs or 0) * budget_ms / (found[last] or 1.0)
    within = [v for v in between if (profile(family.build(v)).macs or 0) <= most]
    return max(within) if within else min(between)


def _tell(chosen: Candidate, found: Mapping[float, float]) -> None:
    logger.info(
        "size: %s %s (considered %s)",
        chosen.name,
        chosen.precision,
        ", ".join(f"{value:g}: {found[value]:.3f} ms" for value in sorted(found)),
    )
