"""What a linear classifier answers to pictures that it has not seen, without fitting it n times.

Source: Allen 1974 (leave-one-out errors of a ridge regression in closed form).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

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
    alphas = [penalty * strength for penalty in _PENALTIES]
    model = RidgeCV(alphas, scoring="neg_mean_squared_error", store_cv_results=True)
    model.fit(scaled, targets - centre)
    answers = model.cv_results_[:, :, alphas.index(model.alpha_)] + centre
    return LeaveOneOut(
        errors=((answers - targets) ** 2).sum(axis=1),
        accuracy=float((answers.argmax(axis=1) == labels).mean()),
    )
