"""How a network learns a task: what it sees of a batch, and the loss of its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from featherweight.data.augmentation import Augmentation, augment_batch
from featherweight.networks.preprocessing import Preprocessing
from featherweight.registry import Registry
from featherweight.tasks.task import TASKS, Task
from featherweight.training.recipe import Recipe

__all__ = ["OBJECTIVES", "Objective", "View", "register_task"]


@dataclass(frozen=True)
class View:
    """How the pictures of a batch are cut and changed.

    Attributes:
        size: side of what the network sees, in pixels.
        augmentation: random changes.
        strength: share of the recipe's mixup and cutmix, in 0..1.
        preprocessing: mean and standard deviation of the network's input.
        aspects: width by height of pictures that were squeezed, (N,); `None` = none was.
        progress: share of the training that is over, in 0..1.
    """

    size: int
    augmentation: Augmentation
    strength: float
    preprocessing: Preprocessing
    aspects: Tensor | None
    progress: float = 0.0

    def pictures(self, pixels: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return augmented, normalised pictures (N, C, size, size) of uint8 (N, S, S, C)."""
        return augment_batch(
            pixels,
            size=self.size,
            augmentation=self.augmentation,
            generator=generator,
            mean=self.preprocessing.mean,
            std=self.preprocessing.std,
            aspects=self.aspects,
        )


class Objective(Protocol):
    """The part of a training that knows its task; the rest of the loop does not."""

    def batch(
        self,
        pixels: Tensor,
        targets: Tensor,
        view: View,
        *,
        recipe: Recipe,
        generator: torch.Generator,
    ) -> tuple[Tensor, Any]:
        """Return what the network sees, (N, C, H, W), and what it should answer to it.

        Args:
            pixels: uint8 (N, S, S, C), where the network is.
            targets: of the pictures, (N, ...), likewise.
            view: how the pictures are cut and changed; targets with places change with them.
            recipe: hyperparameters.
            generator: where the random numbers come from.
        """
        ...

    def answers(self, network: Any, inputs: Tensor, right: Any) -> Any:
        """Return what `loss` takes.

        Args:
            network: in the mode in which it learns.
            inputs: as `batch` returned them, (N, C, H, W).
            right: likewise; what a detector proposes depends on it.
        """
        ...

    def loss(
        self,
        answers: Any,
        targets: Any,
        *,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            answers: as `answers` returned them, or what a fitted classifier gave, float32.
            targets: as `batch` returned them, or plain ones.
            smoothing: share of the target spread over everything else.
            weights: of each picture, (N,); `None` = all count the same.
        """
        ...

    def imitation(self, answers: Any, taught: Tensor, *, temperature: float) -> Tensor:
        """Return how far answers are from a teacher's, a scalar."""
        ...


OBJECTIVES: Registry[Objective] = Registry("objective", plugins="featherweight.training.objectives")


def register_task(task: Task, objective: Objective) -> None:
    """Make a further kind of task known to every command."""
    TASKS.add(task.kind, task)
    OBJECTIVES.add(task.kind, objective)
