"""A super-network: the networks of a space learn in turns, with weights that they share.

Source: uniform paths as in Guo et al. 2019, arXiv 1904.00420, section 3.3; narrower layers have the
first channels of wider ones, and norms are set anew on training pictures before a network is asked,
as in Yu et al. 2018, arXiv 1812.08928 (slimmable networks). What its scores are worth is told by
their rank correlation with networks that were trained alone (`searching.agreement.agreement`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featherweight.data.augmentation import normalise_batch
from featherweight.data.rows import spaced_rows
from featherweight.errors import DivergedError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.slicing import recalibrate_norms
from featherweight.records import Record
from featherweight.searching.shared_weights import SharedWeights
from featherweight.searching.space import Point, Space
from featherweight.training.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from featherweight.training.compute import Compute, choose_device, dropout_seed
from featherweight.training.evaluate import TrainingImages, evaluate_placed
from featherweight.training.memory import memory_kept
from featherweight.training.objective import OBJECTIVES, View
from featherweight.training.recipe import Recipe, default_recipe

__all__ = ["SuperNetwork", "train_super_network"]

_LEARNING_RATE, _WEIGHT_DECAY = 0.4, 5e-4
"""The rate was tried on the bundled digits alone (0.1, 0.2, 0.4; the highest learnt most)."""
_WARM_UP = 0.1
_MOST_CHANGE = 2.0
"""Norm of the gradient of all weights, above which it is scaled down."""
_CHECKPOINTS = 10
"""In the course of a training."""
_NORM_BATCH = 64
_JUDGING_PICTURES = 1000


class _State(Record):
    step: int
    elapsed_s: float


@dataclass(frozen=True)
class SuperNetwork:
    """Trained shared weights, and the pictures that judge their networks.

    Attributes:
        shared: the weights.
        norms: normalised training pictures (N, C, H, W) that norms take their statistics from.
        judging: pictures that are asked about.
        preprocessing: mean and standard deviation of the networks' input.
        compute: where networks are asked.
    """

    shared: SharedWeights
    norms: Tensor
    judging: TrainingImages
    preprocessing: Preprocessing
    compute: Compute

    def score(self, point: Point) -> float:
        """Return the accuracy of a network with the shared weights."""
        network = self.compute.place(self.shared.network(point))
        norms = self.norms.to(self.compute.device)
        # Pictures come class by class: every batch is of all of them, as those of the training.
        count = max(1, len(norms) // _NORM_BATCH)
        recalibrate_norms(network, [norms[first::count] for first in range(count)])
        return evaluate_placed(
            network, self.judging, preprocessing=self.preprocessing, compute=self.compute
        ).accuracy


def train_super_network(  # noqa: PLR0913 - one call says all of a training
    space: Space,
    *,
    train: TrainingImages,
    plain: TrainingImages,
    val: TrainingImages,
    preprocessing: Preprocessing,
    draw: Callable[[np.random.Generator], Point],
    time_s: float | None,
    epochs: int | None,
    seed: int,
    directory: Path,
    device: str = "auto",
    noted: Callable[[], None] = lambda: None,
) -> SuperNetwork:
    """Train the weights that networks of a space share: every step another network learns.

    `directory` gets a checkpoint ten times in its course; when one is there, the training goes on
    from it. By epochs it ends on one machine with the same weights as one that was not cut.

    Args:
        space: of the networks.
        train: training pictures.
        plain: some hundred of them, as the exported file takes them: norms take their statistics
            from these.
        val: some of them judge.
        preprocessing: mean and standard deviation of the networks' input.
        draw: the network of a step.
        time_s: wall clock of the training, over all attempts.
        epochs: passes over the pictures; one of both.
        seed: of weights, networks, order and augmentation.
        directory: of this training alone.
        device: `auto`, `cpu`, `cuda` or `mps`.
        noted: called after every checkpoint.

    Raises:
        RecordError: what lies in `directory` is no checkpoint.
        DivergedError: the loss is not finite.
    """
    recipe = default_recipe(
        pretrained=False,
        resolution=plain.pixels.shape[1],
        images=len(train),
        epochs=epochs,
        time_s=time_s,
        seed=seed,
    )
    place = choose_device(device)
    shared = SharedWeights(space, seed)
    learning = _Learning(shared, train, preprocessing, recipe, plain.pixels.shape[1], place)
    with memory_kept(), dropout_seed(place):
        learning.go(draw, directory=directory, noted=noted)
    rows = spaced_rows(len(val), most=min(len(val), _JUDGING_PICTURES))
    asked = TrainingImages(val.pixels[rows], val.targets[rows], task=val.task)
    few = plain.batch(slice(None)).pixels
    norms = normalise_batch(few, mean=preprocessing.mean, std=preprocessing.std)
    return SuperNetwork(shared, norms, asked, preprocessing, Compute(place))


@dataclass
class _Learning:
    """The steps of a training."""

    shared: SharedWeights
    train: TrainingImages
    preprocessing: Preprocessing
    recipe: Recipe
    resolution: int
    place: torch.device
    step: int = 0
    before_s: float = 0.0
    started_s: float = field(default_factory=time.perf_counter)

    def go(
        self,
        draw: Callable[[np.random.Generator], Point],
        *,
        directory: Path,
        noted: Callable[[], None],
    ) -> None:
        """Take the steps that are missing."""
        self._read(directory)
        written = int(self._share * _CHECKPOINTS)
        while self._share < 1.0:
            numbers = np.random.default_rng((self.recipe.seed, self.step))
            self._learn(draw(numbers), numbers)
            self.step += 1
            if int(self._share * _CHECKPOINTS) > written:
                written = int(self._share * _CHECKPOINTS)
                self._write(directory)
                noted()

    @property
    def _steps_per_epoch(self) -> int:
        return max(1, len(self.train) // self.recipe.batch_size)

    @property
    def _elapsed_s(self) -> float:
        return self.before_s + time.perf_counter() - self.started_s

    @property
    def _share(self) -> float:
        """Share of the training that is over."""
        if self.recipe.epochs is not None:
            return self.step / (self.recipe.epochs * self._steps_per_epoch)
        assert self.recipe.time_s is not None
        return min(1.0, self._elapsed_s / self.recipe.time_s)

    def _learn(self, point: Point, numbers: np.random.Generator) -> None:
        """Take one step of one network."""
        images, right = self._batch(numbers)
        objective = OBJECTIVES[self.train.task]
        leaves = {name: one.to(self.place) for name, one in self.shared.leaves(point).items()}
        answers = self.shared.answer(point, leaves, images)
        loss = objective.loss(answers, right, smoothing=self.recipe.label_smoothing)
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"the loss of the super-network became {loss.item()} in step {self.step}"
            )
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        found = {
            name: gradient.cpu()
            for name, gradient in zip(leaves, gradients, strict=True)
            if gradient is not None
        }
        norm = math.sqrt(sum(float(one.square().sum()) for one in found.values()))
        scale = min(1.0, _MOST_CHANGE / max(norm, 1e-12))
        self.shared.step(
            point,
            {name: scale * one for name, one in found.items()},
            rate=_LEARNING_RATE * _rate_scale(self._share),
            decay=_WEIGHT_DECAY,
        )

    def _batch(self, numbers: np.random.Generator) -> tuple[Tensor, Any]:
        """Return what a step learns from: each picture once an epoch."""
        epoch, index = divmod(self.step, self._steps_per_epoch)
        order = np.random.default_rng((self.recipe.seed, 1, epoch)).permutation(len(self.train))
        size = self.recipe.batch_size
        sample = self.train.batch(order[index * size : (index + 1) * size])
        view = View(
            size=self.resolution,
            augmentation=self.recipe.augmentation,
            strength=0.0,
            preprocessing=self.preprocessing,
            aspects=sample.aspects,
        )
        images, right = OBJECTIVES[self.train.task].batch(
            sample.pixels.to(self.place),
            sample.targets.to(self.place),
            view,
            recipe=self.recipe,
            generator=torch.Generator().manual_seed(int(numbers.integers(2**62))),
        )
        return images.contiguous(memory_format=torch.channels_last), right

    def _read(self, directory: Path) -> None:
        found = read_checkpoint(directory / CHECKPOINT, _State)
        if found is None:
            return
        state, tensors = found
        self.step, self.before_s = state.step, state.elapsed_s
        for name, tensor in tensors.items():
            part, _, key = name.partition(":")
            (self.shared.weights if part == "weights" else self.shared.momenta)[key] = tensor

    def _write(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        state = _State(step=self.step, elapsed_s=self._elapsed_s)
        tensors = {
            f"{part}:{key}": tensor
            for part, named in (("weights", self.shared.weights), ("momenta", self.shared.momenta))
            for key, tensor in named.items()
        }
        write_checkpoint(directory / CHECKPOINT, state, tensors=tensors)


def _rate_scale(share: float) -> float:
    """Return the share of the peak rate: a linear warm-up, then a cosine down to zero."""
    if share < _WARM_UP:
        return (share + 1e-3) / (_WARM_UP + 1e-3)
    return 0.5 * (1.0 + math.cos(math.pi * (share - _WARM_UP) / (1.0 - _WARM_UP)))
