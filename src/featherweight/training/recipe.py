"""The hyperparameters of one training run, and good defaults for them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from featherweight.data.augmentation import Augmentation
from featherweight.data.box_augmentation import BoxAugmentation
from featherweight.records import Record

__all__ = ["GRADIENT_NORM", "SMALL_RESOLUTION", "Recipe", "default_recipe", "int8_recipe"]

SMALL_RESOLUTION = 64
"""Largest resolution that counts as a small picture (CIFAR, digits), not a photograph."""
GRADIENT_NORM = 1.0
"""Of all gradients together, to which longer ones are scaled down (docs/adr/0026, 0027)."""
_FULL_PEAK_IMAGES = 192_000
"""Pictures seen up to which a training on small ones reaches its full peak rate."""
_LEAST_PEAK_STEPS = 250
"""Of a network that answers these classes already (docs/adr/0027). After a fitted classifier, val
loss of EfficientNet-Lite0 at 112 pixels at the full peak and at 0.3, 0.1 and 0.03 of it, one seed:
95 steps on clothing, from 0.592, 0.614, 0.559, 0.588, 0.602; 84 steps on birds, from 0.734, 0.813,
0.753, 0.753, 0.770; 285 steps on clothing 0.391, 0.463."""


class Recipe(Record):
    """Hyperparameters of one training run.

    Attributes:
        epochs: passes over the training pictures; exactly one of `epochs` and `time_s` is given.
        time_s: wall clock of the training, its timing and its validations.
        batch_size: pictures per step; a last smaller batch is dropped.
        optimizer: `sgd` (Nesterov, momentum 0.9), `adamw`, or `muon` for dense convolutions that a
            norm follows and `sgd` for all else.
        learning_rate: the peak, of the classifier.
        peak_steps: a longer training has a lower peak: times sqrt(peak_steps / its steps);
            `None` = the peak whatever the length.
        least_peak_steps: a shorter training has a lower peak, by the share that it has of so
            many steps; `None` = the peak whatever the length.
        decay: how it falls to zero after the warm-up, step by step: `cosine` or `linear`.
        backbone_learning_rate_scale: factor on it for all other weights.
        norm_bias_learning_rate_scale: factor on it for the biases of norms.
        muon_learning_rate_scale: factor on it for the weights that Muon takes: the product is
            their relative change per step. They do not decay.
        gradient_norm: of all gradients together, above which they are scaled down to it; `None` =
            they stay. Deep networks with narrow layers begin with gradients a hundred times as long
            as they end with.
        weight_decay: on convolution and linear weights, not on norms and biases.
        warm_up_share: share of the steps in which the learning rate rises linearly.
        label_smoothing: share of the target spread over all classes.
        ema_decay: upper limit of the decay of the averaged weights (see `WeightAverage`).
        averaged_share: last share of a training that they are about the mean of, up to that decay.
        freeze_epochs: first epochs that train only the classifier (norm statistics stay).
        keep_norm_statistics: whether norms keep the statistics they start with, in training as in
            evaluation; their scales and biases learn.
        frozen_blocks: first blocks that keep the weights they start with: nothing is computed
            backwards through them. They need `keep_norm_statistics`.
        low_resolution: side in pixels of the pictures in the first steps; `None` = full always.
        low_resolution_share: share of the steps at that resolution.
        resolution_scales: multiples of the network's resolution, one of which is drawn for every
            other step; empty = always 1. A network that has seen several sizes answers at all.
        augmentation: random changes of the training pictures.
        boxes: those of pictures with boxes, which change with them; `None` = there are none.
        mixup: share of the steps in which every picture and its label are blended with another
            picture of the batch, at a ratio that is uniform in 0..1 (arXiv 1710.09412).
        cutmix: share of the steps in which a square of another picture of the batch is pasted in,
            and the labels are blended by area (arXiv 1905.04899).
        full_strength_epochs: a training of fewer epochs gets its shifts, changed colours, erasing,
            mixup and cutmix in proportion: what keeps a long one from learning by heart holds a
            short one back.
        distillation_weight: share of the loss that comes from the teacher.
        distillation_temperature: softens the logits of teacher and student.
        seed: of order, augmentation and dropout.
    """

    epochs: int | None = Field(default=None, ge=1)
    time_s: float | None = Field(default=None, gt=0.0)
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0.0)
    peak_steps: int | None = Field(default=None, ge=1)
    least_peak_steps: int | None = Field(default=None, ge=1)
    decay: Literal["cosine", "linear"] = "cosine"
    backbone_learning_rate_scale: float = Field(default=1.0, ge=0.0)
    norm_bias_learning_rate_scale: float = Field(default=1.0, ge=0.0)
    muon_learning_rate_scale: float = Field(default=0.2, gt=0.0)
    gradient_norm: float | None = Field(default=None, gt=0.0)
    weight_decay: float = Field(default=5e-4, ge=0.0)
    warm_up_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    averaged_share: float = Field(default=0.1, gt=0.0, le=1.0)
    freeze_epochs: int = Field(default=0, ge=0)
    keep_norm_statistics: bool = False
    frozen_blocks: int = Field(default=0, ge=0)
    low_resolution: int | None = Field(default=None, ge=1)
    low_resolution_share: float = Field(default=0.0, ge=0.0, le=1.0)
    resolution_scales: tuple[Annotated[float, Field(gt=0.0)], ...] = ()
    augmentation: Augmentation = Augmentation()
    boxes: BoxAugmentation | None = None
    mixup: float = Field(default=0.0, ge=0.0, le=1.0)
    cutmix: float = Field(default=0.0, ge=0.0, le=1.0)
    full_strength_epochs: int = Field(default=1, ge=1)
    distillation_weight: float = Field(default=0.0, ge=0.0, le=1.0)
    distillation_temperature: float = Field(default=2.0, gt=0.0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.time_s is None):
            raise ValueError("exactly one of epochs and time_s must be given")
        if self.frozen_blocks and not self.keep_norm_statistics:
            raise ValueError(
                "frozen_blocks needs keep_norm_statistics: their norms are not trained"
            )
        if self.mixup + self.cutmix > 1.0:
            raise ValueError("mixup and cutmix are shares of the steps: at most 1 together")
        return self


def default_recipe(  # noqa: PLR0913 - all that a recipe depends on
    *,
    pretrained: bool,
    resolution: int,
    images: int,
    epochs: int | None = None,
    time_s: float | None = None,
    distillation: bool = False,
    whole: bool = True,
    knows_classes: bool = False,
    seed: int = 0,
) -> Recipe:
    """Return the recipe for a kind of training.

    Args:
        pretrained: whether the weights come from a larger data set (fine-tuning).
        resolution: side of the pictures in pixels; up to 64 counts as small pictures.
        images: number of training pictures; a small set gets smaller batches.
        epochs: the length in passes over the pictures.
        time_s: the length in seconds; with neither, an epoch count that suits `images`.
        distillation: whether there is a teacher; most of the loss then comes from it, and more of
            the batches are blended (pictures that only the teacher can label).
        whole: whether the norms' statistics fit the pretrained weights: they are then kept
            (docs/adr/0012-norm-statistics.md); those of weights sliced to a width fit no more.
        knows_classes: whether the network answers these classes already, since its classifier was
            fitted to the features or it was trained before: a training of a few steps then keeps
            what it started with, instead of learning fast.
        seed: of order, augmentation and dropout.
    """
    small = resolution <= SMALL_RESOLUTION
    if epochs is None and time_s is None:
        epochs = _usual_epochs(images, pretrained=pretrained)
    if pretrained:  # docs/adr/0019-small-batches.md, 0020-a-longer-mean.md
        recipe = Recipe(
            epochs=epochs,
            time_s=time_s,
            batch_size=_batch_size(images, largest=32 if whole else 64),
            optimizer="adamw",
            learning_rate=1e-3,
            backbone_learning_rate_scale=1.0 if whole else 0.5,
            ema_decay=0.9999 if whole else 0.999,
            averaged_share=0.25 if whole else 0.1,
            weight_decay=0.05,
            mixup=0.25,
            cutmix=0.25,
            full_strength_epochs=40,
            keep_norm_statistics=whole,
            least_peak_steps=_LEAST_PEAK_STEPS if knows_classes else None,
        )
    elif small:
        # Muon and its rate, 24 pixels first and little augmentation in short trainings:
        # benchmarks/small_recipe.py (two minutes each, one seed). The peak of a long training:
        # benchmarks/results/fit_cifar10.json. With half the shifts and erasing over 21 epochs val
        # gained nothing in the last six while the training loss fell by a fifth: full strength
        # from 24 epochs on.
        batch_size = _batch_size(images, largest=256)
        recipe = Recipe(
            epochs=epochs,
            time_s=time_s,
            batch_size=batch_size,
            optimizer="muon",
            learning_rate=0.2 * (batch_size / 128) ** 0.5,
            peak_steps=_FULL_PEAK_IMAGES // batch_size,
            gradient_norm=GRADIENT_NORM,
            decay="linear",
            weight_decay=5e-4,
            norm_bias_learning_rate_scale=16.0,
            low_resolution=resolution * 3 // 32 * 8 if resolution >= 32 else None,
            low_resolution_share=0.4,
            full_strength_epochs=24,
        )
    else:
        batch_size = _batch_size(images, largest=64)
        recipe = Recipe(
            epochs=epochs,
            time_s=time_s,
            batch_size=batch_size,
            optimizer="adamw",
            learning_rate=2e-3 * (batch_size / 64) ** 0.5,
            weight_decay=0.05,
            low_resolution=_multiple_of_32(0.6 * resolution),
            low_resolution_share=0.5,
        )
    changes = {
        "augmentation": _small_augmentation(resolution) if small else _photo_augmentation(),
        "distillation_weight": 0.7 if distillation else 0.0,
        "mixup": 0.3 if distillation else recipe.mixup,
        "seed": seed,
    }
    return Recipe.model_validate({**recipe.model_dump(), **changes})


def int8_recipe(
    recipe: Recipe, *, epochs: int | None = None, time_s: float | None = None
) -> Recipe:
    """Return the recipe for the end of a training that learns from being rounded to int8.

    Weights move by little, at the full size, towards the answers of the network before. Measured:
    docs/adr/0010-int8-finish.md.

    Args:
        recipe: of the training before.
        epochs: the length in passes over the pictures.
        time_s: the length in seconds; one of both.
    """
    changes = {
        "epochs": epochs,
        "time_s": time_s,
        "batch_size": max(8, recipe.batch_size // 4),
        "optimizer": "adamw",
        "learning_rate": 2e-5,
        "peak_steps": None,
        "least_peak_steps": None,
        "decay": "cosine",
        "backbone_learning_rate_scale": 1.0,
        "norm_bias_learning_rate_scale": 1.0,
        "gradient_norm": None,
        "weight_decay": 0.0,
        "ema_decay": 0.99,
        "averaged_share": 0.1,
        "freeze_epochs": 0,
        "frozen_blocks": 0,
        "low_resolution": None,
        "low_resolution_share": 0.0,
        "resolution_scales": (),
        "mixup": 0.0,
        "cutmix": 0.0,
        "full_strength_epochs": 1,
        "distillation_weight": 1.0,
        "distillation_temperature": 1.0,
    }
    return Recipe.model_validate({**recipe.model_dump(), **changes})


def _usual_epochs(images: int, *, pretrained: bool) -> int:
    """Fewer passes over more pictures: 10 or 20 at 50,000, at most 40 or 100."""
    base, most = (500_000, 40) if pretrained else (1_000_000, 100)
    return max(10, min(most, base // max(images, 1)))


def _batch_size(images: int, *, largest: int) -> int:
    """Return the largest power of two up to `largest` that leaves 16 steps per epoch (>= 8)."""
    size = largest
    while size > 8 and images // size < 16:
        size //= 2
    return size


def _multiple_of_32(value: float) -> int:
    return max(32, int(value + 16) // 32 * 32)


def _small_augmentation(resolution: int) -> Augmentation:
    return Augmentation(flip=resolution >= 24, translate_px=max(1, resolution // 8), erase=0.25)


def _photo_augmentation() -> Augmentation:
    return Augmentation(
        flip=True, crop_scale=(0.35, 1.0), brightness=0.2, contrast=0.2, saturation=0.2
    )
