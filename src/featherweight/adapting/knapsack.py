"""One option of every group, of the greatest total value within a total cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Option", "choose_options"]

_GRID = 4000
"""Steps the budget is divided into; costs are rounded up to them, so no choice exceeds it."""

_ROUNDING = 1e-6
"""Of a step: what sums of floats are off by, not a cost."""


class Option(NamedTuple):
    """What choosing it costs (not below 0) and is worth."""

    cost: float
    value: float


def choose_options(groups: Sequence[Sequence[Option]], *, budget: float) -> list[int] | None:
    """Return the position of the chosen option in each group; `None` = nothing is cheap enough.

    The multiple-choice knapsack problem, solved exactly on a grid of costs by dynamic programming
    (Kellerer, Pferschy and Pisinger 2004, Knapsack Problems, chapter 11); as used for a latency
    table by HALP, arXiv 2110.10811, section 3.3.

    Args:
        groups: one option must be chosen of each.
        budget: limit of the sum of the costs.
    """
    if budget < 0.0:
        return None
    best = np.zeros(_GRID + 1)  # greatest value of the groups so far at a cost of at most k steps
    choices: list[np.ndarray] = []
    steps = [[_steps(option.cost, budget) for option in group] for group in groups]
    for group, costs in zip(groups, steps, strict=True):
        offered = np.full((len(group), _GRID + 1), -np.inf)
        for row, (option, cost) in enumerate(zip(group, costs, strict=True)):
            if cost <= _GRID:
                offered[row, cost:] = best[: _GRID + 1 - cost] + option.value
        choices.append(offered.argmax(axis=0))
        best = offered.max(axis=0)
    if best[_GRID] == -np.inf:
        return None
    left, chosen = _GRID, []
    for costs, choice in zip(reversed(steps), reversed(choices), strict=True):
        chosen.append(int(choice[left]))
        left -= costs[chosen[-1]]
    return chosen[::-1]


def _steps(cost: float, budget: float) -> int:
    if cost <= 0.0:
        return 0
    if budget <= 0.0:
        return _GRID + 1
    return min(math.ceil(cost / budget * _GRID - _ROUNDING), _GRID + 1)
