"""Which groups become narrower, and which blocks go, so that a network meets a latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.groups import Change, Drop, WidthGroup
from featherweight.adapting.knapsack import Option, choose_options
from featherweight.adapting.savings import Saving

__all__ = ["propose_changes"]


def propose_changes(
    groups: Sequence[WidthGroup],
    savings: Sequence[Saving],
    importance: Mapping[str, NDArray[np.float64]],
    *,
    present_ms: float,
    target_ms: float,
) -> tuple[Change, ...] | None:
    """Return the changes that keep the most importance within a latency.

    A knapsack over all groups at once, as HALP (arXiv 2110.10811): leaving a block out counts as
    removing all of its hidden channels.

    Args:
        groups: of the parent; each has at most one change.
        savings: milliseconds that each change saves by itself.
        importance: of the channels of each layer; that of a group's last layer counts.
        present_ms: latency of the parent.
        target_ms: latency that is asked for.

    Returns:
        none where the parent is fast enough; `None` when all changes together do not save enough.
    """
    offered = [
        [(None, 0.0)] + [(one.change, one.saved_ms) for one in savings if _is_of(one, group)]
        for group in groups
    ]
    most = [max(saved for _, saved in options) for options in offered]
    priced = [
        [Option(best - saved, _worth(group, change, importance)) for change, saved in options]
        for group, options, best in zip(groups, offered, most, strict=True)
    ]
    chosen = choose_options(priced, budget=target_ms - (present_ms - sum(most)))
    if chosen is None:
        return None
    changes = [options[choice][0] for options, choice in zip(offered, chosen, strict=True)]
    return tuple(change for change in changes if change is not None)


def _is_of(saving: Saving, group: WidthGroup) -> bool:
    if isinstance(saving.change, Drop):
        return saving.change.block == group.block
    return saving.change.group == group.name


def _worth(
    group: WidthGroup, change: Change | None, importance: Mapping[str, NDArray[np.float64]]
) -> float:
    """Return the importance of the channels that stay."""
    if isinstance(change, Drop):
        return 0.0
    kept = np.sort(importance[group.layers[-1]])[::-1].cumsum()
    return float(kept[(group.channels if change is None else change.channels) - 1])
