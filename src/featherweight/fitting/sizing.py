"""Choose a network's size once more, right before it counts.

Between shopping and the last training, and again before the proof, the host may have become
faster or slower. A network that is about to be trained from the start, or whose weights run at
any resolution, can still change its size for free.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from featherweight.fitting.families import Family
from featherweight.fitting.shop import Shopper
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate

__all__ = ["Sizer"]

logger = logging.getLogger(__name__)

_REACH = 2
"""Sizes considered on each side of the present one."""
_MOST_MISSED = 1.05
"""Of the budget, that the slowest process may take where no margin is kept: a size that only just
fits in every second process costs a proof, which takes as long as all processes here."""
_MOVES = 3
"""How often the present size may move to the edge of what was considered."""


class Sizer:
    """Finds the largest size of a network that fits the budget now.

    Args:
        open_shopper: returns a shopper that remembers nothing.
        budget_ms: the budget.
        processes: fresh processes that time every size considered.
    """

    def __init__(
        self, open_shopper: Callable[[], Shopper], *, budget_ms: float, processes: int
    ) -> None:
        self._open_shopper = open_shopper
        self._budget_ms = budget_ms
        self._processes = processes

    def size(
        self,
        family: Family,
        precision: str,
        value: float,
        *,
        margin: bool = True,
        ceiling: float | None = None,
    ) -> tuple[float, Candidate]:
        """Return the largest knob value near `value` that fits, and its measurement.

        Where nothing considered fits, the smallest of it is returned.

        Args:
            family: whose knob is turned.
            precision: of the file.
            value: where the search starts.
            margin: whether a size must keep a distance from the budget. Before a training it
                must: nothing can be changed afterwards. Right before the proof it need not: a
                size that misses there costs one measurement, and the next smaller one is proven.
            ceiling: largest value considered; `None` = any.
        """
        shopper = self._open_shopper()
        values = [v for v in family.values if ceiling is None or v <= ceiling]
        place = values.index(value)
        if not margin:
            place = self._expected(shopper, family, precision, values, place)
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
                if self._fits(shopper, family, precision, values[index], margin=margin)
            ]
            place = max(fitting, default=min(considered))
            larger_fails = bool(fitting) and place < max(considered)
            if larger_fails or place in (0, len(values) - 1):
                break
        chosen = shopper.at(family, precision, values[place])
        logger.info(
            "size: %s %s, %.3f ms now (considered %s)",
            chosen.name, precision, chosen.latency_ms or 0.0,
            ", ".join(
                f"{values[k]:g}: "
                f"{shopper.at(family, precision, values[k]).latency_ms or 0.0:.3f} ms"
                for k in sorted(considered)
            ),
        )  # fmt: skip
        return values[place], chosen

    def _expected(
        self, shopper: Shopper, family: Family, precision: str, values: list[float], place: int
    ) -> int:
        """Return where the budget should fall: time grows with the multiply-adds."""
        if len(values) <= 2 * _REACH + 1:
            return place
        shopper.visit([(family, precision, values[place])])
        here = shopper.at(family, precision, values[place])
        most = (here.macs or 0) * self._budget_ms / (here.latency_ms or self._budget_ms)
        return max(
            (k for k, v in enumerate(values) if (profile(family.build(v)).macs or 0) <= most),
            default=0,
        )

    def _fits(
        self, shopper: Shopper, family: Family, precision: str, value: float, *, margin: bool
    ) -> bool:
        if margin:
            return shopper.fits(family, precision, value, self._budget_ms)
        if shopper.slowest_ms(family, precision, value) > _MOST_MISSED * self._budget_ms:
            return False
        return (shopper.at(family, precision, value).latency_ms or 0.0) <= self._budget_ms
