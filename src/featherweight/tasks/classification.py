"""Which one of several classes a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.dataset import ImageData
from featherweight.data.images import load_images
from featherweight.data.metrics import accuracy_interval, balanced_accuracy, balanced_weights
from featherweight.errors import DataError
from featherweight.layers import LOGITS
from featherweight.tasks.task import CLASSIFICATION, TASKS, Answers

__all__ = ["Classification", "cross_entropy", "softmax"]

_TOP = 5


class Classification:
    """Targets are indices of classes, int64 (N,); answers are `logits`, (N, K)."""

    kind = CLASSIFICATION
    metric = "accuracy"
    linear = True
    counts_right = True
    tolerance = 1e-4
    """Rounding leaves about 1e-6; a wrong layer or a wrong normalisation far more."""

    def recognises(self, source: str | Path) -> bool:  # noqa: ARG002
        """Whether `source` holds data of this kind: whatever no other task recognises."""
        return True

    def load(self, source: str | Path, *, seed: int, quiet: bool) -> ImageData:
        """Read a data set; see `load_images`."""
        return load_images(source, seed=seed, quiet=quiet)

    def check(self, targets: NDArray[Any], *, outputs: int) -> None:
        """Raise DataError unless every picture has one class that the network knows."""
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise DataError(
                f"labels of type {targets.dtype} and shape {targets.shape}",
                allowed="one integer per picture",
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= outputs:
            raise DataError(f"labels from {low} to {high}", allowed=f"0 to {outputs - 1}")

    def counts(self, targets: NDArray[Any], *, classes: int) -> NDArray[np.int64]:
        """Return how many pictures show each class, (classes,)."""
        return np.bincount(targets, minlength=classes).astype(np.int64)

    def losses(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return the cross-entropy of each picture in nats, (N,)."""
        return cross_entropy(answers[LOGITS], targets)

    def scores(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return 1 for each right answer and 0 for a wrong one, (N,)."""
        return np.asarray(answers[LOGITS].argmax(axis=1) == targets, dtype=np.float64)

    def score(
        self,
        answers: Answers,
        targets: NDArray[Any],
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> float:
        """Return the share of right answers; with `balanced_weights` the balanced accuracy."""
        scores = self.scores(answers, targets)
        return float((scores if weights is None else scores * weights).mean())

    def interval(self, answers: Answers, targets: NDArray[Any]) -> tuple[float, float]:
        """Return Wilson's interval of the share of right answers."""
        scores = self.scores(answers, targets)
        return accuracy_interval(round(scores.sum()), len(scores))

    def details(self, answers: Answers, targets: NDArray[Any], *, classes: int) -> dict[str, Any]:
        """Return `top5`, the share whose class is among the five best, and `balanced_accuracy`."""
        logits = answers[LOGITS]
        best = np.argpartition(-logits, min(_TOP, classes) - 1, axis=1)[:, :_TOP]
        return {
            "top5": float((best == targets[:, None]).any(axis=1).mean()),
            "balanced_accuracy": balanced_accuracy(
                targets, logits.argmax(axis=1), num_classes=classes
            ),
        }

    def agreement(self, found: Answers, expected: Answers) -> float:
        """Return the share of pictures with the same best class."""
        return float(np.mean(found[LOGITS].argmax(axis=1) == expected[LOGITS].argmax(axis=1)))

    def error(self, found: Answers, expected: Answers) -> tuple[float, float]:
        """Return the largest difference of logits, and its share of the largest logit."""
        largest = float(np.abs(found[LOGITS] - expected[LOGITS]).max())
        return largest, largest / max(float(np.abs(expected[LOGITS]).max()), 1e-30)

    def chance(self, targets: NDArray[Any]) -> float:
        """Return the share of the commonest class."""
        return float(np.bincount(targets).max() / len(targets))

    def balance(self, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return weights with which every class counts the same: see `balanced_weights`."""
        return balanced_weights(targets)

    def indicators(self, targets: NDArray[Any], *, outputs: int) -> NDArray[np.float64]:
        """Return one-hot rows, (N, outputs)."""
        return np.asarray(np.eye(outputs)[targets])

    def describe(
        self,
        answers: Answers,
        labels: tuple[str, ...],
        *,
        sizes: Sequence[tuple[int, int]],  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        """Return `label` and `score`, the softmax of the best class, of each picture."""
        shares = softmax(answers[LOGITS])
        best = shares.argmax(axis=1)
        return [
            {"label": labels[index], "score": float(row[index])}
            for index, row in zip(best, shares, strict=True)
        ]


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cross-entropy of each row of logits (N, K) with its label, in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return np.asarray(log_sum - shifted[np.arange(len(labels)), labels])


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return shares of each row of logits (N, K) that sum to 1."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


TASKS.add(Classification.kind, Classification())
