"""How many steps a new training takes: by its epochs, or by what steps take and the clock."""

from __future__ import annotations

import time

from featherweight.training.compute import Compute
from featherweight.training.evaluate import TrainingImages
from featherweight.training.recipe import Recipe
from featherweight.training.schedule import Plan, StepSeconds, plan_epochs, plan_time
from featherweight.training.speed import StepTimer

__all__ = ["forward_speed", "make_plan"]

_FORWARD_SPEED, _FORWARD_SPEED_FROZEN = 3.0, 2.0
"""Times the pictures per second of a training step: a step goes forward once and back twice. With
frozen early blocks it is 1.5 times as fast (docs/adr/0017-early-blocks-stay.md), forward as before.
"""

_TIMED_STEPS = 20
_TIMING_SHARE = 0.04
_DISK_BYTES_PER_S = 2e8


def forward_speed(recipe: Recipe) -> float:
    """Return how many pictures a network answers in the time in which it learns from one."""
    return _FORWARD_SPEED_FROZEN if recipe.frozen_blocks else _FORWARD_SPEED


def make_plan(
    timer: StepTimer,
    val: TrainingImages,
    compute: Compute,
    started_s: float,
    images_per_s: float | None,
) -> Plan:
    """Plan a new training by its epochs, or by the clock.

    Args:
        timer: times steps.
        val: validation pictures.
        compute: the form of computing.
        started_s: `time.perf_counter()` at the start.
        images_per_s: how many pictures a second the network trains on; `None` = it is timed.
    """
    recipe, resolution = timer.recipe, timer.network.architecture.resolution
    images = len(timer.train)
    if recipe.time_s is None:
        return plan_epochs(recipe, images=images, resolution=resolution)
    if images_per_s is not None and recipe.low_resolution is None and not recipe.freeze_epochs:
        known_s = recipe.batch_size / images_per_s
        step_s: StepSeconds = lambda frozen, size: known_s  # noqa: ARG005, E731
        validation_s = len(val) / (forward_speed(recipe) * images_per_s)
    else:
        step_s = _time_steps(timer, compute, resolution)
        validation_s = timer.validation_s(compute, val)
    weights = sum(tensor.nbytes for tensor in timer.network.state_dict().values())
    epoch_end_s = validation_s + 4 * weights / _DISK_BYTES_PER_S
    elapsed_s = time.perf_counter() - started_s
    plan = plan_time(
        recipe,
        images=images,
        resolution=resolution,
        step_s=step_s,
        epoch_end_s=epoch_end_s,
        available_s=recipe.time_s - elapsed_s,
    )
    return plan.model_copy(update={"begun_s": elapsed_s})


def _time_steps(timer: StepTimer, compute: Compute, resolution: int) -> StepSeconds:
    """Time a step at the full size and, where there is one, at the low one; others when asked."""
    recipe = timer.recipe
    assert recipe.time_s is not None
    most_s = _TIMING_SHARE * recipe.time_s
    measured: dict[tuple[bool, int], float] = {}

    def step_s(frozen: bool, size: int) -> float:  # noqa: FBT001 - StepSeconds
        if (frozen, size) not in measured:
            measured[frozen, size] = timer.mean_step_s(
                compute, size=size, frozen=frozen, steps=_TIMED_STEPS, most_s=most_s
            )
        return measured[frozen, size]

    step_s(False, resolution)  # noqa: FBT003
    if recipe.low_resolution is not None and recipe.low_resolution_share > 0:
        step_s(False, min(recipe.low_resolution, resolution))  # noqa: FBT003
    return step_s
