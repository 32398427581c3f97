"""Numbers that describe a point: every choice, and what its network takes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featherweight.searching.costs import costs
from featherweight.searching.space import Point, Space

__all__ = ["PointFeatures"]


_MOST_KNOWN = 5000
"""Points whose numbers are kept: of a few kB each."""


@dataclass(frozen=True)
class PointFeatures:
    """Every choice as zeros and a one; depth, log params, log multiply-adds, and their squares.

    Attributes:
        space: of the points.
    """

    space: Space
    _known: dict[Point, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def __call__(self, point: Point) -> NDArray[np.float64]:
        """Return the numbers of a point, (features,)."""
        if point not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            parts = []
            for option, choice in zip(point, self.space.choices, strict=True):
                row = np.zeros(len(choice.options))
                row[option] = 1.0
                parts.append(row)
            found = costs(self.space.decode(point))
            numbers = np.array(
                [found.depth / 10.0, np.log(found.params), np.log(max(found.macs, 1))]
            )
            self._known[point] = np.concatenate([*parts, numbers, numbers**2])
        return self._known[point]
