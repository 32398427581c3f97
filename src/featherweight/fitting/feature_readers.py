"""Export candidates once, and read what the classifiers of their files read."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.data.rows import spaced_rows
from featherweight.exporting.file_features import Features as ReadFeatures
from featherweight.exporting.file_features import load_features
from featherweight.fitting.candidate import Candidate, Phase
from featherweight.fitting.trainer import Trainer
from featherweight.networks.modules import as_classifier
from featherweight.training.evaluate import TrainingImages

__all__ = ["FeatureReaders", "Features"]

_PHASE = Phase(kind="probe")


class Features(NamedTuple):
    """What a file's classifier reads.

    Attributes:
        features: (n, F).
        targets: of those pictures, (n, ...).
        picture_s: seconds that one picture took, decoding included.
    """

    features: NDArray[np.float32]
    targets: NDArray[Any]
    picture_s: float


class FeatureReaders:
    """Exports every candidate once and reads features and targets with its file."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._answers: dict[str, ReadFeatures] = {}
        self._export_s: dict[str, float] = {}

    def export_s(self, candidate: Candidate) -> float:
        """Return the seconds that the export of a candidate took which was read."""
        return self._export_s[candidate.key]

    def read(self, candidate: Candidate, *, count: int) -> Features:
        """Read at most `count` training pictures, evenly spaced."""
        decode = functools.partial(self.trainer.store.held_out, "train")
        return self._read(candidate, decode, count=count)

    def read_kept(self, candidate: Candidate, *, count: int) -> Features:
        """Read the same of pictures that a training of the network keeps decoded."""
        return self._read(candidate, self.trainer.store.centres, count=count)

    def _read(
        self, candidate: Candidate, pictures: Callable[..., TrainingImages], *, count: int
    ) -> Features:
        trainer = self.trainer
        if candidate.key not in self._answers:
            started = time.monotonic()
            out = trainer.folder / "artifacts" / "probe" / candidate.key
            self._answers[candidate.key] = load_features(
                as_classifier(trainer.start(candidate, _PHASE)),
                export=lambda network, labels: trainer.export(
                    network, candidate, out=out, labels=labels, quickly=True
                ),
            )
            self._export_s[candidate.key] = time.monotonic() - started
        started = time.monotonic()
        rows = spaced_rows(trainer.count("train"), most=count)
        images = pictures(candidate.resolution, candidate.family.preprocessing, rows=rows)
        features = self._answers[candidate.key](images.pixels)
        return Features(features, images.targets, (time.monotonic() - started) / len(rows))
