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
    order = {name: place for place, name in enumerate(plan.layers)}
    gone, cheap = dict[str, str](), dict[str, dict[str, Any]]()
    for name in names:
        layer = plan.layers[name]
        keeps = layer.op == "conv" and layer.input_shape == layer.output_shape
        if layer.op == "add":  # the operand that was computed from the other stays
            gone[name] = max(layer.inputs, key=lambda one: order.get(one, -1))
        elif keeps or layer.op in ("activation", "multiply", "shuffle"):
            gone[name] = layer.inputs[0]
    found = without(plan.network, gone) if gone else plan.network
    for one in found.primitives:
        layer = plan.layers[one.name]
        if one.name not in names:
            continue
        if one.op != "conv" or not _fits(layer.input_shape, layer.output_shape, layer.stride):
            return None
        groups = math.gcd(layer.input_shape[0], layer.output_shape[0])
        cheap[one.name] = {"kernel_size": 1, "groups": groups, "padding": (0, 0, 0, 0)}
    return edited(found, cheap)


def _fits(read: tuple[int, ...], written: tuple[int, ...], stride: int) -> bool:
    """Whether a 1x1 window of that stride writes a map of that size."""
    return all(-(-side // stride) == size for side, size in zip(read[1:], written[1:], strict=True))
