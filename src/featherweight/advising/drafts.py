"""Variants of a network for advice: layers left out or exchanged, widths set for equal work.

Everything here is done on a graph of primitives, so that it works on networks of blocks and on
imported ones alike; weights play no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

from featherweight.adapting.groups import WidthGroup, width_groups
from featherweight.architecture import Architecture
from featherweight.errors import ArchitectureError
from featherweight.layers import INPUT, layers
from featherweight.networks.channels import is_depthwise
from featherweight.networks.graphs import used_primitives
from featherweight.profiling.profile import totals

__all__ = [
    "EQUAL",
    "edited",
    "groups_of",
    "macs_of",
    "with_equal_macs",
    "with_widths",
    "without",
]

EQUAL = 0.02
"""Share of all multiply-adds by which a variant may differ from the network it is of."""
_STEPS = (8, 4, 2, 1)
"""Multiples that new widths may be of: the first that comes near enough is taken."""
_WIDEST, _NARROWEST = 16.0, 1 / 64
_HALVINGS = 14


def macs_of(architecture: Architecture) -> int:
    """Return the multiply-adds of a network."""
    return totals(architecture).macs


def without(network: Architecture, names: Mapping[str, str] | Collection[str]) -> Architecture:
    """Return a graph in which what read these layers reads one of their inputs instead.

    What nobody reads any more is left out.

    Args:
        network: a graph.
        names: of the layers, with the input that is read instead; by default their first.
    """
    if not isinstance(names, Mapping):
        names = {one.name: one.inputs[0] for one in network.primitives if one.name in names}

    def source(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    kept = [
        one.model_copy(update={"inputs": tuple(map(source, one.inputs))})
        for one in network.primitives
        if one.name not in names
    ]
    return network.changed(primitives=used_primitives(kept))


def edited(network: Architecture, fields: Mapping[str, Mapping[str, Any]]) -> Architecture:
    """Return a graph with other fields of some layers; what nobody reads any more is left out."""
    found = [
        one.model_copy(update=dict(fields[one.name])) if one.name in fields else one
        for one in network.primitives
    ]
    return network.changed(primitives=used_primitives(found))


def groups_of(network: Architecture) -> dict[str, WidthGroup]:
    """Return the widths of a graph that can be chosen, by every layer that writes them."""
    return {name: group for group in width_groups(network, step=1) for name in group.layers}


def with_widths(network: Architecture, widths: Mapping[WidthGroup, int]) -> Architecture:
    """Return a graph with other widths, wider ones too; what follows from them follows.

    Raises:
        ArchitectureError: the layers do not fit together with them.
    """
    shares = {
        name: Fraction(width, group.channels)
        for group, width in widths.items()
        for name in group.layers
    }
    before = {layer.name: layer for layer in layers(network)}
    old = {INPUT: network.input_shape[0]}
    old.update({name: layer.output_shape[0] for name, layer in before.items()})
    new = {INPUT: network.input_shape[0]}
    found = []
    for one in network.primitives:
        source, fields = one.inputs[0], dict[str, int]()
        if one.op in ("conv", "linear"):
            width = round(shares.get(one.name, 1) * old[one.name])
            if is_depthwise(before[one.name]):
                width = new[source] * (old[one.name] // old[source])
                fields["groups"] = new[source]
            fields["out_channels"] = width
        elif one.op == "select":
            share = new[source] / old[source]
            width = max(1, round(share * old[one.name]))
            fields = {"out_channels": width, "first_channel": round(share * one.first_channel)}
        elif one.op == "pad":
            width = new[source] + old[one.name] - old[source]
            fields["out_channels"] = width
        elif one.op == "concat":
            width = sum(new[name] for name in one.inputs)
        else:
            width = new[source]
        new[one.name] = width
        found.append(one.model_copy(update=fields))
    result = network.changed(primitives=tuple(found))
    layers(result)
    return result


def with_equal_macs(
    network: Architecture, groups: Sequence[WidthGroup], macs: int
) -> Architecture | None:
    """Return a graph whose multiply-adds are those wanted, by scaling some widths together.

    Widths are multiples of eight where that comes within `EQUAL` of it, else of four, two or one.

    Args:
        network: a graph.
        groups: widths of it that may change.
        macs: wanted.

    Returns:
        `None` where no such widths exist, or the layers do not fit together with them.
    """
    groups = tuple(dict.fromkeys(groups))
    if not groups:
        return network if abs(macs_of(network) - macs) <= EQUAL * macs else None
    for step in _STEPS:
        try:
            found = _nearest(network, groups, macs, step=step)
        except ArchitectureError:
            return None
        if abs(macs_of(found) - macs) <= EQUAL * macs:
            return found
    return None


def _nearest(
    network: Architecture, groups: Sequence[WidthGroup], macs: int, *, step: int
) -> Architecture:
    """Scale widths by one factor, then move them by one step where that brings them nearer."""
    steps = [math.lcm(step, group.step) if step > 1 else group.step for group in groups]

    def at(factor: float) -> list[int]:
        return [
            max(1, round(factor * group.channels / one)) * one
            for group, one in zip(groups, steps, strict=True)
        ]

    def drawn(widths: Sequence[int]) -> Architecture:
        return with_widths(network, dict(zip(groups, widths, strict=True)))

    counts: dict[tuple[int, ...], int] = {}

    def distance(widths: Sequence[int]) -> int:
        key = tuple(widths)
        if key not in counts:
            counts[key] = macs_of(drawn(widths))
        return counts[key] - macs

    scaled = at(_root(lambda one: distance(at(one))))
    best = scaled
    while abs(distance(best)) > EQUAL * macs / 4:
        moved = [
            [*best[:k], best[k] + change, *best[k + 1 :]]
            for k, one in enumerate(steps)
            for change in (-one, one)
            if best[k] + change > 0 and abs(best[k] + change - scaled[k]) <= one
        ]
        nearest = min(moved, key=lambda widths: abs(distance(widths)), default=best)
        if abs(distance(nearest)) >= abs(distance(best)):
            break
        best = nearest
    return drawn(best)


def _root(distance: Callable[[float], float]) -> float:
    """Return where a growing function crosses 0, between the widest and the narrowest factor."""
    low, high = math.log(_NARROWEST), math.log(_WIDEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if distance(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
