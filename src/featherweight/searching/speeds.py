"""Which points are too slow, before anything is trained: foretold from networks that were timed.

Milliseconds of a network are about the product of what its choices and its multiply-adds do to
them: their logarithm is a sum, and Bayesian ridge regression (Bishop 2006, section 3.5, as
scikit-learn has it) says it with what is left over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherweight.searching.features import PointFeatures
from featherweight.searching.space import Point

__all__ = ["LEAST_TIMED", "Foretold", "foretell_speeds"]

LEAST_TIMED = 8
"""Networks that a forecast needs."""


_MOST_KNOWN = 50_000
"""Points whose milliseconds are kept."""


@dataclass(frozen=True)
class Foretold:
    """Milliseconds of points that were not timed.

    Attributes:
        error: typical relative error on timed networks that the fit did not see, in 0..1.
    """

    error: float
    _features: PointFeatures
    _weights: NDArray[np.float64]
    _level: float
    _middle: NDArray[np.float64]
    _spread: NDArray[np.float64]
    _known: dict[Point, float]

    def __call__(self, point: Point) -> float:
        """Return the milliseconds of a point."""
        if point not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            row = (self._features(point) - self._middle) / self._spread
            self._known[point] = math.exp(float(row @ self._weights) + self._level)
        return self._known[point]


def foretell_speeds(features: PointFeatures, timed: Mapping[Point, float]) -> Foretold:
    """Fit a forecast to the milliseconds of timed points.

    Args:
        features: of the space.
        timed: milliseconds; at least `LEAST_TIMED` points.
    """
    from sklearn.linear_model import BayesianRidge  # takes a second to import

    known = np.stack([features(point) for point in timed])
    logs = np.log(np.array(list(timed.values())))
    middle, spread = known.mean(0), known.std(0)
    spread[spread < 1e-9] = 1.0
    rows = (known - middle) / spread
    model = BayesianRidge().fit(rows, logs)
    folds = np.arange(len(logs)) % min(5, len(logs))
    missed = np.empty(len(logs))
    for fold in range(folds.max() + 1):
        out = folds == fold
        missed[out] = logs[out] - BayesianRidge().fit(rows[~out], logs[~out]).predict(rows[out])
    error = float(np.median(np.abs(np.expm1(missed))))
    return Foretold(error, features, model.coef_, float(model.intercept_), middle, spread, {})
