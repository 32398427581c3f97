"""How far the channels of a map repeat each other: from their covariance alone.

What a linear map can make of other channels need not be computed (GhostNet, arXiv 1911.11907,
section 3.1). All of it follows from one matrix of channels by channels, so that no two maps are
ever compared value by value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Covariance",
    "Pair",
    "effective_rank",
    "most_similar",
    "unexplained_shares",
    "worth_in_order",
]

_RIDGE = 1e-4
"""Added to every variance, as a share of it: two equal channels explain each other all but that."""
_CONSTANT = 1e-10
"""A channel whose variance is less, as a share of the largest, is constant."""


class Covariance:
    """Covariance of the channels of a map, gathered piece by piece.

    Values are taken from the means of the first piece, without which float32 would lose what
    varies little around a large mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self._from: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._sum: NDArray[np.float64] = np.zeros(0)
        self._products: NDArray[np.float64] = np.zeros((0, 0))

    def add(self, values: NDArray[np.float32]) -> None:
        """Add (positions, channels)."""
        if self.count == 0:
            self._from = values.mean(0, dtype=np.float64).astype(np.float32)
            self._sum = np.zeros(values.shape[1])
            self._products = np.zeros((values.shape[1], values.shape[1]))
        moved = values - self._from
        # As a product: numpy adds the rows of a narrow matrix ten times slower.
        self._sum += np.ones(len(moved), dtype=np.float32) @ moved
        self._products += moved.T @ moved
        self.count += len(values)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(channels, channels)."""
        mean = self._sum / self.count
        found = self._products / self.count - np.outer(mean, mean)
        return np.asarray((found + found.T) / 2)


class Pair(NamedTuple):
    """Two channels, and their correlation; below 0 one is the other's negative."""

    first: int
    second: int
    correlation: float


def effective_rank(covariance: NDArray[np.float64]) -> float:
    """Return how many directions the channels fill: exp of the entropy of the eigenvalues.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    values = np.linalg.eigvalsh(covariance).clip(0.0)
    if values.sum() <= 0.0:
        return 0.0
    shares = values[values > 0.0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def unexplained_shares(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each channel's variance that no linear map of the others gives.

    That of a constant channel is 0: a bias gives all of it.
    """
    varying = _varying(covariance)
    found = np.zeros(len(covariance))
    if varying.any():
        own = covariance[np.ix_(varying, varying)]
        inverse = np.linalg.inv(_with_ridge(own))
        found[varying] = (1 / (np.diag(inverse) * np.diag(own))).clip(0.0, 1.0)
    return found


def most_similar(covariance: NDArray[np.float64], count: int) -> list[Pair]:
    """Return the pairs of channels with the largest correlations, each channel in one pair only."""
    varying = np.flatnonzero(_varying(covariance))
    own = covariance[np.ix_(varying, varying)]
    spread = np.sqrt(np.diag(own))
    correlation = own / np.outer(spread, spread)
    rows, columns = np.triu_indices(len(varying), k=1)
    order = np.argsort(-np.abs(correlation[rows, columns]), kind="stable")
    found: list[Pair] = []
    taken: set[int] = set()
    for place in order:
        if len(found) == count:
            break
        first, second = int(rows[place]), int(columns[place])
        if taken.isdisjoint((first, second)):
            taken.update((first, second))
            value = float(np.clip(correlation[first, second], -1.0, 1.0))
            found.append(Pair(int(varying[first]), int(varying[second]), value))
    return found


def worth_in_order(
    covariance: NDArray[np.float64], weights: NDArray[np.float64], *, count: int
) -> NDArray[np.float64]:
    """Return what is lost with each channel where the least is taken away first.

    Of two channels that say the same the first to go costs nothing, and then the other is worth
    all of it; so channels go one by one, and what the rest cannot explain is looked at anew.

    Args:
        covariance: of the channels.
        weights: (channels,) what a unit of each channel's variance is worth to its readers.
        count: positions that the covariance is of. Few of them explain anything: the fewer there
            are for a channel, the more its variance alone counts.

    Returns:
        (channels,), growing in the order in which they go.
    """
    worth = np.zeros(len(covariance))
    left = np.flatnonzero(_varying(covariance))
    if not len(left):
        return worth
    few = len(covariance) / count
    precision = np.linalg.inv(_with_ridge(covariance[np.ix_(left, left)], more=few))
    weights = weights[left]
    reached = 0.0
    alive = np.ones(len(left), dtype=bool)
    for _ in range(len(left)):
        diagonal = np.diag(precision)
        lost = np.where(alive, weights / np.where(alive, diagonal, 1.0), np.inf)
        place = int(lost.argmin())
        # Later ones rank above earlier ones, also where the loss itself is the same.
        reached = max(float(lost[place]), reached * (1 + 1e-9))
        worth[left[place]] = reached
        alive[place] = False
        column = precision[:, place].copy()
        precision -= np.outer(column, column / diagonal[place])
        precision[place, :] = precision[:, place] = 0.0
    return worth


def _varying(covariance: NDArray[np.float64]) -> NDArray[np.bool_]:
    variances = np.diag(covariance)
    return np.asarray(variances > _CONSTANT * max(float(variances.max(initial=0.0)), 1e-300))


def _with_ridge(covariance: NDArray[np.float64], *, more: float = 0.0) -> NDArray[np.float64]:
    return np.asarray(covariance + (_RIDGE + more) * np.diag(np.diag(covariance)))
