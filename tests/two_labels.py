"""A third kind of task, as somebody else would add it: two labels per picture, in this one file.

Every picture says whether its digit is even or odd, and whether it is small, middle or large. The
classifier answers both with one row of 2 + 3 numbers. `install()` is the registry line.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from featherweight.data.dataset import ImageData, ImageSplit
from featherweight.data.images import load_images
from featherweight.data.metrics import accuracy_interval
from featherweight.errors import DataError, UsageError
from featherweight.layers import LOGITS
from featherweight.tasks.classification import cross_entropy, softmax
from featherweight.tasks.task import TASKS, Answers
from featherweight.training.forward import answer
from featherweight.training.objective import OBJECTIVES, View, register_task
from featherweight.training.recipe import Recipe

KIND = "two_labels"
MARKER = "two_labels.txt"
FIRST = 2
"""Outputs that answer the first question; the others answer the second."""


class TwoLabels:
    """Targets are int64 (N, 2); answers are `logits`, (N, 2 + 3)."""

    kind = KIND
    metric = "both_right"
    linear = True
    counts_right = True
    tolerance = 1e-4

    def recognises(self, source: str | Path) -> bool:
        return Path(source).joinpath(MARKER).is_file()

    def load(self, source: str | Path, *, seed: int, quiet: bool) -> ImageData:
        """Read folders named like `even+small`."""
        images = load_images(source, seed=seed, quiet=quiet)
        pairs = [name.split("+") for name in images.classes]
        firsts, seconds = (sorted({pair[place] for pair in pairs}) for place in (0, 1))
        table = np.array([[firsts.index(one), seconds.index(two)] for one, two in pairs])

        def targeted(split: ImageSplit) -> ImageSplit:
            return dataclasses.replace(split, targets=table[split.targets])

        return dataclasses.replace(
            images,
            classes=(*firsts, *seconds),
            splits={name: targeted(split) for name, split in images.splits.items()},
            fingerprint=hashlib.sha256(f"{KIND}{images.fingerprint}".encode()).hexdigest(),
            task=KIND,
        )

    def check(self, targets: NDArray[Any], *, outputs: int) -> None:
        if targets.ndim != 2 or targets.shape[1] != 2 or outputs <= FIRST:
            raise DataError(f"targets of shape {targets.shape}", allowed="two labels per picture")

    def counts(self, targets: NDArray[Any], *, classes: int) -> NDArray[np.int64]:
        return self.indicators(targets, outputs=classes).sum(axis=0).astype(np.int64)

    def losses(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        first, second = halves(answers)
        return cross_entropy(first, targets[:, 0]) + cross_entropy(second, targets[:, 1])

    def scores(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((best(answers) == targets).all(axis=1), dtype=np.float64)

    def score(
        self,
        answers: Answers,
        targets: NDArray[Any],
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> float:
        scores = self.scores(answers, targets)
        return float((scores if weights is None else scores * weights).mean())

    def interval(self, answers: Answers, targets: NDArray[Any]) -> tuple[float, float]:
        scores = self.scores(answers, targets)
        return accuracy_interval(round(scores.sum()), len(scores))

    def details(self, answers: Answers, targets: NDArray[Any], *, classes: int) -> dict[str, Any]:
        right = (best(answers) == targets).mean(axis=0)
        return {"first_right": float(right[0]), "second_right": float(right[1])}

    def agreement(self, found: Answers, expected: Answers) -> float:
        return float((best(found) == best(expected)).all(axis=1).mean())

    def error(self, found: Answers, expected: Answers) -> tuple[float, float]:
        largest = float(np.abs(found[LOGITS] - expected[LOGITS]).max())
        return largest, largest / float(np.abs(expected[LOGITS]).max())

    def chance(self, targets: NDArray[Any]) -> float:
        _, counts = np.unique(targets, axis=0, return_counts=True)
        return float(counts.max() / len(targets))

    def balance(self, targets: NDArray[Any]) -> NDArray[np.float64]:
        raise UsageError("pictures with two labels cannot be balanced", allowed="without --balance")

    def indicators(self, targets: NDArray[Any], *, outputs: int) -> NDArray[np.float64]:
        first, second = np.eye(FIRST)[targets[:, 0]], np.eye(outputs - FIRST)[targets[:, 1]]
        return np.concatenate([first, second], axis=1)

    def describe(
        self, answers: Answers, labels: tuple[str, ...], *, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        shares = [softmax(part) for part in halves(answers)]
        return [
            {
                "label": f"{labels[one]} {labels[FIRST + two]}",
                "score": float(shares[0][row, one] * shares[1][row, two]),
            }
            for row, (one, two) in enumerate(best(answers))
        ]


class TwoLabelsObjective:
    """Two cross-entropies on one row of answers; pictures are not blended."""

    def batch(
        self,
        pixels: Tensor,
        targets: Tensor,
        view: View,
        *,
        recipe: Recipe,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        return view.pictures(pixels, generator=generator), targets

    def answers(self, network: Any, inputs: Tensor, right: Tensor) -> Tensor:
        return answer(network, inputs).float()

    def loss(
        self,
        answers: Tensor,
        targets: Tensor,
        *,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor:
        each = sum(
            functional.cross_entropy(
                part, targets[:, place], label_smoothing=smoothing, reduction="none"
            )
            for place, part in enumerate((answers[:, :FIRST], answers[:, FIRST:]))
        )
        return torch.as_tensor(each if weights is None else each * weights).mean()

    def imitation(self, answers: Tensor, taught: Tensor, *, temperature: float) -> Tensor:
        return functional.mse_loss(answers, taught)


def halves(answers: Answers) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the logits of each question."""
    logits = answers[LOGITS]
    return logits[:, :FIRST], logits[:, FIRST:]


def best(answers: Answers) -> NDArray[np.int64]:
    """Return the two labels that the answers choose, (N, 2)."""
    return np.stack([part.argmax(axis=1) for part in halves(answers)], axis=1)


def install() -> None:
    """Make the task known: what a package's `__init__` would say."""
    register_task(TwoLabels(), TwoLabelsObjective())


def uninstall() -> None:
    """Forget it again."""
    for registry in (TASKS, OBJECTIVES):
        registry._items.pop(KIND)
