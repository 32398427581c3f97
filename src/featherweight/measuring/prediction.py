"""Predict a network's time from networks that were measured on the same platform.

Two steps. A sum of costs, none below zero, fitted to the measured times (relative errors count):
it knows what work costs. Then a Gaussian process over the logarithm of what is left: networks of
like composition are wrong in like ways, and far from everything measured it says that it does not
know. The width of the interval is set by networks that were left out (cross-validation).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture
from featherweight.measuring.features import TERMS, terms_matrix

__all__ = ["Predicted", "Predictor", "fit_predictor"]

Values = NDArray[np.float64]

_FOLDS = 5
_CONFIDENCE = 0.9
_RIDGE = 0.02
"""Of costs, relative to what the average network spends on each: terms that go together share."""


class Predicted(NamedTuple):
    """A predicted latency in ms with its 90 % interval."""

    median_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Predictor:
    """Predicts for the platform whose measurements it was fitted to.

    Attributes:
        costs: ms per unit of each term, (len(TERMS),).
        process: of the logarithm of measured over summed time.
        scale: mean and deviation of what the process reads, (2, features).
        widening: half width of the interval in deviations of the process.
    """

    costs: Values
    process: object
    scale: Values
    widening: float

    def predict(self, architectures: Sequence[Architecture]) -> list[Predicted]:
        """Return what each network should take."""
        centre, deviation = self._predict_log(terms_matrix(architectures))
        half = self.widening * deviation
        return [
            Predicted(*(float(np.exp(value)) for value in row))
            for row in zip(centre, centre - half, centre + half, strict=True)
        ]

    def _predict_log(self, terms: Values) -> tuple[Values, Values]:
        spent = terms * self.costs
        features = (_composition(spent, terms) - self.scale[0]) / self.scale[1]
        mean, deviation = self.process.predict(features, return_std=True)  # type: ignore[attr-defined]
        return np.log(spent.sum(axis=1)) + mean, deviation


def fit_predictor(architectures: Sequence[Architecture], medians_ms: Sequence[float]) -> Predictor:
    """Fit a predictor to measured networks.

    Args:
        architectures: some hundred networks of many kinds and sizes.
        medians_ms: what was measured of each.
    """
    terms, measured = terms_matrix(architectures), np.asarray(medians_ms, dtype=np.float64)
    ratios = []
    for fold in range(_FOLDS):
        held = np.arange(len(measured)) % _FOLDS == fold
        part = _fit(terms[~held], measured[~held])
        centre, deviation = part._predict_log(terms[held])
        ratios.append(np.abs(np.log(measured[held]) - centre) / deviation)
    whole = _fit(terms, measured)
    widening = float(np.quantile(np.concatenate(ratios), _CONFIDENCE))
    return Predictor(whole.costs, whole.process, whole.scale, widening)


def _fit(terms: Values, measured: Values) -> Predictor:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    costs = _fit_costs(terms, measured)
    spent = terms * costs
    composed = _composition(spent, terms)
    scale = np.stack([composed.mean(axis=0), np.maximum(composed.std(axis=0), 1e-6)])
    left = np.log(measured) - np.log(spent.sum(axis=1))
    kernel = ConstantKernel(0.01, (1e-5, 1.0)) * RBF(3.0, (0.3, 30.0)) + WhiteKernel(
        1e-3, (1e-6, 0.1)
    )
    process = GaussianProcessRegressor(kernel, normalize_y=False, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit((composed - scale[0]) / scale[1], left)
    return Predictor(costs, process, scale, 1.0)


def _fit_costs(terms: Values, measured: Values) -> Values:
    """Return costs of at least zero with the least squares of relative errors."""
    from sklearn.linear_model import LinearRegression

    rows = terms / measured[:, None]
    typical = np.maximum(rows.mean(axis=0), 1e-12)
    scaled = rows / typical
    damping = _RIDGE * np.sqrt(len(rows)) * np.eye(len(TERMS))
    wanted = np.concatenate([np.ones(len(rows)), np.zeros(len(TERMS))])
    fitted = LinearRegression(positive=True, fit_intercept=False).fit(
        np.vstack([scaled, damping]), wanted
    )
    return np.asarray(fitted.coef_ / typical)


def _composition(spent: Values, terms: Values) -> Values:
    """Return what a network is like: where its time goes, how much there is, how it is cut up."""
    total = spent.sum(axis=1)
    kinds: dict[str, list[int]] = {}
    for place, name in enumerate(TERMS):
        kinds.setdefault(name.partition(".")[0], []).append(place)
    shares = [spent[:, places].sum(axis=1) / total for places in kinds.values()]
    calls = terms[:, [k for k, name in enumerate(TERMS) if name.endswith(".calls")]].sum(axis=1)
    macs = terms[:, [k for k, name in enumerate(TERMS) if name.endswith(".macs")]].sum(axis=1)
    outputs = terms[:, [k for k, name in enumerate(TERMS) if name.endswith(".outputs")]].sum(axis=1)
    sizes = [np.log(total), np.log(calls), np.log(macs / outputs), np.log(macs / calls)]
    return np.stack([*shares, *sizes], axis=1)
