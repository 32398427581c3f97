"""A Bayesian linear model of the score, and draws from what it believes: Thompson sampling.

Source: Thompson 1933; Bayesian regression as in Bishop 2006, section 3.3, with both precisions by
the evidence (3.5). Features: every choice, and depth, log params and log multiply-adds of the
network with their squares: they tell most of what a network of one space learns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featherweight.searching.features import PointFeatures
from featherweight.searching.sampler import SAMPLERS, Judge, Proposal, Seen, allowed_point
from featherweight.searching.space import Point, Space, mutated, random_point

__all__ = ["PredictorSampler", "drawn_model"]

_ROUNDS = 30
"""Of re-estimating both precisions."""


@dataclass(frozen=True)
class PredictorSampler:
    """Fits what is known, draws one model it could be, and proposes that model's best point.

    Attributes:
        space: of the points.
        first: even draws before the first fit.
        pool: points that a model chooses among: half of them even draws, half changes of the best.
        parents: of the best, that are changed.
    """

    space: Space
    first: int = 10
    pool: int = 200
    parents: int = 5
    _features: PointFeatures = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_features", PointFeatures(self.space))

    def propose(
        self,
        seen: Sequence[Seen],
        *,
        judge: Judge,
        generator: np.random.Generator,
    ) -> Proposal:
        """Return the best of a pool, by a model drawn from those the scores allow."""

        def even() -> Point:
            return random_point(self.space, generator)

        trained = [one for one in seen if one.trained]
        if len(trained) < self.first:
            return allowed_point(self.space, even, judge=judge, generator=generator)
        best = sorted(trained, key=lambda one: -one.score)[: self.parents]

        def near() -> Point:
            point = best[int(generator.integers(len(best)))].point
            for _ in range(1 + int(generator.integers(3))):
                point = mutated(self.space, point, generator)
            return point

        candidates = self._allowed([even, near], judge)
        if not candidates:
            return allowed_point(self.space, even, judge=judge, generator=generator)
        scores = np.array([one.score for one in trained])
        known = np.stack([self._features(one.point) for one in trained])
        asked = np.stack([self._features(point) for point in candidates])
        model = drawn_model(known, scores, generator=generator)
        return Proposal(candidates[int(np.argmax(model(asked)))])

    def _allowed(self, draws: Sequence[Callable[[], Point]], judge: Judge) -> list[Point]:
        """Return different points that is new and fast enough, as many of every kind of draw."""
        found: dict[Point, None] = {}
        for kind, draw in enumerate(draws, 1):
            most = self.pool * kind // len(draws)
            for _ in range(2 * self.pool):
                if len(found) >= most:
                    break
                point = draw()
                if point not in found and judge(point) == "new":
                    found[point] = None
        return list(found)


def drawn_model(
    known: NDArray[np.float64], scores: NDArray[np.float64], *, generator: np.random.Generator
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Fit a Bayesian linear model and draw one from its posterior.

    Args:
        known: features, shape (trials, features).
        scores: shape (trials,).
        generator: draws.

    Returns:
        What it foretells for features of other points, shape (points,).
    """
    mean, spread = known.mean(0), known.std(0)
    spread[spread < 1e-9] = 1.0
    level, scale = scores.mean(), max(float(scores.std()), 1e-12)
    x, y = (known - mean) / spread, (scores - level) / scale
    count, width = x.shape
    values, vectors = np.linalg.eigh(x.T @ x)
    values = np.clip(values, 0.0, None)
    weights_of_y = vectors.T @ (x.T @ y)
    prior, noise = 1.0, 10.0  # precisions of the weights and of the scores
    for _ in range(_ROUNDS):
        rotated = noise * weights_of_y / (prior + noise * values)
        told = float((noise * values / (prior + noise * values)).sum())
        residual = float(((y - x @ (vectors @ rotated)) ** 2).sum())
        prior = float(np.clip(told / max((rotated**2).sum(), 1e-9), 1e-2, 1e4))
        noise = float(np.clip((count - told) / max(residual, 1e-9), 1e-1, 1e4))
    rotated = noise * weights_of_y / (prior + noise * values)
    rotated = rotated + generator.normal(size=width) / np.sqrt(prior + noise * values)
    weights = vectors @ rotated

    def foretell(features: NDArray[np.float64]) -> NDArray[np.float64]:
        answers: NDArray[np.float64] = ((features - mean) / spread) @ weights * scale + level
        return answers

    return foretell


SAMPLERS.add("predictor", PredictorSampler)
