"""The seam between kinds of data and all that trains, ranks, exports and proves networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featherweight.budget import Evaluation
from featherweight.data.dataset import ImageData
from featherweight.errors import UsageError
from featherweight.registry import Registry

__all__ = [
    "CLASSIFICATION",
    "TASKS",
    "Answers",
    "Task",
    "check_same_task",
    "evaluated",
    "load_data",
]

CLASSIFICATION = "classification"
"""The task of data that no other one recognises."""

Answers = Mapping[str, NDArray[Any]]
"""What a network answers to N pictures: (N, ...) by the names of its outputs."""


class Task(Protocol):
    """A kind of question about pictures.

    What is right for a picture is a row of its split's `targets`, (N, ...). How a network learns
    it is its `Objective` (training/objective.py).

    Attributes:
        kind: how data, networks and files name it.
        metric: name of what `score` returns.
        linear: whether a linear layer on features gives the answers: such a layer is fitted in
            closed form, to rank networks and to begin with.
        counts_right: whether the score is the share of pictures that are answered right, whose
            interval follows from it and their number.
        tolerance: largest `error` of a float32 file that computes what its network does.
    """

    kind: str
    metric: str
    linear: bool
    counts_right: bool
    tolerance: float

    def recognises(self, source: str | Path) -> bool:
        """Whether `source` holds data of this kind."""
        ...

    def load(self, source: str | Path, *, seed: int, quiet: bool) -> ImageData:
        """Read a data set.

        Raises:
            DataError: it cannot be read, or is no data of this kind.
        """
        ...

    def check(self, targets: NDArray[Any], *, outputs: int) -> None:
        """Raise DataError unless a network with so many outputs can answer the targets."""
        ...

    def counts(self, targets: NDArray[Any], *, classes: int) -> NDArray[np.int64]:
        """Return how many pictures show each class, (classes,)."""
        ...

    def losses(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return how wrong each picture is answered, (N,): what choices are made by, in pairs."""
        ...

    def scores(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return how right each picture is answered, (N,) in 0..1."""
        ...

    def score(
        self,
        answers: Answers,
        targets: NDArray[Any],
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> float:
        """Return the metric in 0..1, with pictures counted by their weights, (N,)."""
        ...

    def interval(self, answers: Answers, targets: NDArray[Any]) -> tuple[float, float]:
        """Return the 95 % interval of the metric over pictures."""
        ...

    def details(self, answers: Answers, targets: NDArray[Any], *, classes: int) -> dict[str, Any]:
        """Return further figures by the names that `evaluate --json` has."""
        ...

    def agreement(self, found: Answers, expected: Answers) -> float:
        """Return the share of answers that two networks have in common."""
        ...

    def error(self, found: Answers, expected: Answers) -> tuple[float, float]:
        """Return the largest difference of answers, and the one that `tolerance` limits."""
        ...

    def chance(self, targets: NDArray[Any]) -> float:
        """Return the best mean score of an answer that never looks at the picture."""
        ...

    def balance(self, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return weights of the pictures, mean 1, with which every class counts the same.

        Raises:
            UsageError: pictures have no one class each.
        """
        ...

    def indicators(self, targets: NDArray[Any], *, outputs: int) -> NDArray[np.float64]:
        """Return what a regression should answer, (N, outputs); needed where `linear` is true."""
        ...

    def describe(
        self, answers: Answers, labels: tuple[str, ...], *, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Return what `predict` says of each picture.

        Args:
            answers: to N pictures.
            labels: names of the classes.
            sizes: width and height of each picture in pixels.
        """
        ...


TASKS: Registry[Task] = Registry("task", plugins="featherweight.tasks")


def load_data(source: str | Path, *, seed: int = 0, quiet: bool = False) -> ImageData:
    """Read a data set with the task that recognises it; `task` of the result names it.

    Args:
        source: folder, file or `demo`.
        seed: draws the splits that the data does not have.
        quiet: do not warn of what is not used.

    Raises:
        DataError: it cannot be read.
    """
    special = [TASKS[kind] for kind in TASKS if kind != CLASSIFICATION]
    chosen = next((task for task in special if task.recognises(source)), TASKS[CLASSIFICATION])
    return chosen.load(source, seed=seed, quiet=quiet)


def check_same_task(images: ImageData, *, task: str, classes: tuple[str, ...]) -> None:
    """Refuse data that a network was not trained for.

    Args:
        images: the data.
        task: of the network.
        classes: names of its outputs.

    Raises:
        UsageError: another task, or other classes.
    """
    if images.task != task:
        raise UsageError(
            f"{images.name} is data for {images.task}", allowed=f"{task}, as the network was made"
        )
    if images.classes != classes:
        raise UsageError(
            f"{images.name} has the classes {', '.join(images.classes)}",
            allowed=f"those of the network: {', '.join(classes)}",
        )


def evaluated(task: Task, answers: Answers, targets: NDArray[Any], *, split: str) -> Evaluation:
    """Return the score of answers with its evidence."""
    return Evaluation(
        metric=task.metric,
        value=task.score(answers, targets),
        n=len(targets),
        interval=task.interval(answers, targets),
        split=split,
    )
