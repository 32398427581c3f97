"""Pictures as the stages need them: decoded once, at the sizes the networks take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.augmentation import cut_centres
from featherweight.data.cache import cached_pixels
from featherweight.data.decode import WHOLE_ASPECT
from featherweight.data.home import cache_directory
from featherweight.data.images import ImageData
from featherweight.exporting.export_run import calibration_rows
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing
from featherweight.tasks.task import TASKS, Task
from featherweight.training.evaluate import TrainingImages

__all__ = ["SMALL_PICTURE", "PixelStore", "open_store"]

SMALL_PICTURE = 64
"""Up to this many pixels networks use their small form and ImageNet weights are not offered."""

_CROP_HEADROOM = 1.3
"""Training crops are cut from pictures this much larger than the network's input, so that an
average random crop is neither enlarged nor shrunk much, along the longer side of a picture as well,
which is squeezed more."""

_STORED_STEP = 32
"""Sizes that differ by a little share their training pictures: a fit may change its size late."""


_CUT_AT_ONCE = 256


@dataclass(frozen=True)
class PixelStore:
    """Hands out one data set's splits at any resolution.

    Attributes:
        data: the pictures.
        small: small pictures are trained at their native size, without crop headroom.
        directory: where the decoded pictures are kept.
        balanced: whether train and val count every class the same, however many pictures it has.
    """

    data: ImageData
    small: bool
    directory: Path
    balanced: bool = False

    @property
    def task(self) -> Task:
        """What is asked about the pictures."""
        return TASKS[self.data.task]

    def train(
        self, resolution: int, preprocessing: Preprocessing, *, teacher: AnyNetwork | None = None
    ) -> TrainingImages:
        """Return the training split, (N, S, S, 3) with S >= resolution (or the teacher's).

        Photographs are kept whole, squeezed into squares: crops reach all of them.
        """
        if teacher is not None:
            resolution = max(resolution, teacher.architecture.resolution)
        preprocessing = preprocessing.model_copy(update={"crop_fraction": 1.0})
        if self.small:
            return self._split("train", resolution, preprocessing)
        if preprocessing.stretch:
            return self._split("train", _larger(resolution), preprocessing)
        size = _larger(resolution)
        pixels = cached_pixels(
            self.data,
            "train",
            size=size,
            preprocessing=preprocessing,
            directory=self.directory,
            whole=True,
        )
        targets = self.data.splits["train"].targets
        seen = self.data.splits["train"].inspections
        aspects = np.array([picture.aspect for picture in seen], dtype=np.float32)
        return TrainingImages(
            pixels=pixels,
            targets=targets,
            weights=self.task.balance(targets) if self.balanced else None,
            aspects=aspects.clip(1 / WHOLE_ASPECT, WHOLE_ASPECT),
            task=self.data.task,
        )

    def centres(
        self, resolution: int, preprocessing: Preprocessing, *, rows: NDArray[np.int64]
    ) -> TrainingImages:
        """Return pictures of train nearly as the file takes them, cut from what `train` keeps.

        Nothing is decoded twice; a picture is resized twice.
        """
        if self.small:
            return self.held_out("train", resolution, preprocessing, rows=rows)
        whole = self.train(resolution, preprocessing)
        squares = np.empty((len(rows), resolution, resolution, 3), dtype=np.uint8)
        for start in range(0, len(rows), _CUT_AT_ONCE):
            part = rows[start : start + _CUT_AT_ONCE]
            sample = whole.batch(part)
            assert sample.aspects is not None
            squares[start : start + len(part)] = cut_centres(
                sample.pixels, sample.aspects, size=resolution, share=preprocessing.crop_fraction
            ).numpy()
        weights = None if whole.weights is None else whole.weights[rows]
        return TrainingImages(
            pixels=squares, targets=whole.targets[rows], weights=weights, task=whole.task
        )

    def held_out(
        self,
        split: str,
        resolution: int,
        preprocessing: Preprocessing,
        *,
        rows: NDArray[np.int64] | None = None,
    ) -> TrainingImages:
        """Return a split, or these rows of it, exactly as the exported file takes the pictures."""
        return self._split(split, resolution, preprocessing, rows=rows)

    def calibration(
        self, resolution: int, preprocessing: Preprocessing, *, seed: int
    ) -> NDArray[np.uint8]:
        """Return some training pictures prepared like val and test, (n, R, R, 3), for int8."""
        rows = calibration_rows(len(self.data.splits["train"]), seed=seed)
        split = self._split("train", resolution, preprocessing, rows=rows)
        return np.ascontiguousarray(split.pixels)

    def _split(
        self,
        split: str,
        size: int,
        preprocessing: Preprocessing,
        *,
        rows: NDArray[np.int64] | None = None,
    ) -> TrainingImages:
        pixels = cached_pixels(
            self.data,
            split,
            size=size,
            preprocessing=preprocessing,
            directory=self.directory,
            rows=rows,
        )
        targets = self.data.splits[split].targets
        weights = self.task.balance(targets) if self.balanced and split != "test" else None
        if rows is not None:
            targets = targets[rows]
            weights = None if weights is None else weights[rows]
        return TrainingImages(pixels=pixels, targets=targets, weights=weights, task=self.data.task)


def _larger(resolution: int) -> int:
    """Return the side that crops for a resolution are cut from."""
    return -(-int(resolution * _CROP_HEADROOM) // _STORED_STEP) * _STORED_STEP


def open_store(data: ImageData, *, balanced: bool = False) -> PixelStore:
    """Return the store of a data set in the user's cache folder."""
    return PixelStore(
        data,
        small=data.typical_size <= SMALL_PICTURE,
        directory=cache_directory(),
        balanced=balanced,
    )
