"""The pictures that tell importances, tune proposals and judge them: training pictures, as kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.data.augmentation import normalise_batch
from featherweight.networks.preprocessing import Preprocessing
from featherweight.tasks.task import TASKS, Task
from featherweight.training.evaluate import TrainingImages
from featherweight.training.objective import OBJECTIVES, Objective

__all__ = ["Batch", "PictureSet", "load_pictures", "save_pictures"]

Batch = tuple[Tensor, Tensor]
"""Normalised pictures (N, C, H, W) and their targets (N, ...), on the CPU."""

_BATCH = 32


class PictureSet(NamedTuple):
    """Pictures as the exported file takes them, with what is right for them.

    Attributes:
        pixels: uint8 (N, S, S, C).
        targets: (N, ...), as the task has it.
        mean, std: of the network's input.
        kind: of the task.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.generic]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str

    @classmethod
    def of(cls, images: TrainingImages, preprocessing: Preprocessing, *, seed: int) -> PictureSet:
        """Return pictures in an order that is drawn: folders list them class by class."""
        order = np.random.default_rng(seed).permutation(len(images))
        return cls(
            np.ascontiguousarray(images.pixels[order]),
            np.ascontiguousarray(images.targets[order]),
            preprocessing.mean,
            preprocessing.std,
            images.task,
        )

    @property
    def task(self) -> Task:
        """What is asked about them."""
        return TASKS[self.kind]

    @property
    def objective(self) -> Objective:
        """How networks learn it."""
        return OBJECTIVES[self.kind]

    def part(self, first: int, last: int) -> PictureSet:
        """Return the pictures from the first to before the last."""
        return self._replace(pixels=self.pixels[first:last], targets=self.targets[first:last])

    def at(self, resolution: int) -> PictureSet:
        """Return them as squares of another side."""
        if resolution == self.pixels.shape[1]:
            return self
        channels_first = torch.from_numpy(self.pixels).permute(0, 3, 1, 2)
        sized = torch.nn.functional.interpolate(
            channels_first, (resolution, resolution), mode="bilinear", antialias=True
        )
        return self._replace(pixels=np.ascontiguousarray(sized.permute(0, 2, 3, 1).numpy()))

    def batches(self) -> Iterator[Batch]:
        """Yield them in batches, normalised."""
        for first in range(0, len(self.pixels), _BATCH):
            rows = slice(first, first + _BATCH)
            sample = TrainingImages(self.pixels[rows], self.targets[rows], task=self.kind).batch(
                slice(None)
            )
            yield normalise_batch(sample.pixels, mean=self.mean, std=self.std), sample.targets


def save_pictures(path: Path, **sets: PictureSet) -> None:
    """Write sets of pictures into one file, for other processes."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, pictures in sets.items():
        arrays |= {
            f"{name}.pixels": pictures.pixels,
            f"{name}.targets": pictures.targets,
            f"{name}.mean": np.array(pictures.mean),
            f"{name}.std": np.array(pictures.std),
            f"{name}.kind": np.array(pictures.kind),
        }
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def load_pictures(path: Path) -> dict[str, PictureSet]:
    """Return what `save_pictures` wrote, by name."""
    with np.load(path, allow_pickle=False) as arrays:
        names = dict.fromkeys(key.partition(".")[0] for key in arrays.files)
        return {
            name: PictureSet(
                pixels=arrays[f"{name}.pixels"],
                targets=arrays[f"{name}.targets"],
                mean=tuple(arrays[f"{name}.mean"].tolist()),
                std=tuple(arrays[f"{name}.std"].tolist()),
                kind=str(arrays[f"{name}.kind"]),
            )
            for name in names
        }
