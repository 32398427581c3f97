"""Which groups become narrower, and which branches go, so that a network meets a latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.branches import branch_layers
from featherweight.adapting.groups import Change, Drop, Narrow, WidthGroup, width_groups
from featherweight.adapting.knapsack import Item, choose_items
from featherweight.adapting.saving_model import SavingModel
from featherweight.architecture import Architecture

__all__ = ["propose_changes"]


def propose_changes(
    architecture: Architecture,
    model: SavingModel,
    importance: Mapping[str, NDArray[np.float64]],
    *,
    target_ms: float,
) -> tuple[Change, ...] | None:
    """Return the changes that keep the most importance within a latency.

    A knapsack over all groups and branches at once, as HALP (arXiv 2110.10811) and MDP (arXiv
    2406.12079): leaving a branch out counts as removing all channels of the narrowest group inside.

    Args:
        architecture: the parent; each of its groups has at most one change.
        model: what changes save.
        importance: of the channels of each layer.
        target_ms: latency that is asked for.

    Returns:
        none where the parent is fast enough; `None` when all changes together do not save enough.
    """
    groups = {group.name: group for group in width_groups(architecture)}
    inside = _groups_inside(architecture, tuple(groups.values()))
    items = {
        change: Item(model.saved_ms(change), lost, _excluded(change, inside))
        for change in model.changes
        if (lost := _lost(change, groups, inside, importance)) is not None
    }
    shared = {
        (one, other): less
        for (one, first), (other, second) in combinations(enumerate(items), 2)
        if not items[first].excludes & items[second].excludes
        and (less := model.shared_ms(first, second))
    }
    chosen = choose_items(list(items.values()), shared, needed=model.present_ms - target_ms)
    return None if chosen is None else tuple(list(items)[position] for position in chosen)


def _groups_inside(
    architecture: Architecture, groups: Sequence[WidthGroup]
) -> dict[str, tuple[WidthGroup, ...]]:
    """Return the groups that go as a whole with every branch, by its addition."""
    return {
        add: tuple(group for group in groups if set(group.layers) <= set(names))
        for add, names in branch_layers(architecture).items()
    }


def _excluded(change: Change, inside: Mapping[str, Sequence[WidthGroup]]) -> frozenset[str]:
    """Return what no second change may be of."""
    if isinstance(change, Drop):
        return frozenset({change.add, *(group.name for group in inside[change.add])})
    return frozenset({change.group})


def _lost(
    change: Change,
    groups: Mapping[str, WidthGroup],
    inside: Mapping[str, Sequence[WidthGroup]],
    importance: Mapping[str, NDArray[np.float64]],
) -> float | None:
    """Return the importance that goes; `None` = of a branch whose importance nothing tells."""
    if isinstance(change, Narrow):
        group = groups[change.group]
        ranked = np.sort(_of_group(group, importance))
        return float(ranked[: len(ranked) - change.channels // group.copies].sum())
    within = [group for group in inside[change.add] if group.kind == "hidden"]
    return min((float(_of_group(group, importance).sum()) for group in within), default=None)


def _of_group(
    group: WidthGroup, importance: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the importance of each channel of a group, those that go together as one."""
    return importance[group.layers[0]][: group.channels // group.copies]
