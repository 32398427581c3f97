"""Fit a classifier again to features that changed under it, starting from the one there is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.training.objective import Objective

__all__ = ["refit_classifier"]

# Chosen by hand on the photographs, the first values tried; benchmarks/refit.py shows their effect.
_STEPS = 200
_BATCH = 256
_LEARNING_RATE = 2e-3
_DROPOUT = 0.2
_LABEL_SMOOTHING = 0.1
_PULL = 1e-3
"""Of the squared distance to the first weights, which saw every picture in many forms."""


def refit_classifier(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    targets: Tensor,
    *,
    objective: Objective,
    importance: Tensor | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return a linear classifier that suits these features; a few seconds.

    Args:
        weight: of the classifier there is, (K, F); it stays as it is.
        bias: likewise, (K,).
        features: (n, F), of training pictures.
        targets: of those pictures, (n, ...).
        objective: its loss is made small.
        importance: weight of each picture, (n,); `None` = all the same.
        seed: of batches and dropout; torch's generator is left as it was.
    """
    first = weight.detach().clone()
    weight, bias = first.clone().requires_grad_(), bias.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr=_LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.ones(len(features)) if importance is None else importance
    with torch.enable_grad():
        for _ in range(_STEPS):
            rows = torch.randint(len(features), (min(_BATCH, len(features)),), generator=generator)
            kept = torch.rand((len(rows), features.shape[1]), generator=generator) >= _DROPOUT
            logits = functional.linear(features[rows] * kept / (1 - _DROPOUT), weight, bias)
            loss = objective.loss(
                logits,
                targets[rows],
                smoothing=_LABEL_SMOOTHING,
                weights=weights[rows],
            )
            loss = loss + _PULL * (weight - first).square().sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return weight.detach(), bias.detach()
