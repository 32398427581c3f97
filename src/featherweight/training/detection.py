"""How a network learns boxes: the losses of its detector on pictures changed with their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from featherweight.architecture import Architecture
from featherweight.data.box_augmentation import (
    HARDLY_SEEN,
    NO_BOX,
    BoxAugmentation,
    augment_boxed,
)
from featherweight.detection.losses import Objects, detection_loss
from featherweight.detection.network import DetectorNetwork
from featherweight.detection.table import DETECTION
from featherweight.errors import UnsupportedError
from featherweight.training.forward import compute_layer
from featherweight.training.objective import OBJECTIVES, View
from featherweight.training.recipe import Recipe

__all__ = ["Boxes", "DetectionObjective", "detection_recipe"]

_CLOSED_SHARE = 0.15
"""Last share of a training without mosaics and expansion: pictures as they will be asked."""
_FIRST_LEARNT_STRIDE = 8
_BATCH = 8
"""Pictures: of a few hundred, larger batches leave a short training few steps."""
_PHOTOGRAPHS = BoxAugmentation(
    flip=True,
    crop=0.4,
    expand=0.2,
    mosaic=0.3,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
)


class Boxes(NamedTuple):
    """What is right for a batch.

    Attributes:
        objects: of each picture, in pixels of the input.
        generator: chooses anchors.
    """

    objects: Sequence[Objects]
    generator: torch.Generator


class DetectionObjective:
    """Targets are float32 (N, M, 6) of detection/table.py; answers are the losses by name."""

    def batch(
        self,
        pixels: Tensor,
        targets: Tensor,
        view: View,
        *,
        recipe: Recipe,
        generator: torch.Generator,
    ) -> tuple[Tensor, Boxes]:
        """Return changed pictures and the objects that are still seen in them."""
        device, host = pixels.device, targets.cpu()
        labels = host[..., 4].long()
        labels = torch.where((host[..., 5] > 0) & (labels >= 0), HARDLY_SEEN, labels)
        augmentation = recipe.boxes or BoxAugmentation()
        if view.progress > 1.0 - _CLOSED_SHARE:
            augmentation = augmentation.model_copy(update={"mosaic": 0.0, "expand": 0.0})
        changed = augment_boxed(
            pixels.cpu(),
            host[..., :4],
            labels,
            size=view.size,
            augmentation=augmentation,
            generator=generator,
            mean=view.preprocessing.mean,
            std=view.preprocessing.std,
        )
        objects = [
            Objects(boxes[kept].to(device), names[kept].to(device), crowd[kept].to(device))
            for boxes, names, crowd, kept in zip(
                changed.boxes,
                changed.labels.clamp(min=0),
                changed.labels == HARDLY_SEEN,
                changed.labels != NO_BOX,
                strict=True,
            )
        ]
        return changed.pixels.to(device), Boxes(objects, generator)

    def answers(self, network: Any, inputs: Tensor, right: Boxes) -> dict[str, Tensor]:
        """Return the losses by name: what a detector proposes depends on what is right.

        Raises:
            UnsupportedError: no detector.
        """
        if not isinstance(network, DetectorNetwork):
            raise UnsupportedError(
                "boxes can be learnt by detectors alone", allowed="a DetectorNetwork"
            )
        return detection_loss(
            network, inputs, right.objects, generator=right.generator, apply=compute_layer
        )

    def loss(
        self,
        answers: Mapping[str, Tensor],
        targets: Boxes,  # noqa: ARG002
        *,
        smoothing: float = 0.0,  # noqa: ARG002
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the sum of the losses.

        Raises:
            UnsupportedError: pictures that count differently.
        """
        if weights is not None:
            raise UnsupportedError("pictures with boxes that count differently", allowed="no")
        return torch.stack([one.float() for one in answers.values()]).sum()

    def imitation(
        self,
        answers: Any,  # noqa: ARG002
        taught: Tensor,  # noqa: ARG002
        *,
        temperature: float,  # noqa: ARG002
    ) -> Tensor:
        """Raise UnsupportedError: a detector has no teacher."""
        raise UnsupportedError("a teacher for a detector", allowed="no teacher")


def detection_recipe(
    backbone: Architecture,
    *,
    pretrained: bool,
    images: int,
    epochs: int | None = None,
    time_s: float | None = None,
    seed: int = 0,
) -> Recipe:
    """Return the recipe of a detector; see `default_recipe`.

    Args:
        backbone: of the detector.
        pretrained: whether its weights, all of them, come from a larger data set: its norms then
            keep their statistics (docs/adr/0012-norm-statistics.md), and the blocks whose maps have
            cells of up to 4 pixels keep their weights.
        images: number of training pictures.
        epochs: the length in passes over the pictures.
        time_s: the length in seconds; with neither, an epoch count that suits `images`.
        seed: of order, augmentation and anchors.
    """
    if epochs is None and time_s is None:
        epochs = max(10, min(120, 12_000 // max(images, 1)))
    return Recipe(
        epochs=epochs,
        time_s=time_s,
        batch_size=max(2, min(_BATCH, images // 3)),
        optimizer="adamw",
        learning_rate=2e-3,
        backbone_learning_rate_scale=0.3 if pretrained else 1.0,
        weight_decay=0.05,
        warm_up_share=0.05,
        label_smoothing=0.0,
        keep_norm_statistics=pretrained,
        frozen_blocks=_early_blocks(backbone) if pretrained else 0,
        boxes=_PHOTOGRAPHS,
        seed=seed,
    )


def _early_blocks(backbone: Architecture) -> int:
    """Return how many blocks there are before the one that makes cells of 8 pixels."""
    stride = 1
    for count, block in enumerate(backbone.blocks):
        stride *= block.stride
        if stride >= _FIRST_LEARNT_STRIDE:
            return count
    return 0


OBJECTIVES.add(DETECTION, DetectionObjective())
