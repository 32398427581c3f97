"""One training step: augment, forward, loss, backward, update."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.data.augmentation import Augmentation
from featherweight.detection.detector import Detector
from featherweight.errors import UsageError
from featherweight.networks.modules import AnyNetwork, backbone_norms
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.slicing import norms_of
from featherweight.nn.network import Network
from featherweight.training.averaging import WeightAverage
from featherweight.training.compute import Compute
from featherweight.training.evaluate import Sample
from featherweight.training.fake_quantisation import FakeQuantised, Int8Levels
from featherweight.training.forward import answer
from featherweight.training.objective import Objective, View
from featherweight.training.optimizer import create_optimizer, set_learning_rate
from featherweight.training.recipe import Recipe

__all__ = ["Learner", "Teacher", "create_learner"]


@dataclass(frozen=True)
class Teacher:
    """A trained network whose answers the student imitates, with its own input conventions."""

    network: AnyNetwork
    preprocessing: Preprocessing

    def logits(self, inputs: Tensor, *, student: Preprocessing, compute: Compute) -> Tensor:
        """Answer the student's normalised pictures (N, C, H, W): the same views, resized."""
        if (self.preprocessing.mean, self.preprocessing.std) != (student.mean, student.std):
            mean, std = _columns(student, inputs)
            own_mean, own_std = _columns(self.preprocessing, inputs)
            inputs = (inputs * std + mean - own_mean) / own_std
        resolution = self.network.architecture.resolution
        if inputs.shape[2] != resolution:
            inputs = functional.interpolate(
                inputs, (resolution, resolution), mode="bilinear", antialias=True
            )
        with torch.no_grad():
            return answer(self.network, compute.arrange(inputs))


@dataclass(frozen=True)
class Learner:
    """A network in training with everything one step touches."""

    network: AnyNetwork
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    preprocessing: Preprocessing
    compute: Compute
    teacher: Teacher | None
    objective: Objective
    levels: Int8Levels | None = None

    @property
    def judged(self) -> AnyNetwork | FakeQuantised:
        """What is asked on val: the averaged network, as its int8 file would if that is learnt."""
        averaged = self.average.network
        if self.levels is None:
            return averaged
        assert isinstance(averaged, Network), "levels are those of a classifier's file"
        return FakeQuantised(averaged, self.levels).eval()

    def moving_norms(self, network: AnyNetwork) -> list[nn.BatchNorm2d]:
        """Return the norms of a network that do not keep the statistics they start with."""
        kept = {id(norm) for norm in self._kept_norms(network)}
        return [norm for norm in norms_of(network) if id(norm) not in kept]

    def _kept_norms(self, network: AnyNetwork) -> list[nn.BatchNorm2d]:
        return backbone_norms(network) if self.recipe.keep_norm_statistics else []

    def step(
        self,
        sample: Sample,
        *,
        size: int,
        frozen: bool,
        learning_rate: float,
        generator: torch.Generator,
        strength: float = 1.0,
        progress: float = 0.0,
    ) -> Tensor:
        """Learn from one batch; return its loss (a scalar on the device).

        Args:
            sample: N pictures.
            size: side of the pictures the network sees.
            frozen: whether only the classifier learns.
            learning_rate: the classifier's.
            generator: of the augmentation.
            strength: share of the recipe's shifts, colours, erasing, mixup and cutmix, in 0..1.
            progress: share of the training that is over, in 0..1.
        """
        side = self._view_size(size)
        view = View(
            size=side,
            augmentation=self._augmentation(side / size, strength),
            strength=strength,
            preprocessing=self.preprocessing,
            aspects=sample.aspects,
            progress=progress,
        )
        inputs, right = self.objective.batch(
            sample.pixels.to(self.compute.device),
            sample.targets.to(self.compute.device),
            view,
            recipe=self.recipe,
            generator=generator,
        )
        inputs = self.compute.arrange(inputs)
        with self.compute.autocast():
            seen = self._seen(inputs, size)
            answers = self._answer_frozen(seen) if frozen else self._answers(seen, right)
            taught = self._taught(inputs)
        loss = self._loss(answers, right, taught, sample.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.gradient_norm)
        set_learning_rate(self.optimizer, learning_rate)
        self.optimizer.step()
        self.average.update(self.network)
        return loss.detach()

    def _view_size(self, size: int) -> int:
        """Pictures are cut at the teacher's size where that is larger: both see the same view."""
        if self.teacher is None or self.recipe.distillation_weight == 0.0:
            return size
        return max(size, self.teacher.network.architecture.resolution)

    def _augmentation(self, scale: float, strength: float) -> Augmentation:
        """Return the recipe's augmentation, weaker, for views that are `scale` times as large."""
        augmentation = self.recipe.augmentation
        changed = {
            "translate_px": round(scale * strength * augmentation.translate_px),
            "erase": strength * augmentation.erase,
            "brightness": strength * augmentation.brightness,
            "contrast": strength * augmentation.contrast,
            "saturation": strength * augmentation.saturation,
        }
        return augmentation.model_copy(update=changed)

    def _seen(self, inputs: Tensor, size: int) -> Tensor:
        if inputs.shape[2] == size:
            return inputs
        smaller = functional.interpolate(inputs, (size, size), mode="bilinear", antialias=True)
        return self.compute.arrange(smaller)

    def _answers(self, inputs: Tensor, right: Any) -> Any:
        if self.levels is not None:  # norms keep their statistics, and nothing is dropped
            assert isinstance(self.network, Network), "levels are those of a classifier's file"
            rounded = FakeQuantised(self.network.eval(), self.levels)
            return self.objective.answers(rounded, inputs, right)
        self.network.train()
        for norm in self._kept_norms(self.network):
            norm.eval()
        return self.objective.answers(self.network, inputs, right)

    def _answer_frozen(self, inputs: Tensor) -> Tensor:
        """Norms keep their statistics; dropout before the classifier stays on."""
        assert isinstance(self.network, Network), "a detector has no classifier"
        self.network.eval()
        with torch.no_grad():
            features = self.network.forward_features(inputs)
        classifier = self.network.get_submodule("classifier").train()
        logits: Tensor = classifier(features)
        return logits.float()

    def _taught(self, inputs: Tensor) -> Tensor | None:
        if self.teacher is None or self.recipe.distillation_weight == 0.0:
            return None
        return self.teacher.logits(inputs, student=self.preprocessing, compute=self.compute)

    def _loss(
        self, answers: Any, right: Any, taught: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        """Return the loss of the task, mixed with how far the teacher is.

        Source: arXiv 1503.02531 (the factor temperature^2 keeps the gradients' scale) and
        2106.05237 (teacher and student see the same crop, blended pictures included).
        """
        if weights is not None:
            weights = weights.to(self.compute.device)
        loss = self.objective.loss(
            answers, right, smoothing=self.recipe.label_smoothing, weights=weights
        )
        if taught is None:
            return loss
        temperature, weight = self.recipe.distillation_temperature, self.recipe.distillation_weight
        distance = self.objective.imitation(answers, taught.float(), temperature=temperature)
        return (1.0 - weight) * loss + weight * temperature**2 * distance


def create_learner(
    network: AnyNetwork,
    *,
    recipe: Recipe,
    preprocessing: Preprocessing,
    compute: Compute,
    teacher: Teacher | None,
    objective: Objective,
    levels: Int8Levels | None = None,
) -> Learner:
    """Copy a network (and its teacher) to where `compute` says, with a fresh optimizer."""
    student = compute.place(copy.deepcopy(network)).requires_grad_(True)  # noqa: FBT003
    drawn = network.architecture
    prefix, blocks = (
        ("dense.blocks", drawn.backbone.blocks)
        if isinstance(drawn, Detector)
        else ("blocks", drawn.blocks)
    )
    if recipe.frozen_blocks > len(blocks):
        raise UsageError(
            f"{recipe.frozen_blocks} blocks of {drawn.name} cannot be frozen",
            allowed=f"0 to {len(blocks)}",
        )
    for block in range(recipe.frozen_blocks):
        student.get_submodule(f"{prefix}.{block}").requires_grad_(False)  # noqa: FBT003
    if teacher is not None:
        placed = compute.place(copy.deepcopy(teacher.network)).eval().requires_grad_(False)  # noqa: FBT003
        teacher = Teacher(placed, teacher.preprocessing)
    return Learner(
        network=student,
        average=WeightAverage(student, decay=recipe.ema_decay, share=recipe.averaged_share),
        optimizer=create_optimizer(student, recipe, dtype=compute.torch_dtype),
        recipe=recipe,
        preprocessing=preprocessing,
        compute=compute,
        teacher=teacher,
        objective=objective,
        levels=levels,
    )


def _columns(preprocessing: Preprocessing, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(preprocessing.mean, device=like.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=like.device).view(1, -1, 1, 1)
    return mean, std
