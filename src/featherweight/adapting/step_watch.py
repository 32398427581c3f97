"""The time for NetAdapt's steps."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["StepWatch"]

_MOST_LATE = 1.5
"""Multiple of its time after which NetAdapt's way is given up."""


class StepWatch:
    """Tells how many steps there is time for, at the pace of those that were made.

    Args:
        most_s: seconds of all steps.
        seconds: returns those that are gone, lost attempts included.
        steps: returns how many steps were made.
    """

    def __init__(
        self,
        most_s: float = math.inf,
        *,
        seconds: Callable[[], float] = lambda: 0.0,
        steps: Callable[[], int] = lambda: 0,
    ) -> None:
        self._most_s, self._seconds, self._steps = most_s, seconds, steps

    def is_over(self) -> bool:
        """Whether there is no time for another step, even a late one."""
        return not math.isinf(self._most_s) and self._seconds() > _MOST_LATE * self._most_s

    def steps_left(self) -> float:
        """Return the number of further steps; no limit before the first one has shown the pace."""
        steps = self._steps()
        if not steps or math.isinf(self._most_s):
            return math.inf
        gone_s = self._seconds()
        return max(0.0, self._most_s - gone_s) * steps / max(gone_s, 1e-9)
