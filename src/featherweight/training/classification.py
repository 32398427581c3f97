"""How a network learns classes: cross-entropy with smoothing, mixup and cutmix, and a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.tasks.task import CLASSIFICATION
from featherweight.training.blending import draw_blend
from featherweight.training.forward import answer
from featherweight.training.objective import OBJECTIVES, View
from featherweight.training.recipe import Recipe

__all__ = ["BlendedLabels", "ClassificationObjective"]


@dataclass(frozen=True)
class BlendedLabels:
    """Labels of blended pictures.

    Attributes:
        labels: int64 (N,), of the pictures.
        partners: int64 (N,), the row that each is blended with.
        ratio: weight of its own label; the partner's has the rest.
    """

    labels: Tensor
    partners: Tensor
    ratio: float


class ClassificationObjective:
    """Targets are int64 (N,), answers are logits (N, K)."""

    def batch(
        self,
        pixels: Tensor,
        targets: Tensor,
        view: View,
        *,
        recipe: Recipe,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor | BlendedLabels]:
        """Return augmented pictures, some batches blended, with their labels."""
        inputs = view.pictures(pixels, generator=generator)
        blend = draw_blend(
            len(targets),
            size=view.size,
            mixup=view.strength * recipe.mixup,
            cutmix=view.strength * recipe.cutmix,
            generator=generator,
        )
        if blend is None:
            return inputs, targets
        return blend.pixels(inputs), BlendedLabels(targets, blend.partners, blend.ratio)

    def answers(self, network: Any, inputs: Tensor, right: Any) -> Tensor:  # noqa: ARG002
        """Return logits in float32."""
        return answer(network, inputs).float()

    def loss(
        self,
        answers: Tensor,
        targets: Tensor | BlendedLabels,
        *,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the mean cross-entropy; that of blended pictures between both labels'."""
        if isinstance(targets, BlendedLabels):
            other = self.loss(
                answers,
                targets.labels[targets.partners],
                smoothing=smoothing,
                weights=None if weights is None else weights[targets.partners],
            )
            own = self.loss(answers, targets.labels, smoothing=smoothing, weights=weights)
            return torch.lerp(other, own, targets.ratio)
        if weights is None:
            return functional.cross_entropy(answers, targets, label_smoothing=smoothing)
        # Not cross_entropy's own weights: its smoothing would weigh the wrong classes too.
        each = functional.cross_entropy(
            answers, targets, label_smoothing=smoothing, reduction="none"
        )
        return (each * weights).mean()

    def imitation(self, answers: Tensor, taught: Tensor, *, temperature: float) -> Tensor:
        """Return KL(teacher || student) of answers softened by a temperature."""
        return functional.kl_div(
            functional.log_softmax(answers / temperature, 1),
            functional.log_softmax(taught / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )


OBJECTIVES.add(CLASSIFICATION, ClassificationObjective())
