"""What a search may draw: named choices, and the network that follows from one option of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.registry import Registry

__all__ = [
    "SPACES",
    "Choice",
    "Point",
    "Space",
    "SpaceSettings",
    "count_points",
    "mutated",
    "random_point",
    "read_point",
]

Point = tuple[int, ...]
"""Of every choice, in order, which of its options."""


class Choice(NamedTuple):
    """One thing to decide.

    Attributes:
        name: says where in the network, and what.
        options: what can be chosen, as people read it.
    """

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class SpaceSettings:
    """What the data asks of every network.

    Attributes:
        input_shape: (C, H, W).
        num_classes: outputs.
    """

    input_shape: tuple[int, int, int]
    num_classes: int


class Space(Protocol):
    """A set of networks."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Everything that is decided, in the order of a point."""

    def decode(self, point: Point) -> Architecture:
        """Return the network of a point; points of equal networks give equal digests."""

    def key(self, point: Point) -> str:
        """Return what equal networks have in common, and no others."""

    def places(self, point: Point) -> tuple[str, ...]:
        """Return for every block of the network where in the space it stands: `STAGE.LAYER`.

        Blocks of two networks at one place do the same work.
        """


SPACES: Registry[Callable[[SpaceSettings], Space]] = Registry(
    "space", plugins="featherweight.searching.spaces"
)


def count_points(space: Space) -> int:
    """Return how many points there are; equal networks are counted as often as they occur."""
    return math.prod(len(choice.options) for choice in space.choices)


def random_point(space: Space, generator: np.random.Generator) -> Point:
    """Draw every choice evenly."""
    return tuple(int(generator.integers(len(choice.options))) for choice in space.choices)


def mutated(space: Space, point: Point, generator: np.random.Generator) -> Point:
    """Change one choice, drawn evenly among those with several options, to another option."""
    free = [index for index, choice in enumerate(space.choices) if len(choice.options) > 1]
    index = free[int(generator.integers(len(free)))]
    others = [
        option for option in range(len(space.choices[index].options)) if option != point[index]
    ]
    changed = list(point)
    changed[index] = others[int(generator.integers(len(others)))]
    return tuple(changed)


def read_point(space: Space, options: dict[str, str]) -> Point:
    """Return the point that names an option of every choice.

    Raises:
        UsageError: a choice is missing or unknown, or has no such option.
    """
    known = {choice.name: choice for choice in space.choices}
    if set(options) != set(known):
        odd = sorted(set(options) ^ set(known))[0]
        raise UsageError(
            f"{odd!r} is {'unknown' if odd in options else 'missing'} in a point of {space.name}",
            allowed=f"every choice once: {', '.join(known)}",
        )
    for name, option in options.items():
        if option not in known[name].options:
            raise UsageError(
                f"{name}={option} cannot be chosen in {space.name}",
                allowed=", ".join(known[name].options),
            )
    return tuple(choice.options.index(options[choice.name]) for choice in space.choices)
