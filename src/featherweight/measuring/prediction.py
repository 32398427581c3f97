"""Predict a network's time from networks that were measured on the same platform.

Two steps. A sum of costs, none below zero, fitted to the measured times (relative errors count):
it knows what work costs. Then a Gaussian process over the logarithm of what is left: networks
whose time goes to layers of like shapes are wrong in like ways, and far from everything measured
it says that it does not know. The width of the interval is set by networks that were left out
(cross-validation).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture
from featherweight.measuring.features import DESCRIPTORS, TERMS, Work, base_kind, work_of

__all__ = ["Predicted", "Predictor", "fit_predictor"]

Values = NDArray[np.float64]

_FOLDS = 5
_CONFIDENCE = 0.9
_RIDGE = 0.02
"""Of costs, relative to what the average network spends on each: terms that go together share."""
_KINDS = tuple(dict.fromkeys(base_kind(name.partition(".")[0]) for name in TERMS))
_SHAPED = ("dense", "pointwise", "depthwise")
_SHAPE = [
    DESCRIPTORS.index(name) for name in ("channels", "out_channels", "places", "weights", "maps")
]
_TYPICAL = np.array([7.0, 7.0, 8.0, 12.0, 16.0])
"""Of _SHAPE, about: a kind that takes a share of the time is told by how far it is from these."""
_MACS, _OUTPUTS = (
    [place for place, name in enumerate(TERMS) if name.endswith(end)]
    for end in (".macs", ".outputs")
)


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
    process: Any
    scale: Values
    widening: float

    def predict(self, architectures: Sequence[Architecture]) -> list[Predicted]:
        """Return what each network should take."""
        centre, deviation = self._predict_log([work_of(one) for one in architectures])
        half = self.widening * deviation
        return [
            Predicted(*(float(np.exp(value)) for value in row))
            for row in zip(centre, centre - half, centre + half, strict=True)
        ]

    def _predict_log(self, works: Sequence[Work]) -> tuple[Values, Values]:
        features = (_compositions(works, self.costs) - self.scale[0]) / self.scale[1]
        mean, deviation = self.process.predict(features, return_std=True)
        return np.log(_totals(works) @ self.costs) + mean, deviation


def fit_predictor(architectures: Sequence[Architecture], medians_ms: Sequence[float]) -> Predictor:
    """Fit a predictor to measured networks.

    Args:
        architectures: some hundred networks of many kinds and sizes.
        medians_ms: what was measured of each.
    """
    works = [work_of(one) for one in architectures]
    measured = np.asarray(medians_ms, dtype=np.float64)
    whole = _fit(works, measured)
    ratios = []
    for fold in range(_FOLDS):
        held = [k for k in range(len(works)) if k % _FOLDS == fold]
        kept = [k for k in range(len(works)) if k % _FOLDS != fold]
        part = _fit([works[k] for k in kept], measured[kept], kernel=whole.process.kernel_)
        centre, deviation = part._predict_log([works[k] for k in held])
        ratios.append(np.abs(np.log(measured[held]) - centre) / deviation)
    widening = float(np.quantile(np.concatenate(ratios), _CONFIDENCE))
    return Predictor(whole.costs, whole.process, whole.scale, widening)


def _fit(works: Sequence[Work], measured: Values, *, kernel: Any = None) -> Predictor:
    """Fit all but the width of the interval; a given kernel is taken as it is."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    terms = _totals(works)
    costs = _fit_costs(terms, measured)
    composed = _compositions(works, costs)
    scale = np.stack([composed.mean(axis=0), np.maximum(composed.std(axis=0), 1e-6)])
    left = np.log(measured) - np.log(terms @ costs)
    start = ConstantKernel(0.01, (1e-5, 1.0)) * Matern(5.0, (0.3, 100.0), nu=1.5) + WhiteKernel(
        1e-3, (1e-6, 0.1)
    )
    process = GaussianProcessRegressor(
        kernel or start,
        normalize_y=False,
        random_state=0,
        optimizer=None if kernel else "fmin_l_bfgs_b",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit((composed - scale[0]) / scale[1], left)
    return Predictor(costs, process, scale, 1.0)


def _totals(works: Sequence[Work]) -> Values:
    """Return how much of each term each network asks for, (networks, len(TERMS))."""
    return np.stack([work.terms.sum(axis=0) for work in works])


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


def _compositions(works: Sequence[Work], costs: Values) -> Values:
    """Return what networks are like: where the time goes, to which shapes, how much there is."""
    rows = [_composition(work, costs) for work in works]
    return np.array(rows)


def _composition(work: Work, costs: Values) -> list[float]:
    spent = work.terms @ costs
    share = spent / spent.sum()
    kinds = np.array(work.kinds)
    found = [float(share[kinds == kind].sum()) for kind in _KINDS]
    found += list(share @ work.descriptors)
    shapes = work.descriptors[:, _SHAPE] - _TYPICAL
    for kind in _SHAPED:
        found += list(share[kinds == kind] @ shapes[kinds == kind])
    totals = work.terms.sum(axis=0)
    found += [np.log(spent.sum()), np.log(len(kinds)), work.descriptors[0, -1]]
    found += [np.log(totals[_MACS].sum() / totals[_OUTPUTS].sum())]
    return found
