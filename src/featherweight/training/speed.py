"""Time real training steps: which memory format and arithmetic win, and how long a step takes."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.training.compute import Compute
from featherweight.training.evaluate import TrainingImages, evaluate_placed
from featherweight.training.recipe import Recipe
from featherweight.training.step import Learner, Teacher, create_learner

__all__ = ["Probe", "SpeedChoice", "choose_compute"]

logger = logging.getLogger(__name__)

_Variant = tuple[Literal["contiguous", "channels_last"], Literal["fp32", "bf16"]]
_VARIANTS: tuple[_Variant, ...] = (
    ("contiguous", "fp32"),
    ("channels_last", "fp32"),
    ("contiguous", "bf16"),
    ("channels_last", "bf16"),
)
_PROBE_PIXELS = 16 * 224 * 224  # a batch that shows which variant wins without taking long
_VARIANT_S = 0.5  # timing of one variant, after its first step ...
_VARIANT_SHARE = 0.01  # ... and as a share of the recipe's time
_CLEARLY_FASTER = 0.97  # a later variant must beat the simpler one by more than the noise


@dataclass(frozen=True)
class SpeedChoice:
    """The winner and the images per second of every variant (`None` = gave up early)."""

    compute: Compute
    images_per_s: dict[str, float | None]


@dataclass(frozen=True)
class Probe:
    """Runs training steps on a copy of the network, so that nothing learns from being timed."""

    network: Network
    train: TrainingImages
    recipe: Recipe
    preprocessing: Preprocessing
    teacher: Teacher | None

    def learner(self, compute: Compute) -> Learner:
        """Copy the network into a form of computing."""
        return create_learner(
            self.network, recipe=self.recipe, preprocessing=self.preprocessing,
            compute=compute, teacher=self.teacher,
        )  # fmt: skip

    def step_s(self, learner: Learner, *, batch_size: int, size: int, frozen: bool) -> float:
        """Return the seconds of one step, with fetching the pictures and their augmentation."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        rows = np.arange(min(batch_size, len(self.train)))
        learner.compute.synchronise()
        start = time.perf_counter()
        pixels, labels = self.train.batch(rows)
        learner.step(
            pixels, labels, size=size, frozen=frozen,
            learning_rate=1e-6, generator=generator,
        ).item()  # fmt: skip
        learner.compute.synchronise()
        return time.perf_counter() - start

    def mean_step_s(
        self, compute: Compute, *, size: int, frozen: bool, steps: int, most_s: float
    ) -> float:
        """Return the mean of `steps` steps after two of warm-up; fewer (>= 3) beyond `most_s`."""
        learner = self.learner(compute)
        batch_size = self.recipe.batch_size
        seconds: list[float] = []
        while len(seconds) < 5 or (len(seconds) < 2 + steps and sum(seconds) < most_s):
            seconds.append(self.step_s(learner, batch_size=batch_size, size=size, frozen=frozen))
        return statistics.fmean(seconds[2:])

    def validation_s(self, compute: Compute, val: TrainingImages) -> float:
        """Return the estimated seconds of validating all pictures."""
        learner = self.learner(compute)
        few = min(len(val), 256)
        part = TrainingImages(val.pixels[:few], val.labels[:few])
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            evaluate_placed(
                learner.average.network, part, preprocessing=self.preprocessing, compute=compute
            )
            seconds.append(time.perf_counter() - start)
        return seconds[-1] * len(val) / few


def choose_compute(probe: Probe, *, device: torch.device) -> SpeedChoice:
    """Time a few steps of {contiguous, channels_last} x {fp32, bf16} and return the fastest.

    A variant whose first step takes four times the best step so far is given up (bfloat16 on a
    CPU without it). Weights, norm statistics and random generators stay as they are.
    """
    resolution = probe.network.architecture.resolution
    batch_size = min(
        probe.recipe.batch_size, len(probe.train), max(8, _PROBE_PIXELS // resolution**2)
    )
    best: tuple[float, Compute] | None = None
    found: dict[str, float | None] = {}
    for memory_format, dtype in _VARIANTS:
        compute = Compute(device=device, memory_format=memory_format, dtype=dtype)
        limit_s = 4 * best[0] if best else float("inf")
        seconds = _variant_s(probe, compute, batch_size=batch_size, limit_s=limit_s)
        found[f"{memory_format}/{dtype}"] = None if seconds is None else batch_size / seconds
        if seconds is not None and (best is None or seconds < _CLEARLY_FASTER * best[0]):
            best = (seconds, compute)
    assert best is not None
    logger.info("training computes in %s: %s", best[1], found)
    return SpeedChoice(best[1], found)


def _variant_s(probe: Probe, compute: Compute, *, batch_size: int, limit_s: float) -> float | None:
    """Return the median seconds of a step; `None` when the first one exceeds the limit."""
    learner = probe.learner(compute)
    timed = {"batch_size": batch_size, "size": probe.network.architecture.resolution}
    first_s = probe.step_s(learner, frozen=False, **timed)
    if first_s > limit_s:
        # One more: the first step of a variant also pays for choosing kernels.
        first_s = probe.step_s(learner, frozen=False, **timed)
        if first_s > limit_s:
            return None
    time_s = probe.recipe.time_s
    most_s = _VARIANT_S if time_s is None else min(_VARIANT_S, _VARIANT_SHARE * time_s)
    steps = max(3, min(10, int(most_s / first_s)))
    return statistics.median(probe.step_s(learner, frozen=False, **timed) for _ in range(steps))
