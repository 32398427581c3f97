"""Optuna's samplers, over the choices of a space.

Source: TPE, Watanabe 2023, arXiv 2304.11127; NSGA-II, Deb et al. 2002: here of the score alone,
since nothing too slow is trained. Both as Optuna implements them (https://optuna.org).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution

from featherweight.searching.sampler import SAMPLERS, Judge, Proposal, Seen, allowed_point
from featherweight.searching.space import Point, Space

__all__ = ["OptunaSampler"]

_ATTEMPTS = 60
"""Draws of Optuna, of some milliseconds each."""
_POPULATION = 20
"""Of NSGA-II: as many live as in `evolution`."""
_GENERATION_OF = "NSGAIISampler:generation"
"""Where Optuna's NSGA-II notes the generation of a trial; without it all draws are even ones."""


@dataclass(frozen=True)
class OptunaSampler:
    """Asks a study of Optuna that knows what was trained.

    Attributes:
        space: of the points.
        make: a seed -> Optuna's sampler.
    """

    space: Space
    make: Callable[[int], optuna.samplers.BaseSampler]

    def propose(
        self,
        seen: Sequence[Seen],
        *,
        judge: Judge,
        generator: np.random.Generator,
    ) -> Proposal:
        """Return the first of Optuna's draws that is new and fast enough."""
        trained = [one for one in seen if one.trained]
        study = self._study(trained)
        study.sampler = self.make(int(generator.integers(2**31)))

        def draw() -> Point:
            trial = study.ask(self._distributions)
            return tuple(int(trial.params[choice.name]) for choice in self.space.choices)

        return allowed_point(self.space, draw, judge=judge, generator=generator, attempts=_ATTEMPTS)

    @property
    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {
            choice.name: CategoricalDistribution(tuple(range(len(choice.options))))
            for choice in self.space.choices
        }

    def _study(self, trained: Sequence[Seen]) -> optuna.Study:
        """Return a study, in memory, that was told of these trials."""
        with _silent():
            study = optuna.create_study(direction="maximize")
        distributions = self._distributions
        for place, one in enumerate(trained):
            names = (choice.name for choice in self.space.choices)
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict(zip(names, one.point, strict=True)),
                    distributions=distributions,
                    value=one.score,
                    # NSGA-II breeds from whole generations; a trial it was told has none.
                    system_attrs={_GENERATION_OF: place // _POPULATION},
                )
            )
        return study


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna from writing a line for every study in memory, and leave it as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _tpe(space: Space) -> OptunaSampler:
    return OptunaSampler(
        space, lambda seed: optuna.samplers.TPESampler(multivariate=True, seed=seed)
    )


def _nsga2(space: Space) -> OptunaSampler:
    return OptunaSampler(
        space,
        lambda seed: optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed),
    )


SAMPLERS.add("tpe", _tpe)
SAMPLERS.add("nsga2", _nsga2)
