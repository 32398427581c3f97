"""The stage between shopping and race: rank pretrained networks before any training.

Features of training pictures are emitted by the file that was timed, int8 damage included; a
ridge regression on them is solved in closed form, and its leave-one-out error ranks the
candidates. What cannot be told from the best goes on. The same files' features make the first
classifiers (`fitting.linear_start`).

Source: Kornblith et al. 2019, arXiv 1805.08974 (ImageNet networks rank alike on other pictures:
r = 0.99 for linear classifiers, 0.96 fine-tuned).
"""

from __future__ import annotations

import functools
import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.data.metrics import accuracy_interval
from featherweight.data.rows import spaced_rows
from featherweight.fitting.features import load_features
from featherweight.fitting.leave_one_out import leave_one_out
from featherweight.fitting.linear_start import fit_classifier
from featherweight.fitting.moments import Moments
from featherweight.fitting.race import Entry, Trainer, difference_interval
from featherweight.run_directory import RunDirectory
from featherweight.runtimes.answers import Answers
from featherweight.training.evaluate import TrainingImages
from featherweight.training.start import save_classifier

__all__ = [
    "FeatureReaders",
    "FirstClassifier",
    "Probed",
    "first_classifier",
    "most_promising",
    "probe",
    "survivors",
]

logger = logging.getLogger(__name__)

_MOST_PICTURES = 1500
"""A standard error of one point of accuracy, and some seconds per candidate."""
_MOST_START_PICTURES = 4000
"""That a first classifier is fitted to."""
_FEWEST_PICTURES = 300
_TIMED_PICTURES = 96
_MOST_SURVIVORS = 4
_ALIKE = 1.25
"""Networks whose multiply-adds differ by no more than this factor train at about one speed: by the
estimate below that is worth half a point."""
_WORTH_OF_TWICE = 0.02
"""Accuracy that twice the multiply-adds must bring, because half as many pictures are seen. An
estimate: in trainings of a few passes over photographs, twice the pictures bring some points."""


@dataclass(frozen=True)
class Probed:
    """A candidate and what a linear classifier on its features gets wrong.

    Attributes:
        entry: which candidate.
        losses: squared leave-one-out error of each picture, (n,).
        accuracy: leave-one-out.
        picture_s: seconds of one picture, from its file on disk to the file's answer.
    """

    entry: Entry
    losses: NDArray[np.float64]
    accuracy: float
    picture_s: float

    @property
    def loss(self) -> float:
        """Mean squared leave-one-out error."""
        return float(self.losses.mean())


def probe(
    entries: list[Entry],
    *,
    readers: FeatureReaders,
    run: RunDirectory,
    within_s: float | None,
    moments: Moments,
) -> list[Probed]:
    """Probe every pretrained candidate (a stage each); the best comes first.

    Without weights there is nothing to probe: then the list is empty.

    Args:
        entries: the candidates.
        readers: of their features.
        run: the run directory.
        within_s: time for all of them, which sets the number of pictures; `None` = no limit.
        moments: taken between the candidates.
    """
    if not entries or any(entry.family.source is None for entry in entries):
        return []
    count = _pictures_stage(entries, readers=readers, run=run, within_s=within_s)
    probed = []
    for entry in entries:
        probed.append(_probe_stage(entry, readers=readers, run=run, count=count))
        moments.take()
    return sorted(probed, key=lambda one: one.loss)


class FirstClassifier(NamedTuple):
    """The file of a fitted classifier, and what its network's files cost.

    Attributes:
        file: weight and bias.
        export_s: seconds of one export.
        picture_s: seconds of one picture, from the disk to the file's answer.
    """

    file: Path
    export_s: float
    picture_s: float


def first_classifier(
    entry: Entry,
    *,
    readers: FeatureReaders,
    run: RunDirectory,
    within_s: float | None,
) -> FirstClassifier:
    """Fit the classifier that a training of a network starts with: a stage.

    Args:
        entry: the network at the size of the training: at another it emits other features.
        readers: of features.
        run: the run directory.
        within_s: time for it, which sets the number of pictures; `None` = no limit.
    """
    trainer, most = readers.trainer, _MOST_START_PICTURES
    stage = f"first-classifier:{entry.key}"
    inputs = {"candidate": entry.key, "within_s": within_s, "timed": _TIMED_PICTURES}
    file = trainer.folder / "checkpoints" / f"first-classifier-{entry.key}.safetensors"
    done = run.stage_done(stage, inputs=inputs)
    if done is None:
        started = time.monotonic()
        _, _, picture_s = readers.read(entry, count=_TIMED_PICTURES)
        if within_s is not None:
            _, _, kept_s = readers.read_kept(entry, count=_TIMED_PICTURES)
            most = min(most, max(_FEWEST_PICTURES, int(within_s / kept_s)))
        features, labels, _ = readers.read_kept(entry, count=most)
        classes = len(trainer.store.data.classes)
        save_classifier(file, *fit_classifier(features, labels, classes=classes))
        done = {
            "pictures": len(labels), "export_s": readers.export_s(entry), "picture_s": picture_s,
        }  # fmt: skip
        seconds = time.monotonic() - started
        run.finish_stage(stage, inputs=inputs, outputs=done, files=[file], seconds=seconds)
    return FirstClassifier(file, float(done["export_s"]), float(done["picture_s"]))


def survivors(probed: list[Probed], *, seed: int) -> list[Entry]:
    """Return the best, what cannot be told from it (95 %), and what trains fastest.

    At most four, the best of them; the fastest to train has the fewest multiply-adds.
    """
    best, *others = probed
    equal = [one for one in others if not _is_surely_better(best, one, seed=seed)]
    kept = [one.entry for one in (best, *equal)[:_MOST_SURVIVORS]]
    fastest = min((one.entry for one in probed), key=_macs)
    if fastest not in kept:
        kept = [*kept[: _MOST_SURVIVORS - 1], fastest]
    return kept


def most_promising(probed: list[Probed], *, seed: int) -> Entry:
    """Return the best that trains fast, unless another is surely better (95 %) and worth its time.

    Where nothing races: what a slower network does not get to see costs it accuracy.
    """
    least = min(_macs(one.entry) for one in probed)
    alike = [one for one in probed if _macs(one.entry) <= _ALIKE * least]
    fastest = min(alike, key=lambda one: one.loss)

    def worth(one: Probed) -> float:
        times = _macs(one.entry) / max(1, _macs(fastest.entry))
        return one.accuracy - _WORTH_OF_TWICE * math.log2(max(1.0, times))

    better = [one for one in probed if _is_surely_better(one, fastest, seed=seed)]
    return max([fastest, *better], key=worth).entry


def _is_surely_better(one: Probed, other: Probed, *, seed: int) -> bool:
    return difference_interval(other.losses, one.losses, seed=seed)[0] > 0.0


def _macs(entry: Entry) -> int:
    return entry.candidate.macs or 0


class FeatureReaders:
    """Exports every candidate once and reads features and labels with its file."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._features: dict[str, Answers] = {}
        self._export_s: dict[str, float] = {}

    def export_s(self, entry: Entry) -> float:
        """Return the seconds that the export of a candidate took which was read."""
        return self._export_s[entry.key]

    def read(
        self, entry: Entry, *, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
        """Return what the file's classifier would read of at most `count` training pictures.

        Returns:
            features (n, F), labels (n,), and the seconds that one picture took, decoding included.
        """
        decode = functools.partial(self.trainer.store.held_out, "train")
        return self._read(entry, decode, count=count)

    def read_kept(
        self, entry: Entry, *, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
        """Return the same of pictures that a training of the network keeps decoded."""
        return self._read(entry, self.trainer.store.centres, count=count)

    def _read(
        self, entry: Entry, pictures: Callable[..., TrainingImages], *, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
        trainer = self.trainer
        if entry.key not in self._features:
            started = time.monotonic()
            network = trainer.start(entry, "probe")
            self._features[entry.key] = load_features(
                entry, network, trainer=trainer, name="probe", quickly=True
            )
            self._export_s[entry.key] = time.monotonic() - started
        started = time.monotonic()
        rows = spaced_rows(len(trainer.store.data.splits["train"]), most=count)
        images = pictures(entry.candidate.resolution, entry.family.preprocessing, rows=rows)
        features = self._features[entry.key](images.pixels)
        return features, images.labels, (time.monotonic() - started) / len(rows)


def _pictures_stage(
    entries: list[Entry], *, readers: FeatureReaders, run: RunDirectory, within_s: float | None
) -> int:
    """Return how many training pictures every candidate sees: the same ones, to be paired."""
    trainer = readers.trainer
    whole = min(_MOST_PICTURES, len(trainer.store.data.splits["train"]))
    if within_s is None:
        return whole
    inputs = {"candidates": [entry.key for entry in entries], "within_s": within_s}
    done = run.stage_done("probe-pictures", inputs=inputs)
    if done is None:
        started = time.monotonic()
        picture_s = statistics.median(
            readers.read(entry, count=_TIMED_PICTURES)[2] for entry in entries
        )
        count = int(within_s / len(entries) / picture_s)
        done = {
            "pictures": min(whole, max(_FEWEST_PICTURES, count)), "seconds_per_picture": picture_s,
        }  # fmt: skip
        seconds = time.monotonic() - started
        run.finish_stage("probe-pictures", inputs=inputs, outputs=done, seconds=seconds)
    return int(done["pictures"])


def _probe_stage(entry: Entry, *, readers: FeatureReaders, run: RunDirectory, count: int) -> Probed:
    trainer = readers.trainer
    stage, inputs = f"probe:{entry.key}", {"candidate": entry.key, "pictures": count}
    folder = trainer.folder / "artifacts" / "probe" / entry.key
    losses_file = folder / "losses.npy"
    done = run.stage_done(stage, inputs=inputs)
    if done is None:
        started = time.monotonic()
        features, labels, picture_s = readers.read(entry, count=count)
        classes = len(trainer.store.data.classes)
        found = leave_one_out(features, labels, classes=classes)
        np.save(losses_file, found.errors)
        done = {
            "accuracy": found.accuracy, "loss": float(found.errors.mean()),
            "pictures": len(labels), "seconds_per_picture": picture_s,
        }  # fmt: skip
        seconds = time.monotonic() - started
        run.finish_stage(stage, inputs=inputs, outputs=done, files=[losses_file], seconds=seconds)
        low, high = accuracy_interval(round(found.accuracy * len(labels)), len(labels))
        logger.info(
            "probe: %s: leave-one-out accuracy %.3f [%.3f, %.3f] on %d train pictures",
            entry.title, found.accuracy, low, high, len(labels),
        )  # fmt: skip
    return Probed(
        entry,
        losses=np.load(losses_file),
        accuracy=float(done["accuracy"]),
        picture_s=float(done["seconds_per_picture"]),
    )
