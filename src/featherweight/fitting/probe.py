"""The stage between shopping and race: rank pretrained networks before any training.

Features of training pictures are emitted by the file that was timed, int8 damage included; a
ridge regression on them is solved in closed form, and its leave-one-out error ranks the
candidates. What cannot be told from the best goes on.

Source: Kornblith et al. 2019, arXiv 1805.08974 (ImageNet networks rank alike on other pictures:
r = 0.99 for linear classifiers, 0.96 fine-tuned); Allen 1974 (leave-one-out in closed form).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from featherweight.data.metrics import accuracy_interval
from featherweight.fitting.features import load_features
from featherweight.fitting.race import Entry, Trainer, difference_interval
from featherweight.run_directory import RunDirectory
from featherweight.training.evaluate import spaced_rows

__all__ = ["Probed", "leave_one_out", "probe", "survivors"]

logger = logging.getLogger(__name__)

_MOST_PICTURES = 1500
"""A standard error of one point of accuracy, and some seconds per candidate."""
_MOST_SURVIVORS = 4
_PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Ridge penalties tried, as multiples of the features' squared sum per picture."""


@dataclass(frozen=True)
class Probed:
    """A candidate and what a linear classifier on its features gets wrong.

    Attributes:
        entry: which candidate.
        losses: squared leave-one-out error of each picture, (n,).
        accuracy: leave-one-out.
    """

    entry: Entry
    losses: NDArray[np.float64]
    accuracy: float

    @property
    def loss(self) -> float:
        """Mean squared leave-one-out error."""
        return float(self.losses.mean())


def probe(entries: list[Entry], *, trainer: Trainer, run: RunDirectory) -> list[Probed]:
    """Probe every pretrained candidate (a stage each); the best comes first.

    Without weights there is nothing to probe, and one candidate needs no ranking: then the
    list is empty.
    """
    if len(entries) < 2 or any(entry.family.source is None for entry in entries):
        return []
    probed = [_probe_stage(entry, trainer=trainer, run=run) for entry in entries]
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


def leave_one_out(
    features: NDArray[np.floating], labels: NDArray[np.int64], *, classes: int
) -> tuple[NDArray[np.float64], float]:
    """Return the squared error of each picture and the accuracy of ridge regression without it.

    Regression onto one-hot labels with a free intercept, features scaled to unit variance; the
    penalty with the least leave-one-out error is taken.

    Args:
        features: (n, F).
        labels: (n,) in 0 .. classes - 1.
        classes: number of classes.

    Returns:
        errors (n,), summed over the classes, and the accuracy in [0, 1].
    """
    scale = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(scale > 0.0, scale, 1.0)
    targets = np.eye(classes)[labels]
    centre = targets.mean(axis=0)
    strength = float(np.square(scaled, dtype=np.float64).sum()) / len(labels)
    alphas = [penalty * strength for penalty in _PENALTIES]
    model = RidgeCV(alphas, scoring="neg_mean_squared_error", store_cv_results=True)
    model.fit(scaled.astype(np.float64), targets - centre)
    predictions = model.cv_results_[:, :, alphas.index(model.alpha_)] + centre
    errors = ((predictions - targets) ** 2).sum(axis=1)
    return errors, float((predictions.argmax(axis=1) == labels).mean())


def _probe_stage(entry: Entry, *, trainer: Trainer, run: RunDirectory) -> Probed:
    stage, inputs = f"probe:{entry.key}", {"candidate": entry.key}
    folder = trainer.folder / "artifacts" / "probe" / entry.key
    losses_file = folder / "losses.npy"
    done = run.stage_done(stage, inputs=inputs)
    if done is None:
        started = time.monotonic()
        features, labels = _file_features(entry, trainer=trainer)
        classes = len(trainer.store.data.classes)
        losses, accuracy = leave_one_out(features, labels, classes=classes)
        np.save(losses_file, losses)
        done = {"accuracy": accuracy, "loss": float(losses.mean()), "pictures": len(labels)}
        seconds = time.monotonic() - started
        run.finish_stage(stage, inputs=inputs, outputs=done, files=[losses_file], seconds=seconds)
        low, high = accuracy_interval(round(accuracy * len(labels)), len(labels))
        logger.info(
            "probe: %s: leave-one-out accuracy %.3f [%.3f, %.3f] on %d train pictures",
            entry.title, accuracy, low, high, len(labels),
        )  # fmt: skip
    return Probed(entry, np.load(losses_file), float(done["accuracy"]))


def _file_features(
    entry: Entry, *, trainer: Trainer
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what the classifier of the exported file would read: (n, F), and the labels (n,)."""
    rows = spaced_rows(len(trainer.store.data.splits["train"]), most=_MOST_PICTURES)
    train = trainer.store.held_out(
        "train", entry.candidate.resolution, entry.family.preprocessing, rows=rows
    )
    network = trainer.start(entry, "probe")
    features = load_features(entry, network, trainer=trainer, name="probe")
    return features(train.pixels), train.labels
