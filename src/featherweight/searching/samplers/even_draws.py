"""Even draws: what every other sampler must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featherweight.searching.sampler import SAMPLERS, Judge, Proposal, Seen, allowed_point
from featherweight.searching.space import Space, random_point

__all__ = ["RandomSampler"]


@dataclass(frozen=True)
class RandomSampler:
    """Draws every choice evenly; remembers nothing."""

    space: Space

    def propose(
        self,
        seen: Sequence[Seen],  # noqa: ARG002
        *,
        judge: Judge,
        generator: np.random.Generator,
    ) -> Proposal:
        """Return an even draw that is new and fast enough."""
        return allowed_point(
            self.space,
            lambda: random_point(self.space, generator),
            judge=judge,
            generator=generator,
        )


SAMPLERS.add("random", RandomSampler)
