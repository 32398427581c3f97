"""Regularised evolution: the best of a few of the youngest is changed in one choice.

Source: Real et al. 2019, arXiv 1802.01548, algorithm 1; there 100 live and 25 are drawn, for
20,000 trials. Here fewer live, for tens of trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featherweight.searching.sampler import SAMPLERS, Judge, Proposal, Seen, allowed_point
from featherweight.searching.space import Point, Space, mutated, random_point

__all__ = ["EvolutionSampler"]


@dataclass(frozen=True)
class EvolutionSampler:
    """Evolution by age.

    Attributes:
        space: of the points.
        population: the youngest that live.
        drawn: of those, whose best is the parent.
        impatience: draws after which one more choice is changed, where all near points are known.
    """

    space: Space
    population: int = 20
    drawn: int = 5
    impatience: int = 50

    def propose(
        self,
        seen: Sequence[Seen],
        *,
        judge: Judge,
        generator: np.random.Generator,
    ) -> Proposal:
        """Return a changed parent, or an even draw before there is a population."""
        trained = [one for one in seen if one.trained]
        alive = trained[-self.population :]
        tries = 0

        def draw() -> Point:
            nonlocal tries
            if len(trained) < self.population // 2:
                return random_point(self.space, generator)
            count = min(self.drawn, len(alive))
            rows = generator.choice(len(alive), size=count, replace=False)
            drawn = [alive[int(row)] for row in rows]
            point: Point = max(drawn, key=lambda one: one.score).point
            for _ in range(1 + tries // self.impatience):
                point = mutated(self.space, point, generator)
            tries += 1
            return point

        return allowed_point(self.space, draw, judge=judge, generator=generator)


SAMPLERS.add("evolution", EvolutionSampler)
