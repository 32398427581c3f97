"""The reward of accuracy and milliseconds, and what a budget does to it.

Source: Tan et al. 2018, arXiv 1807.11626v3, equations 2 to 4.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from featherweight.errors import UsageError

__all__ = ["SOFT_EXPONENT", "Reward", "fitted_exponent"]

logger = logging.getLogger(__name__)

SOFT_EXPONENT = -0.07
"""Twice the latency for 5 % more accuracy, relatively: -log(1.05) / log(2) = -0.0704."""

_FITTED = 15
"""Networks that w is fitted to."""


@dataclass(frozen=True)
class Reward:
    """Accuracy times (latency / budget) to the power of `exponent`, or a hard limit.

    With `soft`, the budget is a constant factor: it cannot change which of two networks is better.
    It says only where accuracy and reward are one number. `hard` gives accuracy alone, and
    nothing to what is too slow, which is never trained.

    Attributes:
        budget_ms: T.
        kind: `soft` or `hard`.
        exponent: w, at most 0; of `soft` alone.
        is_fitted: whether w is fitted to the first networks that were judged, see `told`; before
            that it is `exponent`.
        was_fitted: whether `exponent` was fitted.
    """

    budget_ms: float
    kind: Literal["soft", "hard"] = "hard"
    exponent: float = SOFT_EXPONENT
    is_fitted: bool = False
    was_fitted: bool = False

    def __post_init__(self) -> None:
        if not (self.budget_ms > 0 and math.isfinite(self.budget_ms)):
            raise UsageError(f"{self.budget_ms} ms is no budget", allowed="more than 0")
        if self.exponent > 0:
            raise UsageError(f"w={self.exponent} rewards slow networks", allowed="at most 0")

    def told(self, points: Sequence[tuple[float, float]]) -> Reward:
        """Return the reward after what was measured: the exponent of `w=auto` is fitted to it.

        Args:
            points: accuracy and milliseconds of the networks of complete generations, in order.
        """
        if not self.is_fitted or len(points) < _FITTED:
            return replace(self, is_fitted=False)
        try:
            exponent = fitted_exponent(*zip(*points[:_FITTED], strict=True))
        except UsageError as failure:
            logger.warning("w stays %.2f: %s", self.exponent, failure)
            return replace(self, is_fitted=False)
        return replace(self, is_fitted=False, was_fitted=True, exponent=min(exponent, 0.0))

    def __call__(self, accuracy: float, latency_ms: float) -> float:
        """Return the reward of a network."""
        if self.kind == "hard":
            return accuracy if latency_ms <= self.budget_ms else 0.0
        return accuracy * math.pow(latency_ms / self.budget_ms, self.exponent)


def fitted_exponent(accuracies: Sequence[float], latencies_ms: Sequence[float]) -> float:
    """Return the w with which all networks of the front have about the same reward.

    Of the networks that none beats in both, a line of log accuracy over log latency is fitted;
    w is its slope with the other sign.

    Raises:
        UsageError: fewer than three networks are on the front, or their accuracy falls.
    """
    order = np.argsort(latencies_ms)
    front: list[int] = []
    for index in order:
        if accuracies[index] > 0 and (not front or accuracies[index] > accuracies[front[-1]]):
            front.append(int(index))
    if len(front) < 3:
        raise UsageError(
            f"w=auto has {len(front)} networks to be fitted to",
            allowed="three or more that none beats in both accuracy and milliseconds",
        )
    logs = [np.log([values[index] for index in front]) for values in (latencies_ms, accuracies)]
    return -float(np.polyfit(logs[0], logs[1], 1)[0])
