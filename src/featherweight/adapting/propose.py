"""Which blocks become thinner, and which go, so that a network meets a latency."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.knapsack import Option, choose_options
from featherweight.adapting.savings import Savings
from featherweight.adapting.shrink import DROPPED

__all__ = ["propose_widths"]


def propose_widths(
    savings: Savings,
    importance: Mapping[str, NDArray[np.float64]],
    *,
    present_ms: float,
    target_ms: float,
) -> dict[int, int] | None:
    """Return the hidden widths that keep the most importance within a latency.

    A knapsack over all blocks at once, as HALP (arXiv 2110.10811): leaving a block out counts as
    removing all of its hidden channels.

    Args:
        savings: milliseconds that each option saves.
        importance: of the channels of each layer; that of a block's depthwise convolution counts.
        present_ms: latency of the parent.
        target_ms: latency that is asked for.

    Returns:
        position of a block -> its new width, of those that change; `None` when the options do not
        save enough.
    """
    positions = list(savings)
    groups = []
    for position in positions:
        most = max(savings[position].values())
        kept = np.sort(importance[f"blocks.{position}.depthwise"])[::-1].cumsum()
        groups.append(
            [
                Option(most - saved, 0.0 if width == DROPPED else float(kept[width - 1]))
                for width, saved in savings[position].items()
            ]
        )
    least_ms = present_ms - sum(max(saved.values()) for saved in savings.values())
    chosen = choose_options(groups, budget=target_ms - least_ms)
    if chosen is None:
        return None
    widths = {
        position: list(savings[position])[choice]
        for position, choice in zip(positions, chosen, strict=True)
    }
    return {p: width for p, width in widths.items() if width != _present(savings[p])}


def _present(saved: Mapping[int, float]) -> int:
    return max(saved)
