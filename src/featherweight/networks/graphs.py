"""A network as a graph of primitives, any layer of which can be exchanged."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.architecture import Architecture, Primitive
from featherweight.layers import as_primitives, layers

__all__ = ["as_graph", "used_primitives"]


def as_graph(architecture: Architecture) -> Architecture:
    """Return the same network as a graph of primitives, its layers with their names."""
    if architecture.primitives:
        return architecture
    listed = as_primitives(layers(architecture), same=architecture.padding == "same")
    return Architecture(
        name=architecture.name,
        input_shape=architecture.input_shape,
        primitives=listed,
        num_classes=architecture.num_classes,
        dropout=architecture.dropout,
    )


def used_primitives(primitives: Sequence[Primitive]) -> tuple[Primitive, ...]:
    """Leave out primitives that do not lead to the last one."""
    wanted, kept = {primitives[-1].name}, []
    for one in reversed(primitives):
        if one.name in wanted:
            wanted.update(one.inputs)
            kept.append(one)
    return tuple(reversed(kept))
