"""Whether two ways to judge networks put them into the same order: Kendall's tau."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau

from featherweight.records import Record

__all__ = ["Agreement", "agreement", "kendall_tau"]


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
        """Whether the scores beat multiply-adds."""
        return self.tau > self.tau_of_macs

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
