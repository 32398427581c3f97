"""Time real training steps: which memory format and arithmetic win, and how long a step takes."""

from __future__ import annotations

import functools
import logging
import statistics
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing
from featherweight.training.compute import Compute
from featherweight.training.evaluate import TrainingImages, evaluate_placed
from featherweight.training.fake_quantisation import Int8Levels
from featherweight.training.objective import OBJECTIVES
from featherweight.training.recipe import Recipe
from featherweight.training.step import Learner, Teacher, create_learner

__all__ = ["SpeedChoice", "StepTimer", "choose_compute"]

logger = logging.getLogger(__name__)

_Variant = tuple[Literal["contiguous", "channels_last"], Literal["fp32", "bf16"]]
# Not contiguous bfloat16: it has won nowhere, and timing it costs a fit of minutes some seconds.
_VARIANTS: tuple[_Variant, ...] = (
    ("contiguous", "fp32"),
    ("channels_last", "fp32"),
    ("channels_last", "bf16"),
)
_PROBE_PIXELS = 4 * 224 * 224  # a batch that shows which variant wins without taking long
_FEW = 8  # pictures
_VARIANT_S = 0.5  # timing of one variant, after its first step ...
_VARIANT_SHARE = 0.01  # ... and as a share of the recipe's time
_SHORT_S = 600.0  # a shorter training has no time for several turns
_EMULATED = 4.0  # times slower than float32: no arithmetic of its own
_CLEARLY_FASTER = 0.97  # a later variant must beat the simpler one by more than the noise


@dataclass(frozen=True)
class SpeedChoice:
    """The winner and the images per second of every variant (`None` = gave up early)."""

    compute: Compute
    images_per_s: dict[str, float | None]

    @property
    def fastest_images_per_s(self) -> float:
        """Images per second of the winner."""
        found = self.images_per_s[f"{self.compute.memory_format}/{self.compute.dtype}"]
        assert found is not None, "the winner was timed"
        return found


@dataclass(frozen=True)
class StepTimer:
    """Runs training steps on a copy of the network, so that nothing learns from being timed."""

    network: AnyNetwork
    train: TrainingImages
    recipe: Recipe
    preprocessing: Preprocessing
    teacher: Teacher | None
    levels: Int8Levels | None = None

    def learner(self, compute: Compute) -> Learner:
        """Copy the network into a form of computing."""
        return create_learner(
            self.network,
            recipe=self.recipe,
            preprocessing=self.preprocessing,
            compute=compute,
            teacher=self.teacher,
            objective=OBJECTIVES[self.train.task],
            levels=self.levels,
        )

    def step_s(self, learner: Learner, *, batch_size: int, size: int, frozen: bool) -> float:
        """Return the seconds of one step, with fetching the pictures and their augmentation."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        rows = np.arange(min(batch_size, len(self.train)))
        learner.compute.synchronise()
        start = time.perf_counter()
        learner.step(
            self.train.batch(rows),
            size=size,
            frozen=frozen,
            learning_rate=1e-6,
            generator=generator,
        ).item()
        learner.compute.synchronise()
        return time.perf_counter() - start

    @property
    def few_pictures(self) -> int:
        """A batch that shows how fast a network learns, without taking long."""
        pixels = self.network.architecture.resolution**2
        most = min(self.recipe.batch_size, len(self.train))
        return min(most, max(_FEW, _PROBE_PIXELS // pixels))

    def mean_step_s(
        self,
        compute: Compute,
        *,
        size: int,
        frozen: bool,
        steps: int,
        most_s: float,
        batch_size: int | None = None,
    ) -> float:
        """Return the mean of `steps` steps after two of warm-up; fewer (>= 3) beyond `most_s`.

        `batch_size` is that of the recipe where none is given.
        """
        learner = self.learner(compute)
        batch_size = batch_size or self.recipe.batch_size
        seconds: list[float] = []
        while len(seconds) < 5 or (len(seconds) < 2 + steps and sum(seconds) < most_s):
            seconds.append(self.step_s(learner, batch_size=batch_size, size=size, frozen=frozen))
        return statistics.fmean(seconds[2:])

    def validation_s(self, compute: Compute, val: TrainingImages) -> float:
        """Return the estimated seconds of validating all pictures."""
        learner = self.learner(compute)
        few = min(len(val), 256)
        part = TrainingImages(val.pixels[:few], val.targets[:few], task=val.task)
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            evaluate_placed(learner.judged, part, preprocessing=self.preprocessing, compute=compute)
            seconds.append(time.perf_counter() - start)
        return seconds[-1] * len(val) / few


def choose_compute(timer: StepTimer, *, device: torch.device) -> SpeedChoice:
    """Time a few steps in each form (fp32, channels_last, channels_last bf16); return the fastest.

    bfloat16 is first tried on one small convolution (once in a process), then on a few pictures:
    a CPU without it may need a minute for what takes a second in float32. Weights, norm
    statistics and random generators stay as they are.
    """
    batch_size = timer.few_pictures
    forms = [
        Compute(device=device, memory_format=memory_format, dtype=dtype)
        for memory_format, dtype in _VARIANTS
    ]
    timed = [form for form in forms if form.dtype == "fp32"]
    if device.type != "cpu" or not _emulates_bf16():
        timed += [form for form in forms if form.dtype == "bf16" and _is_promising(timer, form)]
    seconds = _fastest_steps_s(timer, timed, batch_size=batch_size)
    best = timed[0]
    for form in timed[1:]:
        if seconds[form] < _CLEARLY_FASTER * seconds[best]:
            best = form
    found = {
        f"{form.memory_format}/{form.dtype}": batch_size / seconds[form]
        if form in seconds
        else None
        for form in forms
    }
    logger.info(
        "training computes in %s %s on %s (pictures/s: %s)",
        best.memory_format,
        best.dtype,
        best.device,
        ", ".join(f"{name} {speed:.0f}" for name, speed in found.items() if speed is not None),
    )
    return SpeedChoice(best, found)


@functools.cache
def _emulates_bf16() -> bool:
    """Whether a small convolution on the CPU takes several times as long as in float32."""
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = torch.ones(8, 32, 32, 32, dtype=dtype)
        weight = torch.ones(32, 32, 3, 3, dtype=dtype)
        turns = []
        for _ in range(3):
            start = time.perf_counter()
            torch.conv2d(inputs, weight).sum().item()
            turns.append(time.perf_counter() - start)
        seconds.append(min(turns))
    return seconds[1] > _EMULATED * seconds[0]


def _is_promising(timer: StepTimer, form: Compute) -> bool:
    """Whether a step on a few pictures takes less than twice its time in float32."""
    resolution = timer.network.architecture.resolution
    seconds = []
    for tried in (replace(form, dtype="fp32"), form):
        learner = timer.learner(tried)
        two = [
            timer.step_s(learner, batch_size=_FEW, size=resolution, frozen=False) for _ in range(2)
        ]
        seconds.append(min(two))
    return seconds[1] < 2 * seconds[0]


def _fastest_steps_s(
    timer: StepTimer, forms: list[Compute], *, batch_size: int
) -> dict[Compute, float]:
    """Return the least seconds of a step in each form, taken in turns after one of warm-up.

    Other work on the machine only ever adds time: the least of several turns sees it least.
    """
    size, time_s = timer.network.architecture.resolution, timer.recipe.time_s
    learners = {form: timer.learner(form) for form in forms}

    def turn() -> list[float]:
        return [
            timer.step_s(learner, batch_size=batch_size, size=size, frozen=False)
            for learner in learners.values()
        ]

    longest_s = max(turn())
    most_s = _VARIANT_S if time_s is None else min(_VARIANT_S, _VARIANT_SHARE * time_s)
    least = 3 if time_s is None or time_s >= _SHORT_S else 1
    turns = [turn() for _ in range(max(least, min(10, int(most_s / longest_s))))]
    return {form: min(column) for form, column in zip(forms, zip(*turns, strict=True), strict=True)}
