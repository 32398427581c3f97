"""How good predictions are, and how sure that figure is."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from featherweight.errors import UsageError

__all__ = [
    "accuracy_interval",
    "balanced_accuracy",
    "balanced_weights",
    "confusion",
    "difference_interval",
]


def accuracy_interval(correct: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share of correct answers; never outside [0, 1].

    Args:
        correct: number of correct answers.
        n: number of answers.
        confidence: probability that such intervals cover the true share.

    Raises:
        UsageError: n < 1, correct not in 0..n, or confidence not in (0, 1).

    Source: E. B. Wilson, Probable inference, JASA 22 (1927).
    """
    if n < 1 or not 0 <= correct <= n:
        raise UsageError(f"{correct} correct of {n}", allowed="0 <= correct <= n, n >= 1")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence {confidence}", allowed="between 0 and 1, for example 0.95")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact at 0 and n; rounding must not move them inside or outside.
    low = 0.0 if correct == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if correct == n else min(1.0, (centre + spread) / scale)
    return low, high


def confusion(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int
) -> npt.NDArray[np.int64]:
    """Count answers: row = true class, column = predicted class.

    Args:
        labels: integers (N,).
        predictions: integers (N,).
        num_classes: number of classes K.

    Returns:
        int64 (K, K).

    Raises:
        UsageError: lengths differ or a number is not in 0..K-1.
    """
    truth = np.asarray(labels, dtype=np.int64).ravel()
    answers = np.asarray(predictions, dtype=np.int64).ravel()
    if truth.shape != answers.shape:
        raise UsageError(f"{truth.size} labels for {answers.size} predictions")
    for name, values in (("label", truth), ("prediction", answers)):
        outside = values[(values < 0) | (values >= num_classes)]
        if outside.size:
            raise UsageError(f"{name} {outside[0]}", allowed=f"0 to {num_classes - 1}")
    flat = np.bincount(truth * num_classes + answers, minlength=num_classes * num_classes)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def balanced_accuracy(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> float:
    """Return the mean recall over the classes that occur in `labels`.

    Raises:
        UsageError: as `confusion`, or there are no labels.
    """
    table = confusion(labels, predictions, num_classes)
    totals = table.sum(axis=1)
    if not totals.any():
        raise UsageError("no labels to compute an accuracy of")
    present = totals > 0
    return float(np.mean(np.diag(table)[present] / totals[present]))


def balanced_weights(labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return a weight for every picture with which all classes that occur count the same.

    The weighted share of correct answers is then the balanced accuracy.

    Args:
        labels: integers (N,), N >= 1.

    Returns:
        float64 (N,) with mean 1.
    """
    _, places, counts = np.unique(
        np.asarray(labels, dtype=np.int64), return_inverse=True, return_counts=True
    )
    weights: npt.NDArray[np.float64] = len(places) / (len(counts) * counts[places])
    return weights


def difference_interval(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], *, seed: int
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of mean(first - second), paired over pictures.

    Args:
        first: of every picture, (N,).
        second: of the same pictures.
        seed: of the pictures that are drawn.
    """
    difference = first - second
    generator = np.random.default_rng([seed, 95])
    picks = generator.integers(0, len(difference), size=(1000, len(difference)))
    means = difference[picks].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
