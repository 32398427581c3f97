"""Tell trained networks apart: paired losses of their files on val, and the cheaper of equals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.budget import Evaluation
from featherweight.data.metrics import accuracy_interval, difference_interval
from featherweight.data.rows import spaced_rows
from featherweight.errors import DivergedError
from featherweight.exporting.verify import network_answers
from featherweight.fitting.candidate import Candidate, Phase, Trained
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.trainer import Trainer
from featherweight.networks.modules import AnyNetwork
from featherweight.runtimes.answers import load_answers
from featherweight.tasks.task import Answers
from featherweight.training.evaluate import EvaluationResult, TrainingImages, evaluate_network

__all__ = [
    "cheapest_of_equals",
    "evaluate_on_val",
    "keep_losses",
    "kept_losses",
    "losses_on_val",
    "paired_scores",
    "scores_on_val",
    "val_evaluation",
]

_LOSSES = "val_losses.npy"


def losses_on_val(
    trainer: Trainer,
    candidate: Candidate,
    network: AnyNetwork,
    *,
    phase: Phase,
    most: int = DEFAULT_POLICY.race.val_pictures,
) -> NDArray[np.float64]:
    """Return the weighted loss on each ranked val picture, of the file if the precision changes it.

    Args:
        trainer: has the pictures, and exports.
        candidate: says resolution and precision.
        network: at that resolution.
        phase: names a folder.
        most: pictures that are ranked.

    Raises:
        DivergedError: an answer is not finite.
    """
    val, rows = _ranked_pictures(trainer, candidate, most=most)
    if candidate.precision == "fp32":
        result = _evaluate(trainer, candidate, network, val)
        losses = np.asarray(result.losses, dtype=np.float64)[rows]
    else:
        answers = _file_answers(trainer, candidate, network, val.pixels[rows], phase=phase)
        losses = trainer.task.losses(answers, val.targets[rows])
        losses = losses if val.weights is None else losses * val.weights[rows]
    if not np.isfinite(losses).all():
        raise DivergedError(f"{candidate.title} answers val with numbers that are not finite")
    return losses


def paired_scores(
    trainer: Trainer,
    candidate: Candidate,
    network: AnyNetwork,
    *,
    phase: Phase,
    most: int = DEFAULT_POLICY.race.val_pictures,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores of network and file on each ranked val picture, weighted."""
    val, rows = _ranked_pictures(trainer, candidate, most=most)
    weights = np.ones(len(rows)) if val.weights is None else val.weights[rows]
    own = _evaluate(trainer, candidate, network, val).scores[rows]
    answers = _file_answers(trainer, candidate, network, val.pixels[rows], phase=phase)
    return own * weights, trainer.task.scores(answers, val.targets[rows]) * weights


def scores_on_val(
    trainer: Trainer,
    candidate: Candidate,
    network: AnyNetwork,
    *,
    phase: Phase,
    most: int = DEFAULT_POLICY.race.val_pictures,
) -> tuple[float, float]:
    """Return the task's score of network and file on the ranked val pictures."""
    val, rows = _ranked_pictures(trainer, candidate, most=most)
    pixels, targets = val.pixels[rows], val.targets[rows]
    own = network_answers(network, pixels, preprocessing=candidate.family.preprocessing)
    of_file = _file_answers(trainer, candidate, network, pixels, phase=phase)
    return trainer.task.score(own, targets), trainer.task.score(of_file, targets)


def evaluate_on_val(trainer: Trainer, candidate: Candidate, network: AnyNetwork) -> Evaluation:
    """Return how a network answers all of val."""
    resolution = network.architecture.resolution
    val = trainer.store.held_out("val", resolution, candidate.family.preprocessing)
    result = _evaluate(trainer, candidate, network, val)
    return val_evaluation(result.accuracy, trainer=trainer)


def val_evaluation(accuracy: float, *, trainer: Trainer) -> Evaluation:
    """Return a score on val; one that is no share of pictures has no interval."""
    count, metric = trainer.count("val"), trainer.task.metric
    if trainer.store.balanced:
        metric = "balanced_accuracy"
    share = trainer.task.counts_right and not trainer.store.balanced
    interval = accuracy_interval(round(accuracy * count), count) if share else None
    return Evaluation(metric=metric, value=accuracy, n=count, interval=interval, split="val")


def _ranked_pictures(
    trainer: Trainer, candidate: Candidate, *, most: int
) -> tuple[TrainingImages, NDArray[np.int64]]:
    """Return val and which of its pictures rank: evenly spaced, as folders list by class."""
    preprocessing = candidate.family.preprocessing
    val = trainer.store.held_out("val", candidate.resolution, preprocessing)
    return val, spaced_rows(len(val), most=most)


def _evaluate(
    trainer: Trainer, candidate: Candidate, network: AnyNetwork, val: TrainingImages
) -> EvaluationResult:
    preprocessing = candidate.family.preprocessing
    return evaluate_network(network, images=val, preprocessing=preprocessing, device=trainer.device)


def _file_answers(
    trainer: Trainer,
    candidate: Candidate,
    network: AnyNetwork,
    pixels: NDArray[np.uint8],
    *,
    phase: Phase,
) -> Answers:
    """Return what the exported file answers to pictures."""
    out = trainer.folder / "artifacts" / "race" / f"{candidate.key}-{phase}"
    return load_answers(trainer.export(network, candidate, out=out))(pixels)


def cheapest_of_equals(ranked: Sequence[Trained], *, seed: int) -> Trained:
    """Return the best by loss, or a faster file whose difference to it spans zero.

    Args:
        ranked: the best first.
        seed: of the resampling.
    """
    best = ranked[0]
    equals = [
        other
        for other in ranked[1:]
        if difference_interval(other.losses, best.losses, seed=seed)[0] <= 0.0
    ]
    return min([best, *equals], key=lambda one: one.measured.latency.median_ms)


def keep_losses(folder: Path, losses: NDArray[np.float64]) -> list[Path]:
    """Write the losses on val beside a saved network; return all files of the folder."""
    np.save(folder / _LOSSES, losses)
    return sorted(folder.iterdir())


def kept_losses(folder: Path) -> NDArray[np.float64]:
    """Return what `keep_losses` wrote."""
    losses: NDArray[np.float64] = np.load(folder / _LOSSES)
    return losses
