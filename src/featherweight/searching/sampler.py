"""The seam of samplers: what they see, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from featherweight.errors import FailedError
from featherweight.registry import Registry
from featherweight.searching.costs import costs
from featherweight.searching.space import Point, Space, mutated, random_point

__all__ = [
    "GENERATION",
    "SAMPLERS",
    "Fate",
    "Judge",
    "NoNetworkLeft",
    "Proposal",
    "Sampler",
    "Seen",
    "allowed_point",
    "propose_next",
]

GENERATION = 5
"""Trials that are proposed from the same results, so that so many can train side by side."""
_EVEN_DRAWS = 2000
_WALKS, _STEPS = 20, 400
"""Where even draws are too slow: changes that take fewer multiply-adds, until one is fast enough;
after so many walks nothing further is looked for."""

Fate = Literal["new", "known", "slow"]
"""What becomes of a point: it is trained; it was trained or proposed before; it is too slow."""
Judge = Callable[["Point"], Fate]


class NoNetworkLeft(FailedError):  # noqa: N818 - says what is the case
    """Everything that is fast enough was proposed, as far as one can see."""


class Seen(NamedTuple):
    """One point that was scored, or that needed no score.

    Attributes:
        point: what was proposed.
        score: larger is better; what is too slow was never trained and has the least score, 0.
        trained: whether it was trained.
        trial: number of the trial that it was proposed for.
    """

    point: Point
    score: float
    trained: bool
    trial: int


class Proposal(NamedTuple):
    """What a sampler answers.

    Attributes:
        point: to train.
        slow: points drawn before it that were too slow, of a sampler that learns from them.
    """

    point: Point
    slow: tuple[Point, ...] = ()


class Sampler(Protocol):
    """Proposes points of one space; made anew it proposes the same."""

    def propose(
        self,
        seen: Sequence[Seen],
        *,
        judge: Judge,
        generator: np.random.Generator,
    ) -> Proposal:
        """Return a point whose fate is `new`.

        Args:
            seen: everything of the complete generations before this one, by trial.
            judge: tells the fate of a point; asked as often as wished.
            generator: of this trial.

        Raises:
            NoNetworkLeft: no such point was found.
        """


SAMPLERS: Registry[Callable[[Space], Sampler]] = Registry(
    "sampler", plugins="featherweight.searching.samplers"
)


def propose_next(
    sampler: Sampler,
    seen: Sequence[Seen],
    *,
    trial: int,
    seed: int,
    judge: Judge,
) -> Proposal:
    """Return what the trial of a number should train.

    It follows from seed, number and the complete generations before it: work side by side, one
    after the other or gone on with, a study proposes the same.

    Args:
        sampler: of the space.
        seen: of all trials so far.
        trial: its number, from 0.
        seed: of the study.
        judge: tells whether a point is too slow, or was trained or proposed before.

    Raises:
        NoNetworkLeft: no such point was found.
    """
    before = trial // GENERATION * GENERATION
    known = [one for one in seen if one.trial < before]
    return sampler.propose(known, judge=judge, generator=np.random.default_rng((seed, trial)))


def allowed_point(
    space: Space,
    draw: Callable[[], Point],
    *,
    judge: Judge,
    generator: np.random.Generator,
    attempts: int = 1000,
) -> Proposal:
    """Return the first drawn point that is new and fast enough.

    Else it is the first even draw, and else one on a walk towards fewer multiply-adds.

    Args:
        space: of the points.
        draw: what the sampler would like.
        judge: tells the fate of a point.
        generator: of even draws.
        attempts: draws.

    Raises:
        NoNetworkLeft: nothing new and fast enough was drawn.
    """
    slow: dict[Point, None] = {}
    for _ in range(attempts):
        point = draw()
        fate = judge(point)
        if fate == "new":
            return Proposal(point, tuple(slow))
        if fate == "slow":
            slow[point] = None
    for _ in range(_EVEN_DRAWS):
        point = random_point(space, generator)
        if judge(point) == "new":
            return Proposal(point, tuple(slow))
    for _ in range(_WALKS):
        found = _walk(space, judge=judge, generator=generator)
        if found is not None:
            return Proposal(found, tuple(slow))
    raise NoNetworkLeft(
        f"no further network of {space.name} is new and fast enough",
        hint="give more milliseconds, fewer trials, or another space",
    )


def _walk(space: Space, *, judge: Judge, generator: np.random.Generator) -> Point | None:
    """Go from an even draw to fewer multiply-adds; return the first point that is fast enough.

    Networks that a budget just admits are where a search looks; of even draws they may be one in
    millions.
    """
    point = random_point(space, generator)
    least = costs(space.decode(point)).macs
    for _ in range(_STEPS):
        other = mutated(space, point, generator)
        macs = costs(space.decode(other)).macs
        if macs > least:
            continue
        point, least = other, macs
        fate = judge(point)
        if fate == "new":
            return point
    return None
