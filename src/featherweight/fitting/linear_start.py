"""The classifier a fine-tuning starts with: a ridge regression on the features of the file.

Drawn classifiers send noise into a pretrained backbone for the first hundred steps, and a fit of
minutes has few more. The probe solves a regression on the features anyway; its solution, scaled
to be read as logits, is where the training begins.

Source: Kumar et al. 2022, arXiv 2202.10054 (a fitted classifier first, then all weights: features
are distorted less); Allen 1974 (leave-one-out answers in closed form).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from featherweight.fitting.race import file_losses
from featherweight.training.start import save_classifier

__all__ = ["Ridge", "keep_classifier", "solve_ridge"]

_PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Ridge penalties tried, as multiples of the features' squared sum per picture."""
_LEAST_SPREAD = 0.1
"""Of the mean deviation of all features, added to each."""
_FACTORS = tuple(2.0**power for power in np.arange(0.0, 6.1, 0.25))
"""Factors from a regression on 0 and 1 to logits."""


Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Features (n, F) and labels (n,)."""


@dataclass(frozen=True)
class Ridge:
    """A linear classifier, and what such a one answers to pictures that it has not seen.

    Attributes:
        weight: (K, F), of logits.
        bias: (K,).
        errors: squared leave-one-out error of each picture against its one-hot label, (n,).
        accuracy: leave-one-out.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    errors: NDArray[np.float64]
    accuracy: float


def solve_ridge(train: Labelled, val: Labelled, *, classes: int) -> Ridge:
    """Fit one-hot labels by ridge regression on scaled features.

    Errors and accuracy are those of the penalty with the least leave-one-out error, which need
    many pictures more than honest ones. Penalty and scale of the classifier are those with the
    least cross-entropy on val: pictures of one object taken in a row make leaving one out easy,
    and a classifier that is too sure of them has nothing left to learn.

    Args:
        train: of the pictures to fit.
        val: of pictures to choose with.
        classes: K; labels are in 0 .. K - 1.
    """
    features, labels = train
    scale = features.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    mean = features.mean(axis=0)
    scaled = ((features - mean) / scale).astype(np.float64)
    targets = np.eye(classes)[labels]
    centre = targets.mean(axis=0)
    strength = float(np.square(scaled).sum()) / len(labels)
    alphas = [penalty * strength for penalty in _PENALTIES]
    model = RidgeCV(alphas, scoring="neg_mean_squared_error", store_cv_results=True)
    model.fit(scaled, targets - centre)
    answers = model.cv_results_[:, :, alphas.index(model.alpha_)] + centre
    # A feature that is nearly always 0 must not weigh much: it changes as soon as the network does.
    kept = scale + _LEAST_SPREAD * float(scale.mean())
    seen, asked = ((one - mean) / kept for one in (features.astype(np.float64), val[0]))
    weight, bias = _best_on_val(
        seen, targets - centre, (asked, val[1]), alphas=alphas, centre=centre
    )
    weight = weight / kept
    return Ridge(
        weight=weight.astype(np.float32),
        bias=(bias - weight @ mean).astype(np.float32),
        errors=((answers - targets) ** 2).sum(axis=1),
        accuracy=float((answers.argmax(axis=1) == labels).mean()),
    )


def _best_on_val(
    scaled: NDArray[np.float64],
    targets: NDArray[np.float64],
    val: Labelled,
    *,
    alphas: list[float],
    centre: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weight (K, F) and bias (K,) of the penalty and factor that suit val."""
    left, sizes, right = np.linalg.svd(scaled, full_matrices=False)
    projected = left.T @ targets
    tried = []
    for alpha in alphas:
        weight = (right.T @ (projected * (sizes / (sizes**2 + alpha))[:, None])).T
        answers = val[0] @ weight.T + centre
        for factor in _FACTORS:
            loss = float(file_losses(factor * answers, val[1]).mean())
            tried.append((loss, factor * weight, factor * centre))
    _, weight, bias = min(tried, key=lambda one: one[0])
    return weight, bias


def keep_classifier(path: Path, found: Ridge) -> None:
    """Write a classifier to start with, for any size of the network."""
    save_classifier(path, torch.from_numpy(found.weight), torch.from_numpy(found.bias))
