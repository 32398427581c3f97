"""What a training does when: a plan by steps, which a training with a time follows by its clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from featherweight.records import Record
from featherweight.training.recipe import Recipe

__all__ = ["Plan", "StepSeconds", "plan_epochs", "plan_time"]

StepSeconds = Callable[[bool, int], float]
"""(frozen backbone, resolution) -> seconds of one training step."""


class Plan(Record):
    """The steps of one training.

    A training whose length is a number of epochs takes exactly these steps. One whose length is
    a time takes as many as it can: the share of the time that is gone says which step of the plan
    is due (`due`), whatever the speed of the machine was when the plan was made.

    Attributes:
        total_steps: optimizer steps in all; where time counts, as many as were expected.
        steps_per_epoch: steps of a whole epoch; the last epoch may be shorter.
        batch_size: pictures per step.
        frozen_steps: first steps, which train only the classifier.
        low_steps: first steps, which see pictures of `low_resolution`.
        warm_up_steps: steps after the frozen ones in which the learning rate rises.
        strength: share of the recipe's shifts, colours, erasing, mixup and cutmix.
        peak: share of the recipe's learning rate that is reached.
        decay: how the learning rate falls to zero after the warm-up.
        resolution, low_resolution: sides of the pictures in pixels.
        resolutions: sides of which one is drawn for every step after the low ones; empty = always
            `resolution`.
        seed: of that drawing.
        begun_s: wall clock that was gone when the first step began, when time counts.
        epoch_end_s: what a validation and a checkpoint were estimated to take, when time counts.
        clock: (share of the time, step) at every change between frozen, low and full steps, where
            time counts: pictures of a low resolution take less of it.
    """

    total_steps: int
    steps_per_epoch: int
    batch_size: int
    frozen_steps: int = 0
    low_steps: int = 0
    warm_up_steps: int = 0
    strength: float = 1.0
    peak: float = 1.0
    decay: Literal["cosine", "linear"] = "cosine"
    resolution: int
    low_resolution: int
    resolutions: tuple[int, ...] = ()
    seed: int = 0
    begun_s: float = 0.0
    epoch_end_s: float = 0.0
    clock: tuple[tuple[float, int], ...] = ()

    @property
    def epochs(self) -> int:
        """Number of validations: whole epochs and the shorter last one."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def due(self, share: float) -> int:
        """Return the step that is due when this share of the time is gone, in 0..1."""
        shares, steps = zip(*self.clock, strict=True)
        return min(int(np.interp(share, shares, steps)), self.total_steps - 1)

    def frozen_at(self, step: int) -> bool:
        """Whether only the classifier is trained in `step` (counted from 0)."""
        return step < self.frozen_steps

    def resolution_at(self, step: int) -> int:
        """Side that the network is meant for in `step`."""
        return self.low_resolution if step < self.low_steps else self.resolution

    def side_at(self, step: int) -> int:
        """Side of the pictures in `step`: the same in every attempt."""
        if step < self.low_steps or not self.resolutions:
            return self.resolution_at(step)
        drawn = np.random.default_rng([self.seed, step]).integers(len(self.resolutions))
        return self.resolutions[int(drawn)]

    @property
    def mean_area(self) -> float:
        """Pixels of a picture after the low steps, as a multiple of those at `resolution`."""
        sides = self.resolutions or (self.resolution,)
        return sum(side**2 for side in sides) / (len(sides) * self.resolution**2)

    def learning_rate_scale(self, step: int) -> float:
        """Share of the recipe's learning rate in `step`: linear warm-up, then down to zero.

        While the backbone is frozen the rate is constant, and the schedule starts after that;
        a training that is frozen to its end follows the decay.
        """
        if self.frozen_at(step) and self.frozen_steps < self.total_steps:
            return self.peak
        start = self.frozen_steps if self.frozen_steps < self.total_steps else 0
        position = step - start
        if position < self.warm_up_steps:
            return self.peak * (position + 1) / (self.warm_up_steps + 1)
        left = self.total_steps - start - self.warm_up_steps
        gone = (position - self.warm_up_steps) / left
        if self.decay == "linear":
            return self.peak * (1.0 - gone)
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * gone))


def plan_epochs(recipe: Recipe, *, images: int, resolution: int) -> Plan:
    """Return the plan of a recipe whose length is a number of epochs."""
    assert recipe.epochs is not None
    steps = recipe.epochs * _steps_per_epoch(recipe, images)
    return _plan(recipe, total_steps=steps, images=images, resolution=resolution)


def plan_time(
    recipe: Recipe,
    *,
    images: int,
    resolution: int,
    available_s: float,
    step_s: StepSeconds,
    epoch_end_s: float,
) -> Plan:
    """Return the longest plan that fits the time at the speed of the moment.

    Args:
        recipe: the hyperparameters.
        images: number of training pictures.
        resolution: side of the pictures in pixels.
        available_s: what is left of the recipe's time.
        step_s: measured seconds of a step of each kind.
        epoch_end_s: measured seconds of a validation and a checkpoint.
    """

    def plan(total_steps: int) -> Plan:
        return _plan(recipe, total_steps=total_steps, images=images, resolution=resolution)

    def fits(total_steps: int) -> bool:
        return _duration_s(plan(total_steps), step_s, epoch_end_s) <= available_s

    low, high = 1, 2
    while fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    found = plan(low)
    parts = list(_parts_s(found, step_s))
    whole_s = sum(seconds for _, seconds in parts)
    gone_s = itertools.accumulate(seconds for _, seconds in parts)
    clock = [(s / whole_s, stop) for s, (stop, _) in zip(gone_s, parts, strict=True)]
    return found.model_copy(update={"epoch_end_s": epoch_end_s, "clock": ((0.0, 0), *clock)})


def _duration_s(plan: Plan, step_s: StepSeconds, epoch_end_s: float) -> float:
    return sum(seconds for _, seconds in _parts_s(plan, step_s)) + plan.epochs * epoch_end_s


def _parts_s(plan: Plan, step_s: StepSeconds) -> Iterator[tuple[int, float]]:
    """Yield the last step and the seconds of each stretch of equal steps."""
    edges = sorted({0, plan.frozen_steps, plan.low_steps, plan.total_steps})
    for start, stop in itertools.pairwise(edges):
        each_s = step_s(plan.frozen_at(start), plan.resolution_at(start))
        yield stop, (stop - start) * each_s * (1.0 if start < plan.low_steps else plan.mean_area)


def _steps_per_epoch(recipe: Recipe, images: int) -> int:
    return max(1, images // recipe.batch_size)


def _plan(recipe: Recipe, *, total_steps: int, images: int, resolution: int) -> Plan:
    steps_per_epoch = _steps_per_epoch(recipe, images)
    frozen = recipe.freeze_epochs * steps_per_epoch
    if recipe.time_s is not None:  # a short time must not be spent on the classifier alone
        frozen = min(frozen, total_steps // 3)
    frozen = min(frozen, total_steps)
    low = recipe.low_resolution or resolution
    meant = total_steps if recipe.peak_steps is None else recipe.peak_steps
    least = 1 if recipe.least_peak_steps is None else recipe.least_peak_steps
    scheduled = total_steps - frozen if frozen < total_steps else total_steps
    return Plan(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        batch_size=min(recipe.batch_size, images),
        frozen_steps=frozen,
        low_steps=int(recipe.low_resolution_share * total_steps) if low < resolution else 0,
        warm_up_steps=min(int(recipe.warm_up_share * scheduled), scheduled - 1),
        strength=min(1.0, total_steps / (recipe.full_strength_epochs * steps_per_epoch)),
        peak=min(1.0, math.sqrt(meant / total_steps), total_steps / least),
        decay=recipe.decay,
        resolution=resolution,
        low_resolution=min(low, resolution),
        resolutions=tuple(_multiple_of_8(scale * resolution) for scale in recipe.resolution_scales),
        seed=recipe.seed,
    )


def _multiple_of_8(pixels: float) -> int:
    return max(8, round(pixels / 8) * 8)
