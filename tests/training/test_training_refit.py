"""Fitting a classifier again: it suits the features, and what there was is not thrown away."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.training.objective import OBJECTIVES
from featherweight.training.refit import refit_classifier

CLASSES, FEATURES = 4, 30


def pictures(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    centres = 2.0 * torch.randn((CLASSES, FEATURES), generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    return centres[labels] + torch.randn((count, FEATURES), generator=generator), labels


def accuracy(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor) -> float:
    answers = functional.linear(features, weight, bias).argmax(1)
    return float((answers == labels).float().mean())


def test_features_that_moved_are_told_apart_again() -> None:
    features, labels = pictures(400, seed=0)
    others, truth = pictures(400, seed=1)
    zero = torch.zeros(CLASSES, FEATURES), torch.zeros(CLASSES)
    trained = refit_classifier(*zero, features, labels, objective=OBJECTIVES["classification"])
    assert accuracy(*trained, others, truth) > 0.99
    turn = torch.linalg.qr(torch.randn(FEATURES, FEATURES)).Q
    assert accuracy(*trained, others @ turn, truth) < 0.6
    again = refit_classifier(
        *trained, features @ turn, labels, objective=OBJECTIVES["classification"]
    )
    assert accuracy(*again, others @ turn, truth) > 0.99
    assert not zero[0].any(), "what was given stays as it is"


def test_the_same_seed_gives_the_same_and_torch_is_left_alone() -> None:
    features, labels = pictures(40, seed=0)
    start = torch.zeros(CLASSES, FEATURES), torch.zeros(CLASSES)
    before = torch.get_rng_state()
    first, second, other = (
        refit_classifier(
            *start, features, labels, seed=seed, objective=OBJECTIVES["classification"]
        )[0]
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_few_pictures_do_not_undo_what_many_taught() -> None:
    trained = refit_classifier(
        torch.zeros(CLASSES, FEATURES),
        torch.zeros(CLASSES),
        *pictures(2000, seed=0),
        objective=OBJECTIVES["classification"],
    )
    again, _ = refit_classifier(
        *trained, *pictures(8, seed=2), objective=OBJECTIVES["classification"]
    )
    assert accuracy(again, trained[1], *pictures(400, seed=1)) > 0.99
    assert (again - trained[0]).norm() < 0.5 * trained[0].norm()


def test_important_pictures_count_more() -> None:
    features, labels = torch.ones(100, 1), torch.tensor([0] * 90 + [1] * 10)
    start = torch.zeros(2, 1), torch.zeros(2)

    def first_class(importance: Tensor | None) -> float:
        weight, bias = refit_classifier(
            *start, features, labels, importance=importance, objective=OBJECTIVES["classification"]
        )
        return float(functional.linear(features[:1], weight, bias).softmax(1)[0, 0])

    assert first_class(None) > 0.55
    assert abs(first_class(torch.where(labels == 0, 100 / 180, 5.0)) - 0.5) < 0.05
