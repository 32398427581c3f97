"""The stage between shopping and race: rank pretrained networks before any training.

Features of training pictures are emitted by the file that was timed, int8 damage included; a
ridge regression on them is solved in closed form, and its leave-one-out error ranks the
candidates. What cannot be told from the best goes on, and starts with that regression for its
classifier (`fitting.linear_start`).

Source: Kornblith et al. 2019, arXiv 1805.08974 (ImageNet networks rank alike on other pictures:
r = 0.99 for linear classifiers, 0.96 fine-tuned); Allen 1974 (leave-one-out in closed form).
"""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.metrics import accuracy_interval
from featherweight.fitting.features import load_features
from featherweight.fitting.linear_start import Labelled, keep_classifier, solve_ridge
from featherweight.fitting.moments import Moments
from featherweight.fitting.race import Entry, Trainer, difference_interval
from featherweight.run_directory import RunDirectory
from featherweight.training.evaluate import spaced_rows

__all__ = ["Probed", "probe", "survivors"]

logger = logging.getLogger(__name__)

_MOST_PICTURES = 1500
"""A standard error of one point of accuracy, and some seconds per candidate."""
_FEWEST_PICTURES = 300
_TIMED_PICTURES = 32
_MOST_SURVIVORS = 4


@dataclass(frozen=True)
class Probed:
    """A candidate and what a linear classifier on its features gets wrong.

    Attributes:
        entry: which candidate.
        losses: squared leave-one-out error of each picture, (n,).
        accuracy: leave-one-out.
        picture_s: seconds of one picture, from its file on disk to the file's answer.
        classifier: file of the regression, as a classifier to start with.
    """

    entry: Entry
    losses: NDArray[np.float64]
    accuracy: float
    picture_s: float
    classifier: Path

    @property
    def loss(self) -> float:
        """Mean squared leave-one-out error."""
        return float(self.losses.mean())


def probe(
    entries: list[Entry],
    *,
    trainer: Trainer,
    run: RunDirectory,
    within_s: float | None,
    moments: Moments,
) -> list[Probed]:
    """Probe every pretrained candidate (a stage each); the best comes first.

    Without weights there is nothing to probe: then the list is empty.

    Args:
        entries: the candidates.
        trainer: has pictures and platform.
        run: the run directory.
        within_s: time for all of them, which sets the number of pictures; `None` = no limit.
        moments: taken between the candidates.
    """
    if not entries or any(entry.family.source is None for entry in entries):
        return []
    count = _pictures_stage(entries, trainer=trainer, run=run, within_s=within_s)
    probed = []
    for entry in entries:
        probed.append(_probe_stage(entry, trainer=trainer, run=run, count=count))
        moments.take()
    return sorted(probed, key=lambda one: one.loss)


def survivors(probed: list[Probed], *, seed: int) -> list[Entry]:
    """Return the best, what cannot be told from it (95 %), and what trains fastest.

    At most four, the best of them; the fastest to train has the fewest multiply-adds.
    """
    best = probed[0]
    equal = [
        one
        for one in probed[1:]
        if difference_interval(one.losses, best.losses, seed=seed)[0] <= 0.0
    ]
    kept = [one.entry for one in [best, *equal][:_MOST_SURVIVORS]]
    fastest = min((one.entry for one in probed), key=lambda entry: entry.candidate.macs or 0)
    if fastest not in kept:
        kept = [*kept[: _MOST_SURVIVORS - 1], fastest]
    return kept


def _pictures_stage(
    entries: list[Entry], *, trainer: Trainer, run: RunDirectory, within_s: float | None
) -> int:
    """Return how many training pictures every candidate sees: the same ones, to be paired."""
    whole = min(_MOST_PICTURES, len(trainer.store.data.splits["train"]))
    if within_s is None:
        return whole
    inputs = {"candidates": [entry.key for entry in entries], "within_s": within_s}
    done = run.stage_done("probe-pictures", inputs=inputs)
    if done is None:
        started = time.monotonic()
        picture_s = statistics.median(
            _file_features(entry, trainer=trainer, count=_TIMED_PICTURES)[2] for entry in entries
        )
        count = int(within_s / len(entries) / picture_s)
        done = {
            "pictures": min(whole, max(_FEWEST_PICTURES, count)), "seconds_per_picture": picture_s,
        }  # fmt: skip
        seconds = time.monotonic() - started
        run.finish_stage("probe-pictures", inputs=inputs, outputs=done, seconds=seconds)
    return int(done["pictures"])


def _probe_stage(entry: Entry, *, trainer: Trainer, run: RunDirectory, count: int) -> Probed:
    stage, inputs = f"probe:{entry.key}", {"candidate": entry.key, "pictures": count}
    folder = trainer.folder / "artifacts" / "probe" / entry.key
    losses_file = folder / "losses.npy"
    classifier = trainer.folder / "checkpoints" / f"linear-start-{entry.key}.safetensors"
    done = run.stage_done(stage, inputs=inputs)
    if done is None:
        started = time.monotonic()
        train, val, picture_s = _file_features(entry, trainer=trainer, count=count)
        labels = train[1]
        found = solve_ridge(train, val, classes=len(trainer.store.data.classes))
        np.save(losses_file, found.errors)
        keep_classifier(classifier, found)
        done = {
            "accuracy": found.accuracy, "loss": float(found.errors.mean()),
            "pictures": len(labels), "seconds_per_picture": picture_s,
        }  # fmt: skip
        seconds = time.monotonic() - started
        run.finish_stage(
            stage, inputs=inputs, outputs=done, files=[losses_file, classifier], seconds=seconds
        )
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
        classifier=classifier,
    )


def _file_features(
    entry: Entry, *, trainer: Trainer, count: int
) -> tuple[Labelled, Labelled, float]:
    """Return what the classifier of the exported file would read of train and of val, with labels.

    At most `count` pictures of each. The third value is the seconds that one picture took,
    decoding included.
    """
    network = trainer.start(entry, "probe")
    features = load_features(entry, network, trainer=trainer, name="probe")
    started, read = time.monotonic(), []
    for split in ("train", "val"):
        rows = spaced_rows(len(trainer.store.data.splits[split]), most=count)
        images = trainer.store.held_out(
            split, entry.candidate.resolution, entry.family.preprocessing, rows=rows
        )
        read.append((features(images.pixels), images.labels))
    pictures = sum(len(labels) for _, labels in read)
    return read[0], read[1], (time.monotonic() - started) / pictures
