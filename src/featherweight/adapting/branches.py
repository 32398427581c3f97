"""Which branches of a network can be left out: what they are added to goes on by itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from featherweight.adapting.groups import Drop, block_of
from featherweight.architecture import Architecture, Primitive
from featherweight.layers import INPUT, Layer, layers

__all__ = ["branch_layers", "droppable", "dropped_primitives"]


def droppable(architecture: Architecture) -> tuple[Drop, ...]:
    """Return the branches without which the network is still one, in their order.

    Of a network of blocks these are whole blocks that end by adding their own input; of an
    imported one, all layers between a map and the addition of the same map.
    """
    return tuple(Drop(add=name) for name in branch_layers(architecture))


@functools.lru_cache(maxsize=64)
def branch_layers(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """Return the layers that go with every branch that can be left out, by its addition."""
    listed = layers(architecture)
    if architecture.primitives:
        return {
            layer.name: found
            for layer in listed
            if layer.op == "add" and (found := _between(listed, layer)) is not None
        }
    blocks: dict[int, list[Layer]] = {}
    for layer in listed:
        position = block_of(layer.name)
        if position is not None:
            blocks.setdefault(position, []).append(layer)
    functions = {layer.name: layer.function for layer in listed if layer.op == "activation"}
    return {
        add.name: tuple(layer.name for layer in own)
        for own in blocks.values()
        if (add := _ending(own, functions)) is not None
    }


def _ending(own: Sequence[Layer], functions: dict[str, str]) -> Layer | None:
    """Return the addition by which a block gives its input and something; `None` = it does not.

    An activation that follows must be that which the input went through already.
    """
    entry = own[0].inputs[0]
    last = own[-1]
    if last.op == "activation":
        if last.function != functions.get(entry) or last.function == "hard_swish":
            return None
        last = own[-2]
    return last if last.op == "add" and entry in last.inputs else None


def _between(listed: Sequence[Layer], add: Layer) -> tuple[str, ...] | None:
    """Return an addition and what only leads to it from its other operand; `None` = more does."""
    inputs = {layer.name: layer.inputs for layer in listed}
    readers: dict[str, set[str]] = {}
    for layer in listed:
        for name in layer.inputs:
            readers.setdefault(name, set()).add(layer.name)
    for kept, end in (add.inputs, add.inputs[::-1]):
        inside, waiting = {add.name}, [end]
        while waiting:
            name = waiting.pop()
            if name in inside or name == kept:
                continue
            if name == INPUT:
                break
            inside.add(name)
            waiting += inputs[name]
        else:
            alone = all(readers[name] <= inside for name in inside - {add.name})
            if end != kept and alone:
                return tuple(layer.name for layer in listed if layer.name in inside)
    return None


def dropped_primitives(architecture: Architecture, drops: Sequence[Drop]) -> tuple[Primitive, ...]:
    """Return the primitives of an imported network without some branches."""
    branches = branch_layers(architecture)
    given = {primitive.name: primitive for primitive in architecture.primitives}
    gone, instead = set(), {}
    for drop in drops:
        inside = set(branches[drop.add])
        gone |= inside
        instead[drop.add] = next(name for name in given[drop.add].inputs if name not in inside)

    def source(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    return tuple(
        primitive.model_copy(update={"inputs": tuple(map(source, primitive.inputs))})
        for primitive in architecture.primitives
        if primitive.name not in gone
    )
