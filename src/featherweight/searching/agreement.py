"""Whether two ways to judge networks put them into the same order: Kendall's tau."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau

from featherweight.records import Record

__all__ = ["CHECKED", "Agreement", "agreement", "kendall_tau"]

CHECKED = 12
"""Networks that a cheap way is held against before it is believed: at least so many."""


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Return tau-b of two lists of scores of the same things; 0 where all of a list are equal."""
    tau = float(kendalltau(one, other).statistic)
    return tau if math.isfinite(tau) else 0.0


class Agreement(Record):
    """What scores are worth, on networks that were trained alone as well.

    Attributes:
        networks: their number.
        tau: of scores with accuracies.
        tau_of_macs: of multiply-adds with accuracies, which cost nothing.
        line: slope and intercept of accuracy over score, by least squares; the slope is not
            below 0.
    """

    networks: int
    tau: float
    tau_of_macs: float
    line: tuple[float, float]

    @property
    def is_worth_it(self) -> bool:
        """Whether the scores put networks into an order, and a better one than multiply-adds."""
        return self.line[0] > 0.0 and self.tau > max(self.tau_of_macs, 0.0)

    def accuracy(self, score: float) -> float:
        """Return the accuracy that a score foretells, in 0..1."""
        slope, intercept = self.line
        return min(max(slope * score + intercept, 0.0), 1.0)


def agreement(
    scores: Sequence[float], macs: Sequence[float], accuracies: Sequence[float]
) -> Agreement:
    """Compare scores with the accuracies of networks that were trained alone.

    Args:
        scores: of the networks.
        macs: their multiply-adds.
        accuracies: after training alone.
    """
    x, y = np.asarray(scores), np.asarray(accuracies)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(float(((x - x.mean()) * (y - y.mean())).sum()) / spread, 0.0) if spread else 0.0
    return Agreement(
        networks=len(scores),
        tau=kendall_tau(scores, accuracies),
        tau_of_macs=kendall_tau(macs, accuracies),
        line=(slope, float(y.mean() - slope * x.mean())),
    )
