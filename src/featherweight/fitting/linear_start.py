"""The classifier a fine-tuning starts with: a logistic regression on the features of the file.

Drawn classifiers send noise into a pretrained backbone for the first hundred steps, and a fit of
minutes has few more.

Source: Kumar et al. 2022, arXiv 2202.10054 (a fitted classifier first, then all weights: features
are distorted less).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.training.objective import Objective

__all__ = ["Classifier", "fit_classifier"]

_PENALTY = 3e-3
"""Of the squared weights, beside the mean cross-entropy. The one with the least loss on val is
smaller (1e-3 or less, on photographs of groceries and of clothes), but a classifier that is sure of
every picture it was fitted to has nothing left to teach the backbone
(docs/adr/0015-whole-pictures.md)."""
_ITERATIONS = 100
"""Of L-BFGS: two seconds for 2,000 pictures of 80 classes."""
_LEAST_SPREAD = 0.1
"""Of the mean deviation of all features, added to each: one that is nearly always 0 must not weigh
much, for it changes as soon as the network does."""


class Classifier(NamedTuple):
    """A linear classifier: weight (K, F) and bias (K,) of logits."""

    weight: Tensor
    bias: Tensor


def fit_classifier(
    features: NDArray[np.float32],
    targets: NDArray[Any],
    *,
    outputs: int,
    objective: Objective,
) -> Classifier:
    """Return the regression of targets on features: of a classification the logistic one.

    Args:
        features: (n, F).
        targets: of the pictures, (n, ...).
        outputs: K.
        objective: its loss is made small.
    """
    seen, truth = torch.tensor(features), torch.tensor(targets)
    mean, spread = seen.mean(0), seen.std(0, correction=0)
    spread = spread + _LEAST_SPREAD * spread.mean() + torch.finfo(torch.float32).tiny
    scaled = (seen - mean) / spread
    weight = torch.zeros(outputs, seen.shape[1], requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = objective.loss(scaled @ weight.T + bias, truth)
        loss = loss + _PENALTY * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    own = weight.detach() / spread
    return Classifier(own, bias.detach() - own @ mean)
