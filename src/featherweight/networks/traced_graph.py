"""The graph of a trace while its operators become primitives: values, names, weights, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from featherweight.architecture import Primitive
from featherweight.errors import UnsupportedError
from featherweight.layers import INPUT

__all__ = ["TracedGraph", "TracedMap", "pair", "shape_of", "square"]

_NO_BORDER = (0, 0, 0, 0)


class TracedMap(NamedTuple):
    """A value that depends on the pictures: the output of a primitive, or the input.

    Attributes:
        name: of that primitive.
        padding: zeros that pads put around it (top, left, bottom, right), not yet in a layer.
        groups: of a map read as (groups, n) channels; 0 = an ordinary map.
        transposed: whether these two axes were exchanged.
    """

    name: str
    padding: tuple[int, int, int, int] = _NO_BORDER
    groups: int = 0
    transposed: bool = False


class TracedGraph:
    """What is known of a trace so far.

    Args:
        program: what `torch.export` gave.
        label: name of the network, for errors.

    Attributes:
        values: of the nodes read so far: a `TracedMap`, a constant, or a list of them.
        primitives: by name, in order.
        shapes: of the traced outputs of the primitives, batch axis included.
        weights: of the primitives, named as in a `Network`.
    """

    def __init__(self, program: torch.export.ExportedProgram, label: str) -> None:
        self.label = label
        self.values: dict[fx.Node, Any] = {}
        self.primitives: dict[str, Primitive] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.weights: dict[str, Tensor] = {}
        signature = program.graph_signature
        state = {
            **dict(program.named_parameters()),
            **dict(program.named_buffers()),
            **program.constants,
        }
        places = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self._constants = {name: state[place].detach() for name, place in places.items()}
        self._pictures = signature.user_inputs

    def placeholder(self, node: fx.Node) -> None:
        """Note an input of the trace: the pictures, or a tensor that the module holds."""
        if node.name in self._constants:
            self.values[node] = self._constants[node.name]
        elif node.name in self._pictures:
            self.values[node] = TracedMap(INPUT)
            self.shapes[INPUT] = shape_of(node)
        else:
            raise self.unsupported(node, f"the object {node.name} that the module holds")

    def arguments(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments by their names in the schema, nodes replaced by values."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise self.unsupported(node, f"the call of {node.target}")
        found = {}
        for index, argument in enumerate(schema.arguments):
            if index < len(node.args):
                value: Any = node.args[index]
            else:
                value = node.kwargs.get(argument.name, argument.default_value)
            found[argument.name] = fx.node.map_arg(value, lambda n: self.values[n])
        return found

    def unsupported(self, node: fx.Node, what: str) -> UnsupportedError:
        """Return the error that names an operator and where it is."""
        return UnsupportedError(
            f"{self.label}: {what} (in {_place(node) or 'the outermost module'}) is no "
            "known primitive",
            hint="profile counts such a module; timing and export need layers we know",
        )

    def add(self, node: fx.Node, op: str, inputs: Sequence[Any], **fields: Any) -> TracedMap:
        """Append a primitive that reads whole maps; return its output."""
        for value in inputs:
            if not isinstance(value, TracedMap) or value != TracedMap(value.name):
                raise self.unsupported(node, f"{op} of {_described(value)}")
        name = self._new_name(node, op)
        primitive = Primitive(
            name=name, op=op, inputs=tuple(value.name for value in inputs), **fields
        )
        self.primitives[name] = primitive
        self.shapes[name] = shape_of(node)
        return TracedMap(name)

    def check_channels(self, node: fx.Node, x: Any, what: str) -> None:
        """Refuse a map whose second axis is not its channels any more: it was flattened."""
        source = node.args[0]
        if isinstance(x, TracedMap) and isinstance(source, fx.Node):
            channels, seen = self.shapes[x.name][1], shape_of(source)[1]
            if channels != seen:
                raise self.unsupported(node, f"{what} of a flattened map")

    def _new_name(self, node: fx.Node, kind: str) -> str:
        """A new layer's name: the path of a module that is one operator, else path and kind."""
        place = _place(node)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        leaf = bool(stack) and "torch.nn.modules" in str(stack[-1][1])
        wanted = place if leaf and place else f"{place}.{kind}" if place else kind
        if wanted.partition(".")[0] == "classifier":  # that name is the last layer's alone
            wanted = "head" + wanted.removeprefix("classifier")
        name, count = wanted, 1
        while name in self.primitives or name == INPUT:
            count += 1
            name = f"{wanted}_{count}"
        return name


def _place(node: fx.Node) -> str:
    """Return the dotted path of the module that ran this node."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def _described(value: Any) -> str:
    if isinstance(value, TracedMap):
        return "a map with a border of zeros" if value.padding != _NO_BORDER else "a regrouped map"
    if isinstance(value, Tensor):
        return f"a constant tensor {tuple(value.shape)}"
    return f"a map and {value!r}"


def shape_of(node: Any) -> tuple[int, ...]:
    """Return the traced shape of a node's only output; () of anything else."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else ()


def pair(value: Any) -> tuple[int, int]:
    """Return (rows, columns) of a number or a list of one or two."""
    sizes = list(value) if isinstance(value, (list, tuple)) else [value]
    return (sizes[0], sizes[-1]) if sizes else (0, 0)


def square(value: Any) -> int | None:
    """Return the one size of both axes, `None` where they differ."""
    rows, columns = pair(value)
    return rows if rows == columns else None
