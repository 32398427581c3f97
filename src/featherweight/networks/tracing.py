"""A trace of `torch.export`, operator by operator, as primitive layers with their weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from featherweight.architecture import Architecture, Primitive
from featherweight.errors import ArchitectureError, UnsupportedError
from featherweight.layers import INPUT, layers
from featherweight.nn.network import Network

__all__ = ["TraceReader"]

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "sigmoid": "sigmoid",
    "silu": "silu",
}
_PASSED = frozenset({"dropout", "contiguous", "clone", "alias", "detach", "feature_dropout"})


class _Map(NamedTuple):
    """A value of the trace: the output of a primitive, or the input.

    Attributes:
        name: of that primitive.
        padding: zeros that a pad put around it (top, left, bottom, right), not yet in a layer.
        groups: of a map read as (groups, n) channels; 0 = an ordinary map.
        transposed: whether these two axes were exchanged.
    """

    name: str
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 0
    transposed: bool = False


class TraceReader:
    """Turns the nodes of one trace into primitives, in order.

    Args:
        program: what `torch.export` gave.
        label: name of the network, for the architecture and errors.
    """

    def __init__(self, program: torch.export.ExportedProgram, label: str) -> None:
        self._label = label
        self._graph = program.graph
        signature = program.graph_signature
        state = {**dict(program.named_parameters()), **dict(program.named_buffers())}
        self._tensors = {
            placeholder: state[target]
            for placeholder, target in {
                **signature.inputs_to_parameters,
                **signature.inputs_to_buffers,
            }.items()
            if target in state
        }
        self._values: dict[fx.Node, Any] = {}
        self._primitives: dict[str, Primitive] = {}
        self._weights: dict[str, Tensor] = {}
        self._used: set[str] = set()

    def network(self, input_shape: tuple[int, int, int]) -> Network:
        """Return the whole network, in eval mode.

        Args:
            input_shape: (C, H, W) of the trace.

        Raises:
            UnsupportedError: an operator that is no known primitive.
        """
        outputs: list[Any] = []
        for node in self._graph.nodes:
            if node.op == "placeholder":
                tensor = self._tensors.get(node.name)
                self._values[node] = _Map(INPUT) if tensor is None else tensor
            elif node.op == "output":
                outputs = list(node.args[0])
            else:
                self._values[node] = self._convert(node)
        last = next(reversed(self._primitives), INPUT)
        if len(outputs) != 1 or self._values.get(outputs[0]) != _Map(last):
            raise UnsupportedError(
                f"{self._label} does not end with one output of its last layer",
                allowed="a module that returns one tensor",
            )
        return self._built(input_shape)

    def _built(self, input_shape: tuple[int, int, int]) -> Network:
        primitives = list(self._primitives.values())
        classes = 0
        if primitives[-1].op == "linear":  # training knows the last layer by this name
            classes = primitives[-1].out_channels or 0
            old = primitives[-1].name
            primitives[-1] = primitives[-1].model_copy(update={"name": "classifier"})
            for part in ("weight", "bias"):
                self._weights[f"classifier.{part}"] = self._weights.pop(f"{old}.{part}")
        architecture = Architecture(
            name=self._label,
            input_shape=input_shape,
            primitives=tuple(primitives),
            num_classes=classes,
        )
        try:
            layers(architecture)
        except ArchitectureError as error:
            raise UnsupportedError(f"{self._label} cannot be imported: {error}") from error
        network = Network(architecture)
        network.load_state_dict(self._weights, strict=False)
        missing = set(network.state_dict()) - set(self._weights)
        assert all(key.endswith("num_batches_tracked") for key in missing), missing
        return network.eval()

    def _convert(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self._values[node.args[0]][node.args[1]]  # type: ignore[index]
        packet = getattr(node.target, "overloadpacket", None)
        kind = str(packet).removeprefix("aten.").removesuffix("_")
        given = self._arguments(node)
        if kind in _PASSED:
            return given["input" if "input" in given else "self"]
        if kind in _ACTIVATIONS:
            return self._activation(node, given["self"], _ACTIVATIONS[kind])
        convert: Callable[[fx.Node, dict[str, Any]], Any] | None = getattr(
            self, f"_on_{kind}", None
        )
        if convert is None:
            raise self._unsupported(node, f"the operator {kind!r}")
        return convert(node, given)

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments by their names in the schema, nodes replaced by values."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise self._unsupported(node, f"the call of {node.target}")
        found = {}
        for index, argument in enumerate(schema.arguments):
            if index < len(node.args):
                value: Any = node.args[index]
            else:
                value = node.kwargs.get(argument.name, argument.default_value)
            found[argument.name] = fx.node.map_arg(value, lambda n: self._values[n])
        return found

    def _unsupported(self, node: fx.Node, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self._label}: {what} (in {self._place(node) or 'the outermost module'}) is no "
            "known primitive",
            hint="profile counts such a module; timing and export need layers we know",
        )

    def _place(self, node: fx.Node) -> str:
        """Return the dotted path of the module that ran this node."""
        stack = node.meta.get("nn_module_stack") or {}
        return str(list(stack.values())[-1][0]) if stack else ""

    def _name(self, node: fx.Node, kind: str) -> str:
        """A new layer's name: the path of a module that is one operator, else path and kind."""
        place = self._place(node)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        leaf = bool(stack) and "torch.nn.modules" in str(stack[-1][1])
        wanted = place if leaf and place else f"{place}.{kind}" if place else kind
        if wanted.partition(".")[0] == "classifier":  # that name is the last layer's alone
            wanted = "head" + wanted.removeprefix("classifier")
        name, count = wanted, 1
        while name in self._used or name == INPUT:
            count += 1
            name = f"{wanted}_{count}"
        self._used.add(name)
        return name

    def _add(self, node: fx.Node, op: str, inputs: Sequence[Any], **fields: Any) -> _Map:
        for value in inputs:
            if not isinstance(value, _Map) or value != _Map(value.name):
                raise self._unsupported(node, f"{op} of something that is no feature map")
        name = self._name(node, op)
        primitive = Primitive(
            name=name, op=op, inputs=tuple(value.name for value in inputs), **fields
        )
        self._primitives[name] = primitive
        return _Map(name)

    def _activation(self, node: fx.Node, x: Any, function: str) -> _Map:
        return self._add(node, "activation", [x], function=function)

    def _on_hardtanh(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        if (given["min_val"], given["max_val"]) != (0, 6):
            raise self._unsupported(node, "a hardtanh other than ReLU6")
        return self._activation(node, given["self"], "relu6")

    def _on_conv2d(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        weight, bias = given["weight"], given["bias"]
        stride, own = _square(given["stride"]), given["padding"]
        x = given["input"]
        if (
            not isinstance(weight, Tensor)
            or not isinstance(x, _Map)
            or isinstance(own, str)
            or stride is None
            or weight.shape[2] != weight.shape[3]
            or _square(given["dilation"]) != 1
        ):
            raise self._unsupported(node, "a dilated, uneven or computed convolution")
        rows, columns = _pair(own)
        top, left, bottom, right = x.padding
        padding = (top + rows, left + columns, bottom + rows, right + columns)
        made = self._add(
            node, "conv", [x._replace(padding=(0, 0, 0, 0))], out_channels=len(weight),
            kernel_size=weight.shape[2], stride=stride, groups=given["groups"], padding=padding,
            bias=bias is not None,
        )  # fmt: skip
        self._weights[f"{made.name}.conv.weight"] = weight.detach()
        if bias is not None:
            self._weights[f"{made.name}.conv.bias"] = bias.detach()
        return made

    def _on_batch_norm(self, node: fx.Node, given: dict[str, Any]) -> Any:
        """Make the norm part of the convolution before it; a bias moves into the mean."""
        source = node.args[0]
        conv = self._primitives.get(getattr(given["input"], "name", ""))
        if (
            conv is None
            or conv.op != "conv"
            or conv.norm_eps is not None
            or len(source.users) > 1  # type: ignore[union-attr]
            or given["running_mean"] is None
        ):
            raise self._unsupported(node, "a batch norm that does not follow its own convolution")
        mean = given["running_mean"].detach().clone()
        if conv.bias:
            mean -= self._weights.pop(f"{conv.name}.conv.bias")
        ones = torch.ones_like(mean)
        parts = {
            "weight": ones if given["weight"] is None else given["weight"].detach(),
            "bias": ones * 0 if given["bias"] is None else given["bias"].detach(),
            "running_mean": mean,
            "running_var": given["running_var"].detach(),
        }
        self._weights |= {f"{conv.name}.norm.{part}": value for part, value in parts.items()}
        self._primitives[conv.name] = conv.model_copy(
            update={"norm_eps": given["eps"], "bias": False}
        )
        return given["input"]

    def _on_linear(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        weight, bias = given["weight"], given["bias"]
        if not isinstance(weight, Tensor):
            raise self._unsupported(node, "a linear layer with computed weights")
        made = self._add(node, "linear", [given["input"]], out_channels=len(weight), bias=True)
        self._weights[f"{made.name}.weight"] = weight.detach()
        self._weights[f"{made.name}.bias"] = (
            torch.zeros(len(weight)) if bias is None else bias.detach()
        )
        return made

    def _on_add(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        if given.get("alpha", 1) != 1:
            raise self._unsupported(node, "a scaled addition")
        return self._add(node, "add", [given["self"], given["other"]])

    def _on_mul(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        pair = [given["self"], given["other"]]
        sides = [_side(n) for n in node.args]
        if sides[0] == 1 and sides[1] > 1:
            pair = pair[::-1]
        return self._add(node, "multiply", pair)

    def _on_cat(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        if given["dim"] not in (1, -3):
            raise self._unsupported(node, "a concatenation along another axis than channels")
        return self._add(node, "concat", given["tensors"])

    def _on_adaptive_avg_pool2d(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        if _square(given["output_size"]) != 1:
            raise self._unsupported(node, "an adaptive pooling to more than one pixel")
        return self._add(node, "global_pool", [given["self"]])

    def _on_mean(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        if sorted(axis % 4 for axis in given["dim"] or ()) != [2, 3]:
            raise self._unsupported(node, "a mean over other axes than height and width")
        return self._add(node, "global_pool", [given["self"]])

    def _on_max_pool2d(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        return self._pool(node, given, "max")

    def _on_avg_pool2d(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        padded = _pair(given["padding"]) != (0, 0)
        if (padded and given["count_include_pad"]) or given["divisor_override"] is not None:
            raise self._unsupported(node, "an average pooling that counts its padding")
        return self._pool(node, given, "average")

    def _pool(self, node: fx.Node, given: dict[str, Any], function: str) -> _Map:
        size = _square(given["kernel_size"])
        stride = _square(given["stride"]) if given["stride"] else size
        rows, columns = _pair(given["padding"])
        dilated = _square(given.get("dilation", 1)) != 1
        if size is None or stride is None or given["ceil_mode"] or dilated:
            raise self._unsupported(node, "a dilated, uneven or ceiling pooling")
        return self._add(
            node, "pool", [given["self"]], kernel_size=size, stride=stride,
            padding=(rows, columns, rows, columns), function=function,
        )  # fmt: skip

    def _on_pad(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        x, amounts = given["self"], [*given["pad"], 0, 0, 0, 0][:6]
        left, right, top, bottom, before, after = amounts
        if given.get("mode", "constant") != "constant" or given.get("value") not in (None, 0, 0.0):
            raise self._unsupported(node, "a padding with other values than zero")
        if after and not (before or left or right or top or bottom):
            channels = _shape(node.args[0])[1] + after
            return self._add(node, "pad", [x], out_channels=channels)
        if before or after or not isinstance(x, _Map) or min(left, right, top, bottom) < 0:
            raise self._unsupported(node, "such a padding")
        return x._replace(padding=(top, left, bottom, right))

    _on_constant_pad_nd = _on_pad

    def _on_slice(self, node: fx.Node, given: dict[str, Any]) -> Any:
        before, after = _shape(node.args[0]), _shape(node)
        if before == after:
            return given["self"]
        if given["dim"] != 1 or given["step"] != 1:
            raise self._unsupported(node, "a slice along another axis than channels")
        start = given["start"] or 0
        first = start + before[1] if start < 0 else start
        return self._select(node, given["self"], first, after[1])

    def _select(self, node: fx.Node, x: Any, first: int, count: int) -> _Map:
        return self._add(node, "select", [x], first_channel=first, out_channels=count)

    def _on_chunk(self, node: fx.Node, given: dict[str, Any]) -> list[_Map]:
        if given["dim"] != 1:
            raise self._unsupported(node, "a split along another axis than channels")
        first, parts = 0, []
        for part in node.meta["val"]:
            parts.append(self._select(node, given["self"], first, part.shape[1]))
            first += part.shape[1]
        return parts

    _on_split = _on_chunk
    _on_split_with_sizes = _on_chunk

    def _on_channel_shuffle(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        return self._add(node, "shuffle", [given["self"]], groups=given["groups"])

    def _on_view(self, node: fx.Node, given: dict[str, Any]) -> Any:
        """Flattening before a linear layer, or one of the steps of a channel shuffle."""
        x, before, after = given["self"], _shape(node.args[0]), _shape(node)
        if isinstance(x, _Map) and x.groups and x.transposed and len(after) == 4:
            return self._add(node, "shuffle", [_Map(x.name)], groups=x.groups)
        if len(before) == 4 and len(after) == 5 and before[2:] == after[3:]:
            return _Map(x.name, groups=after[1])
        if before[0] == after[0] and len(after) == 2:
            return x
        if len(before) == 2 and len(after) == 4 and after[2:] == (1, 1):
            return x
        if before == after:
            return x
        raise self._unsupported(node, f"the reshaping {before} -> {after}")

    _on_reshape = _on_view
    _on_flatten = _on_view
    _on_squeeze = _on_view
    _on_unsqueeze = _on_view

    def _on_transpose(self, node: fx.Node, given: dict[str, Any]) -> _Map:
        x = given["self"]
        if not isinstance(x, _Map) or not x.groups or {given["dim0"], given["dim1"]} != {1, 2}:
            raise self._unsupported(node, "a transposition outside a channel shuffle")
        return x._replace(transposed=True)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in node.meta["val"].shape)


def _side(node: Any) -> int:
    """Height of a map; 0 of anything else."""
    shape = _shape(node) if isinstance(node, fx.Node) and "val" in node.meta else ()
    return shape[2] if len(shape) == 4 else 0


def _pair(value: Any) -> tuple[int, int]:
    sizes = list(value) if isinstance(value, (list, tuple)) else [value]
    return (sizes[0], sizes[-1]) if sizes else (0, 0)


def _square(value: Any) -> int | None:
    """Return the one size of both axes, `None` where they differ."""
    rows, columns = _pair(value)
    return rows if rows == columns else None
