"""What a linear classifier answers to pictures that it has not seen, without fitting it n times.

Source: Allen 1974 (leave-one-out errors of a ridge regression in closed form).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LeaveOneOut", "leave_one_out"]

_PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Ridge penalties tried, as multiples of the features' squared sum per picture."""


@dataclass(frozen=True)
class LeaveOneOut:
    """Answers of the best ridge regression to each picture when fitted to all the others.

    Attributes:
        errors: squared error of each picture against what it should have answered, (n,).
        answers: what it answered, (n, K).
    """

    errors: NDArray[np.float64]
    answers: NDArray[np.float64]


def leave_one_out(features: NDArray[np.float32], indicators: NDArray[np.float64]) -> LeaveOneOut:
    """Fit indicators by ridge regression on standardised features.

    Args:
        features: (n, F).
        indicators: what should be answered, (n, K): of a classification one-hot labels.
    """
    scale = features.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    scaled = ((features - features.mean(axis=0)) / scale).astype(np.float64)
    centre = indicators.mean(axis=0)
    strength = float(np.square(scaled).sum()) / len(features)
    directions, squares = _principal(scaled)
    along = directions.T @ (indicators - centre)
    found: list[NDArray[np.float64]] = []
    for penalty in _PENALTIES:
        kept = squares / (squares + penalty * strength)
        # Of the hat matrix, intercept included: a picture's own share of what is answered to it.
        own = (directions**2 @ kept + 1.0 / len(features))[:, None]
        fitted = directions @ (kept[:, None] * along) + centre
        found.append((indicators - fitted) / (1.0 - own))
    left = min(found, key=lambda residuals: float(np.square(residuals).sum()))
    return LeaveOneOut(errors=np.square(left).sum(axis=1), answers=indicators - left)


def _principal(scaled: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return left singular vectors (n, r) of centred features and squared singular values (r,)."""
    few = len(scaled) <= scaled.shape[1]
    squares, vectors = np.linalg.eigh(scaled @ scaled.T if few else scaled.T @ scaled)
    kept = squares > squares[-1] * len(squares) * np.finfo(np.float64).eps
    squares, vectors = squares[kept], vectors[:, kept]
    return (vectors if few else scaled @ vectors / np.sqrt(squares)), squares
