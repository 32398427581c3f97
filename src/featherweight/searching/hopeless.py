"""When a short training has no hope: it lies below all of the better half at the same time.

A median rule, as in Google Vizier (Golovin et al. 2017, section 3.2.2) and Optuna's MedianPruner,
made careful: what is compared is not the median but the worst of the better half, less what the
pictures of val leave open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["LEAST_CURVES", "Curve", "foretell_end", "hopeless_below"]

Curve = Sequence[tuple[float, float]]
"""(share of the training that is done, accuracy on val), by share; the last one is the end."""

LEAST_CURVES = 10
"""Whole trainings before one is stopped."""
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Of a training, from which on it is compared."""
_LATE = 0.75
"""Of a training, from which on little would be saved by stopping it."""


def hopeless_below(curves: Sequence[Curve], *, pictures: int) -> tuple[tuple[float, float], ...]:
    """Return accuracies below which a training has no hope, each from a share of it on.

    Args:
        curves: of trainings that went to their end, all equally long.
        pictures: of val: an accuracy is uncertain by two standard errors.

    Returns:
        (share, accuracy) by share; none where too few trainings are known.
    """
    if len(curves) < LEAST_CURVES:
        return ()
    ends = [curve[-1][1] for curve in curves]
    middle = float(np.median(ends))
    better = [curve for curve, end in zip(curves, ends, strict=True) if end >= middle]
    floors = []
    for share in _SHARES:
        worst = min(_at(curve, share) for curve in better)
        error = math.sqrt(max(worst * (1.0 - worst), 0.0) / pictures)
        floors.append((share, max(0.0, worst - 2.0 * error)))
    return (*floors, (_LATE, 0.0))


def foretell_end(curves: Sequence[Curve], *, share: float, accuracy: float) -> float:
    """Return the accuracy at the end of a training that was stopped.

    Args:
        curves: of trainings that went to their end.
        share: of the training, where it was stopped.
        accuracy: there.
    """
    gains = [curve[-1][1] - _at(curve, share) for curve in curves]
    return min(1.0, accuracy + max(0.0, float(np.median(gains))))


def _at(curve: Curve, share: float) -> float:
    """Return the accuracy at a share: between two validations on a line, which rises from 0."""
    shares, accuracies = zip((0.0, 0.0), *curve, strict=True)
    return float(np.interp(share, shares, accuracies))
