"""Which changes together save enough and lose the least, exactly.

Where no two changes interact this is the multiple-choice knapsack problem, by dynamic programming;
where they do, a mixed-integer programme that scipy's HiGHS solves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from featherweight.errors import FailedError

__all__ = ["Item", "NoChoiceError", "Option", "choose_items", "choose_options"]

_GRID = 4000
"""Steps the budget is divided into; costs are rounded up to them, so no choice exceeds it."""

_INFEASIBLE = 2
"""scipy's status of a programme without an answer."""
_ROUNDING = 1e-6
"""Of a step: what sums of floats are off by, not a cost."""


_PATIENCE_S = 20.0
"""For a mixed-integer programme; the best choice so far is taken then, and lies within its gap."""
_GAP = 1e-3
"""Of the value lost: a choice this near to the best is the best."""


class NoChoiceError(FailedError):
    """The solver found no answer in its time."""


class Item(NamedTuple):
    """A change that may be chosen.

    Attributes:
        saved: what it saves alone.
        lost: what it costs in value.
        excludes: of items that have one of these in common, at most one is chosen.
    """

    saved: float
    lost: float
    excludes: frozenset[str]


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


def choose_items(
    items: Sequence[Item], shared: Mapping[tuple[int, int], float], *, needed: float
) -> list[int] | None:
    """Return the positions of the items that save what is needed and lose the least.

    Args:
        items: what there is to choose from.
        shared: for pairs of positions that may be chosen together, how much less they save
            together than each alone.
        needed: what they have to save in all.

    Returns:
        ascending; none where nothing is needed; `None` = all of them do not save enough.

    Raises:
        NoChoiceError: the solver found no answer in its time.
    """
    if needed <= 0.0:
        return []
    parts = _parts(items)
    if not shared and all(_exclude_each_other(items, part) for part in parts):
        return _by_parts(items, parts, needed=needed)
    return _by_solver(items, shared, needed=needed)


def _parts(items: Sequence[Item]) -> list[list[int]]:
    """Return the positions of items that exclusions connect."""
    parts: list[tuple[set[str], list[int]]] = []
    for position, item in enumerate(items):
        tokens, members = set(item.excludes), [position]
        apart = []
        for others, positions in parts:
            if others & tokens:
                tokens |= others
                members = [*positions, *members]
            else:
                apart.append((others, positions))
        parts = [*apart, (tokens, members)]
    return [sorted(members) for _, members in parts]


def _exclude_each_other(items: Sequence[Item], part: Sequence[int]) -> bool:
    return all(
        items[one].excludes & items[other].excludes for one in part for other in part if one < other
    )


def _by_parts(
    items: Sequence[Item], parts: Sequence[Sequence[int]], *, needed: float
) -> list[int] | None:
    most = [max(items[position].saved for position in part) for part in parts]
    groups = [
        [Option(best, 0.0)]
        + [Option(best - items[position].saved, -items[position].lost) for position in part]
        for part, best in zip(parts, most, strict=True)
    ]
    chosen = choose_options(groups, budget=sum(most) - needed)
    if chosen is None:
        return None
    return sorted(
        part[choice - 1] for part, choice in zip(parts, chosen, strict=True) if choice > 0
    )


def _by_solver(
    items: Sequence[Item], shared: Mapping[tuple[int, int], float], *, needed: float
) -> list[int] | None:
    """Solve with a variable for every item and for every pair that shares: 1 where both are chosen.

    A pair's variable lowers what is saved, so that it is as low as it may be: the sum of its two
    items less one.
    """
    count, pairs = len(items), list(shared)
    tokens = sorted({token for item in items for token in item.excludes})
    rows = {token: row for row, token in enumerate(tokens)}
    entries = [
        (rows[token], position, 1.0)
        for position, item in enumerate(items)
        for token in item.excludes
    ]
    saving = len(tokens)
    entries += [(saving, position, item.saved) for position, item in enumerate(items)]
    entries += [(saving, count + k, -shared[pair]) for k, pair in enumerate(pairs)]
    for k, (one, other) in enumerate(pairs):
        row = saving + 1 + k
        entries += [(row, one, 1.0), (row, other, 1.0), (row, count + k, -1.0)]
    row_numbers, columns, values = zip(*entries, strict=True)
    shape = (saving + 1 + len(pairs), count + len(pairs))
    matrix = coo_array((values, (row_numbers, columns)), shape=shape).tocsr()
    low = np.full(shape[0], -np.inf)
    low[saving] = needed
    high = np.ones(shape[0])
    high[saving] = np.inf
    scale = sum(item.lost for item in items) or 1.0
    losses = np.array([item.lost / scale for item in items])
    answer = milp(
        np.concatenate([losses, np.zeros(len(pairs))]),
        integrality=np.concatenate([np.ones(count), np.zeros(len(pairs))]),
        bounds=Bounds(0.0, 1.0),
        constraints=LinearConstraint(matrix, low, high),
        options={"time_limit": _PATIENCE_S, "mip_rel_gap": _GAP},
    )
    if answer.status == _INFEASIBLE:
        return None
    if answer.x is None:
        raise NoChoiceError(f"no choice was found in {_PATIENCE_S:g} s: {answer.message}")
    return [int(position) for position in np.flatnonzero(answer.x[:count] > 0.5)]
