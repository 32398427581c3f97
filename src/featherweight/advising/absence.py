"""A network with next to nothing in the place of some layers.

What it takes less is what they cost, where a runtime does not time its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from featherweight.advising.drafts import edited, without
from featherweight.advising.guideline import Plan
from featherweight.architecture import Architecture

__all__ = ["with_nothing_at"]


def with_nothing_at(plan: Plan, names: Collection[str]) -> Architecture | None:
    """Return the network without layers that keep their map, and with others as cheap as can be.

    A convolution that changes its map becomes one of 1x1 in as many groups as there can be.

    Args:
        plan: of the network.
        names: of layers.

    Returns:
        `None` where a layer can be neither.
    """
    gone, cheap = [], dict[str, dict[str, Any]]()
    for name in names:
        layer = plan.layers[name]
        keeps = layer.op == "conv" and layer.input_shape == layer.output_shape
        if keeps or layer.op in ("activation", "add", "multiply", "shuffle"):
            gone.append(name)
        elif layer.op == "conv" and _fits(layer.input_shape, layer.output_shape, layer.stride):
            groups = math.gcd(layer.input_shape[0], layer.output_shape[0])
            cheap[name] = {"kernel_size": 1, "groups": groups, "padding": (0, 0, 0, 0)}
        else:
            return None
    found = edited(plan.network, cheap)
    return without(found, gone) if gone else found


def _fits(read: tuple[int, ...], written: tuple[int, ...], stride: int) -> bool:
    """Whether a 1x1 window of that stride writes a map of that size."""
    return all(-(-side // stride) == size for side, size in zip(read[1:], written[1:], strict=True))
