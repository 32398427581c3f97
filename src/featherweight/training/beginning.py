"""What the verb `train` starts with: network, preparation of pictures and recipe, by the task."""

from __future__ import annotations

import logging
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.data.dataset import ImageData
from featherweight.detection.detector import Detector
from featherweight.detection.network import build_detector
from featherweight.detection.suiting import object_shapes, suited_to
from featherweight.detection.table import DETECTION
from featherweight.errors import UsageError
from featherweight.networks.detectors import (
    DETECTORS,
    names_detector,
    resolve_network,
)
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing, fine_tuning_preprocessing
from featherweight.networks.pretrained import read_pretrained
from featherweight.networks.pretrained_detector import read_pretrained_detector, stretched
from featherweight.networks.resolve import given_settings, resolve_architecture, with_resolution
from featherweight.networks.weight_sources import find_pretrained
from featherweight.training.detection import detection_recipe
from featherweight.training.recipe import Recipe, default_recipe

__all__ = ["Beginning", "Length", "begin"]

logger = logging.getLogger(__name__)


class Length(NamedTuple):
    """How long a training is: one of both, or neither for what suits the data."""

    epochs: int | None
    time_s: float | None


class Beginning(NamedTuple):
    """What a training starts with.

    Attributes:
        architecture: the network.
        preprocessing: how pictures are prepared for it.
        recipe: hyperparameters and length.
        network: with first weights; `None` = they are drawn, and suited to the pictures.
    """

    architecture: AnyArchitecture
    preprocessing: Preprocessing
    recipe: Recipe
    network: AnyNetwork | None


def begin(
    model: str,
    images: ImageData,
    *,
    small: bool,
    pretrained: str,
    taught: bool,
    length: Length,
    seed: int,
) -> Beginning:
    """Return what a training of a named network on some pictures starts with.

    Args:
        model: as the user wrote it.
        images: the data.
        small: whether its pictures are thumbnails.
        pretrained: `none`, or where the weights come from.
        taught: whether there is a teacher.
        length: of the training.
        seed: of everything that draws.

    Raises:
        UsageError: a network of another task, or one for which there are no such weights.
    """
    if images.task == DETECTION:
        if taught:
            raise UsageError("a teacher for a detector", allowed="no teacher")
        return _detector(model, images, pretrained=pretrained, length=length, seed=seed)
    if names_detector(model):
        raise UsageError(
            f"{model} answers boxes, {images.name} has none",
            allowed="a classifier, or data with boxes (COCO, Pascal VOC or YOLO form)",
        )
    return _classifier(
        model,
        images,
        small=small,
        pretrained=pretrained,
        taught=taught,
        length=length,
        seed=seed,
    )


def _classifier(
    model: str,
    images: ImageData,
    *,
    small: bool,
    pretrained: str,
    taught: bool,
    length: Length,
    seed: int,
) -> Beginning:
    architecture = _suited_architecture(model, images, small=small)
    preprocessing = Preprocessing()
    network, whole = None, True
    if pretrained != "none":
        found = read_pretrained(architecture, source=pretrained, seed=seed)
        network, whole = found.network, not found.sliced
        preprocessing = fine_tuning_preprocessing(found.preprocessing, small=small)
    else:
        _say_scratch(model, architecture.name, small=small)
    recipe = default_recipe(
        pretrained=pretrained != "none",
        resolution=architecture.resolution,
        images=len(images.splits["train"]),
        epochs=length.epochs,
        time_s=length.time_s,
        distillation=taught,
        whole=whole,
        seed=seed,
    )
    return Beginning(architecture, preprocessing, recipe, network)


def _suited_architecture(model: str, images: ImageData, *, small: bool) -> Architecture:
    """Return the named network with the classes of the data; small pictures set its resolution."""
    if small and "resolution" not in given_settings(model):
        model = with_resolution(model, max(16, -(-int(images.typical_size) // 8) * 8))
    return resolve_architecture(model).changed(num_classes=len(images.classes))


def _detector(
    model: str, images: ImageData, *, pretrained: str, length: Length, seed: int
) -> Beginning:
    drawn = resolve_network(model)
    if not isinstance(drawn, Detector):
        raise UsageError(
            f"{model} is a classifier, {images.name} has boxes",
            allowed=", ".join(f"{head}, {head}_BACKBONE" for head in DETECTORS),
            hint=f"for example {next(iter(DETECTORS))}_{model.partition(':')[0]}",
        )
    detector = drawn.changed(num_classes=len(images.classes))
    detector = suited_to(detector, object_shapes(images.splits["train"].targets))
    whole = pretrained != "none"
    if whole:
        network, preprocessing, sliced = read_pretrained_detector(
            detector, source=pretrained, seed=seed
        )
        detector, whole = network.architecture, not sliced
    else:
        _say_scratch(model, detector.backbone.name, small=False)
        preprocessing = stretched(Preprocessing())
        network = build_detector(detector, seed=seed)
    recipe = detection_recipe(
        detector.backbone,
        pretrained=whole,
        images=len(images.splits["train"]),
        epochs=length.epochs,
        time_s=length.time_s,
        seed=seed,
    )
    return Beginning(detector, preprocessing, recipe, network)


def _say_scratch(model: str, name: str, *, small: bool) -> None:
    """Say that a training starts from scratch where installed weights would fit."""
    found = None if small else find_pretrained(name)
    if found is not None:
        logger.warning(
            "%s starts from scratch: --pretrained auto would start from the ImageNet weights of %s",
            model,
            found.package,
        )
