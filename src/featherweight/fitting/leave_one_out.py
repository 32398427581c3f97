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
        errors: squared error of each picture against its one-hot label, (n,).
        accuracy: share of right answers.
    """

    errors: NDArray[np.float64]
    accuracy: float


def leave_one_out(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, classes: int
) -> LeaveOneOut:
    """Fit one-hot labels by ridge regression on standardised features.

    Args:
        features: (n, F).
        labels: (n,) in 0 .. classes - 1.
        classes: K.
    """
    scale = features.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    scaled = ((features - features.mean(axis=0)) / scale).astype(np.float64)
    targets = np.eye(classes)[labels]
    centre = targets.mean(axis=0)
    strength = float(np.square(scaled).sum()) / len(labels)
    directions, squares = _principal(scaled)
    along = directions.T @ (targets - centre)
    found: list[NDArray[np.float64]] = []
    for penalty in _PENALTIES:
        kept = squares / (squares + penalty * strength)
        # Of the hat matrix, intercept included: a picture's own share of what is answered to it.
        own = (directions**2 @ kept + 1.0 / len(labels))[:, None]
        fitted = directions @ (kept[:, None] * along) + centre
        found.append((targets - fitted) / (1.0 - own))
    left = min(found, key=lambda residuals: float(np.square(residuals).sum()))
    return LeaveOneOut(
        errors=np.square(left).sum(axis=1),
        accuracy=float(((targets - left).argmax(axis=1) == labels).mean()),
    )


def _principal(scaled: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return left singular vectors (n, r) of centred features and squared singular values (r,)."""
    few = len(scaled) <= scaled.shape[1]
    squares, vectors = np.linalg.eigh(scaled @ scaled.T if few else scaled.T @ scaled)
    kept = squares > squares[-1] * len(squares) * np.finfo(np.float64).eps
    squares, vectors = squares[kept], vectors[:, kept]
    return (vectors if few else scaled @ vectors / np.sqrt(squares)), squares
