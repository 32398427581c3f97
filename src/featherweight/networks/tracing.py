"""A trace of `torch.export`, operator by operator, as primitive layers with their weights."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from featherweight.architecture import Architecture
from featherweight.errors import ArchitectureError, UnsupportedError
from featherweight.layers import layers
from featherweight.networks.traced_graph import TracedGraph, TracedMap
from featherweight.networks.traced_operators import OPERATORS, PASSED
from featherweight.nn.network import Network

__all__ = ["network_of_trace"]


def network_of_trace(
    program: torch.export.ExportedProgram, label: str, *, input_shape: tuple[int, int, int]
) -> Network:
    """Return what a trace computes as a network, in eval mode.

    Args:
        program: what `torch.export` gave.
        label: name of the network, for the architecture and errors.
        input_shape: (C, H, W) of the trace.

    Raises:
        UnsupportedError: an operator that is no known primitive, or an output that is not one
            vector for each picture.
    """
    graph = TracedGraph(program, label)
    output: Any = None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            graph.placeholder(node)
        elif node.op == "output":
            output = graph.values.get(node.args[0][0])
        else:
            graph.values[node] = _converted(graph, node)
    if not isinstance(output, TracedMap):
        raise UnsupportedError(f"{label} gives the same answer to every picture")
    if output != TracedMap(output.name) or output.name not in graph.primitives:
        raise UnsupportedError(
            f"{label} does not end with the output of a layer", allowed="a module of known layers"
        )
    _keep_what_is_read(graph, output.name)
    return _built(graph, label, input_shape)


def _converted(graph: TracedGraph, node: fx.Node) -> Any:
    if node.target is operator.getitem:
        return graph.values[node.args[0]][node.args[1]]  # type: ignore[index]
    given = graph.arguments(node)
    target: Any = node.target
    kind = str(target.overloadpacket).removeprefix("aten.").removesuffix("_")
    if kind in PASSED:
        return given["self"]
    if not _depends_on_pictures(given):
        return _constant(graph, node)
    if target._schema.is_mutable and not node.users:
        # What is changed is a view: those who read the whole map see it, the trace does not.
        raise graph.unsupported(node, f"{kind!r} in place of a part of a map")
    convert = OPERATORS.get(kind)
    if convert is None:
        raise graph.unsupported(node, f"the operator {kind!r}")
    return convert(graph, node, given)


def _depends_on_pictures(value: Any) -> bool:
    if isinstance(value, TracedMap):
        return True
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and any(map(_depends_on_pictures, value))


def _constant(graph: TracedGraph, node: fx.Node) -> Any:
    """Compute what does not depend on the pictures, such as a weight from its norm."""
    target: Any = node.target
    if target._schema.is_mutable:
        raise graph.unsupported(node, "a tensor of the module that it changes while it answers")
    if torch.Tag.nondeterministic_seeded in target.tags:
        raise graph.unsupported(node, f"the random operator {target.overloadpacket}")
    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: graph.values[n])
    return target(*args, **kwargs)


def _keep_what_is_read(graph: TracedGraph, last: str) -> None:
    """Drop the layers and weights that the answer does not need, such as a second head."""
    needed = {last}
    for primitive in reversed(list(graph.primitives.values())):
        if primitive.name in needed:
            needed.update(primitive.inputs)
    graph.primitives = {name: p for name, p in graph.primitives.items() if name in needed}
    kept = tuple(f"{name}." for name in graph.primitives)
    graph.weights = {key: value for key, value in graph.weights.items() if key.startswith(kept)}


def _built(graph: TracedGraph, label: str, input_shape: tuple[int, int, int]) -> Network:
    primitives, weights = list(graph.primitives.values()), dict(graph.weights)
    classes = 0
    if primitives[-1].op == "linear":  # training knows the last layer by this name
        classes = primitives[-1].out_channels or 0
        old = primitives[-1].name
        primitives[-1] = primitives[-1].model_copy(update={"name": "classifier"})
        for part in ("weight", "bias"):
            weights[f"classifier.{part}"] = weights.pop(f"{old}.{part}")
    architecture = Architecture(
        name=label,
        input_shape=input_shape,
        primitives=tuple(primitives),
        num_classes=classes,
    )
    try:
        layers(architecture)
    except ArchitectureError as error:
        raise UnsupportedError(f"{label} cannot be imported: {error}") from error
    network = Network(architecture)
    network.load_state_dict(weights, strict=False)
    missing = set(network.state_dict()) - set(weights)
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    return network.eval()
