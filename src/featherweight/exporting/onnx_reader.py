"""The nodes of an ONNX file as primitives, one after the other, without weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import onnx

from featherweight.architecture import Primitive
from featherweight.exporting.onnx_attributes import attributes_of, window_of
from featherweight.exporting.onnx_graph import ONNX_DOMAINS
from featherweight.exporting.onnx_shapes import Tensor, infer_tensors, small_value
from featherweight.layers import INPUT
from featherweight.networks.graphs import used_primitives

__all__ = ["OnnxReader"]

_PASSED = frozenset({
    "BatchNormalization", "Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity",
    "LogSoftmax", "QuantizeLinear", "Softmax", "Squeeze", "Unsqueeze", "Sub", "Div",
})  # fmt: skip
"""Operators that are left out: they compute next to nothing, or are fused."""
_ACTIVATIONS = {
    "Relu": "relu",
    "HardSwish": "hard_swish",
    "HardSigmoid": "hard_sigmoid",
    "Sigmoid": "sigmoid",
}
_GATES = {"sigmoid": "silu", "hard_sigmoid": "hard_swish", "relu6": "hard_swish"}
"""A map times this function of itself is that function; of hard-swish, sums and products with
constants are left out, so that it is x times ReLU6."""
_TAKE_PADDING = {"Conv", "QLinearConv", "MaxPool", "AveragePool", *_ACTIVATIONS, "Clip", *_PASSED}
"""What reads the rows and columns of zeros that were put around a map, or passes them on."""
_ENDS = ("Shape", "Constant", "ConstantOfShape", "Range")


_MOST_NUMBERS = 65_536
"""Of a constant: channels that are reordered are some thousands."""


class _Shuffled(NamedTuple):
    """A map whose channels are being read as groups."""

    source: str
    groups: int


class OnnxReader:
    """Turns nodes into primitives, one after the other.

    Attributes:
        primitives: what was read so far.
        unknown: nodes that no primitive computes, as `operator (name)`.
        input_shape: (C, H, W) that the first convolution reads.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors: Mapping[str, Tensor] = infer_tensors(model)
        self._constants = {one.name: one for one in model.graph.initializer}
        self._known: dict[str, str] = {}
        self._padded: dict[str, tuple[int, int, int, int]] = {}
        self._shuffled: dict[str, _Shuffled] = {}
        self._taken: set[str] = {INPUT}
        self._gates: set[str] = set()
        self.primitives: list[Primitive] = []
        self.unknown: list[str] = []
        self.input_shape: tuple[int, int, int] = (0, 0, 0)
        for value in model.graph.input:
            if value.name not in self._constants:
                self._known[value.name] = INPUT

    def visit(self, node: onnx.NodeProto) -> None:
        """Read one node; what reads nothing that is known is left out."""
        sources = [name for name in node.input if name in self._known]
        if node.op_type in _ENDS or not sources:
            if node.op_type == "Constant":
                self._note_constant(node)
            return
        op = node.op_type if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}"
        read = _READERS.get(op)
        if any(name in self._padded for name in sources) and op not in _TAKE_PADDING:
            self.unknown.append(f"Pad (before {node.name or node.output[0]})")
        if op in _PASSED:
            self._pass(node, sources[0])
        elif read is None or not read(self, node, sources):
            self._not_known(node, op, sources)

    def ended(self, model: onnx.ModelProto) -> tuple[Primitive, ...]:
        """Return all primitives; what ends in maps is pooled into two classes."""
        last = self.primitives[-1]
        answers = {self._known[one.name] for one in model.graph.output if one.name in self._known}
        if not last.classes or answers - {last.name}:
            read = {name for one in self.primitives for name in one.inputs}
            ends = [
                one.name
                for one in self.primitives
                if one.op != "linear"
                and (one.name in answers or one.name not in read)
                and one.name not in self._gates
            ]
            if not ends:  # several vectors: the last is taken
                return used_primitives(self.primitives)
            pooled = [self._put("global_pool", f"{name}.pooled", (name,)) for name in ends]
            joined = pooled[0] if len(pooled) == 1 else self._put("concat", "all", tuple(pooled))
            self._put("linear", "two_classes", (joined,), out_channels=2, bias=True)
        return used_primitives(self.primitives)

    def _put(self, op: str, name: str, inputs: tuple[str, ...], **fields: Any) -> str:
        """Append a primitive; return its name, which is no other's."""
        clean = re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("_.") or op
        own, count = clean, 1
        while own in self._taken:
            count += 1
            own = f"{clean}_{count}"
        self._taken.add(own)
        self.primitives.append(
            Primitive.model_validate({"name": own, "op": op, "inputs": inputs, **fields})
        )
        return own

    def _write(self, node: onnx.NodeProto, op: str, inputs: tuple[str, ...], **fields: Any) -> bool:
        self._known[node.output[0]] = self._put(op, node.name or node.output[0], inputs, **fields)
        return True

    def _pass(self, node: onnx.NodeProto, source: str) -> bool:
        for name in node.output:
            if name:
                self._known[name] = self._known[source]
        if source in self._padded:
            self._padded[node.output[0]] = self._padded[source]
        return True

    def _not_known(self, node: onnx.NodeProto, op: str, sources: list[str]) -> None:
        self.unknown.append(f"{op} ({node.name or node.output[0]})")
        before, after = self.shape(sources[0]), self.shape(node.output[0])
        if after and before == after:
            self._pass(node, sources[0])

    def _note_constant(self, node: onnx.NodeProto) -> None:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if value is not None:
            self._constants[node.output[0]] = value

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor with its batch axis; empty = unknown."""
        return self._tensors[name].shape if name in self._tensors else ()

    def numbers(self, name: str) -> list[float] | None:
        """Return the values of a constant; `None` = it is none, too large, or in another file."""
        constant = self._constants.get(name)
        values = None if constant is None else small_value(constant, most=_MOST_NUMBERS)
        return None if values is None else [float(one) for one in values.reshape(-1)]

    def conv(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a convolution; `False` = it is dilated or uneven, or no convolution of a map."""
        weight = self.shape(node.input[3] if node.op_type == "QLinearConv" else node.input[1])
        given, after = self.shape(sources[0]), self.shape(node.output[0])
        window = window_of(node)
        if len(weight) != 4 or len(given) != 4 or len(after) != 4 or window is None:
            return False
        if weight[2] != weight[3]:
            return False
        source = self._known[sources[0]]
        if source == INPUT:
            self.input_shape = (given[1], given[2], given[3])
        extra = self._padded.get(sources[0], (0, 0, 0, 0))
        padding = self._with_padding(window.padding, sources[0])
        if source == INPUT and any(extra):
            top, left, bottom, right = extra
            self.input_shape = (given[1], given[2] - top - bottom, given[3] - left - right)
        return self._write(
            node,
            "conv",
            (source,),
            out_channels=weight[0],
            kernel_size=weight[2],
            stride=window.stride,
            groups=given[1] // weight[1],
            padding=padding,
            bias=True,
        )

    def _with_padding(self, padding: Any, source: str) -> Any:
        """Return the padding of a window with that of a map that was padded before."""
        extra = self._padded.get(source)
        if extra is None or padding == "same":
            return padding
        return tuple(own + more for own, more in zip(padding, extra, strict=True))

    def pool(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a pooling over square windows."""
        window, source = window_of(node), self._known[sources[0]]
        if window is None or source == INPUT or not window.side:
            return False
        function = "max" if node.op_type == "MaxPool" else "average"
        padding = self._with_padding(window.padding, sources[0])
        written = {"kernel_size": window.side, "stride": window.stride, "padding": padding}
        return self._write(node, "pool", (source,), function=function, **written)

    def global_pool(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a mean over height and width."""
        given, after = self.shape(sources[0]), self.shape(node.output[0])
        if self._known[sources[0]] == INPUT or len(given) != 4:
            return False
        if after[:2] != given[:2] or any(side != 1 for side in after[2:]):
            return False
        return self._write(node, "global_pool", (self._known[sources[0]],))

    def activation(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a non-linearity that is a primitive."""
        if self._known[sources[0]] == INPUT:
            return self._pass(node, sources[0])
        function = _ACTIVATIONS.get(node.op_type, "relu")
        if node.op_type == "Clip":
            most = self.numbers(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            attributes = attributes_of(node)
            high = most[0] if most else attributes.get("max")
            function = "relu6" if high is not None and high < 1e30 else "relu"
        if sources[0] in self._padded:  # zeros stay zeros, or nearly
            self._padded[node.output[0]] = self._padded[sources[0]]
        return self._write(node, "activation", (self._known[sources[0]],), function=function)

    def linear(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a matrix product with constant weights."""
        after = self.shape(node.output[0])
        if len(sources) > 1 or len(after) != 2 or self._known[sources[0]] == INPUT:
            return False
        source = self._known[sources[0]]
        return self._write(node, "linear", (source,), out_channels=after[-1], bias=True)

    def arithmetic(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a sum or a product of two maps; with a constant it is left out."""
        if len(sources) < 2 or any(self._known[name] == INPUT for name in sources):
            return self._pass(node, sources[0])
        by_name = {one.name: one for one in self.primitives}
        first, second = (self._known[name] for name in sources)
        shapes = [self.shape(name) for name in sources]
        if node.op_type == "Mul":
            for one, other in ((first, second), (second, first)):
                gate = by_name.get(other)
                if gate and gate.function in _GATES and gate.inputs == (one,):
                    self._gates.add(gate.name)
                    return self._write(node, "activation", (one,), function=_GATES[gate.function])
        if _places(shapes[0]) < _places(shapes[1]):
            first, second, shapes = second, first, shapes[::-1]
        per_channel = shapes[0][:2] == shapes[1][:2] and _places(shapes[1]) == 1
        if not shapes[0] or not (shapes[0] == shapes[1] or per_channel):
            return False
        op = "add" if node.op_type == "Add" else "multiply"
        return self._write(node, op, (first, second))

    def concat(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a concatenation of channels."""
        axis = attributes_of(node).get("axis", 0) % max(1, len(self.shape(node.output[0])))
        if axis != 1 or len(sources) < len(node.input) or len(self.shape(node.output[0])) != 4:
            return False
        return self._write(node, "concat", tuple(self._known[name] for name in sources))

    def split(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a split of channels, or a slice of them."""
        given, first = self.shape(sources[0]), 0
        if node.op_type == "Slice":
            starts = self.numbers(node.input[1]) if len(node.input) > 1 else None
            starts = starts or [float(one) for one in attributes_of(node).get("starts", ())]
            first = int(starts[0]) if starts else 0
            first %= max(1, given[1]) if len(given) == 4 else 1
        source = self._known[sources[0]]
        for name in node.output:
            after = self.shape(name)
            if len(after) != 4 or after[2:] != given[2:] or source == INPUT:
                return False
            if first + after[1] > given[1]:
                return False
            self._known[name] = self._put(
                "select", node.name or name, (source,), out_channels=after[1], first_channel=first
            )
            first += after[1]
        return True

    def reshape(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a shuffle, written as reshape, transpose, reshape; other shapes of a vector."""
        given, after = self.shape(sources[0]), self.shape(node.output[0])
        if sources[0] in self._shuffled and len(after) == 4:
            shuffled = self._shuffled[sources[0]]
            return self._write(node, "shuffle", (shuffled.source,), groups=shuffled.groups)
        if len(given) == 4 and len(after) == 5 and after[1] * after[2] == given[1]:
            self._shuffled[node.output[0]] = _Shuffled(self._known[sources[0]], after[1])
            return self._pass(node, sources[0])
        vector = len(given) == 4 and len(after) == 2 and self._known[sources[0]] != INPUT
        if vector or given == after or (len(given) == 2 and _places(after) == 1):
            return self._pass(node, sources[0])
        return False

    def transpose(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read the middle of a shuffle, or the layout of a picture."""
        if sources[0] in self._shuffled:
            order = list(attributes_of(node).get("perm", ()))
            if order != [0, 2, 1, 3, 4]:
                return False
            self._shuffled[node.output[0]] = self._shuffled[sources[0]]
            return self._pass(node, sources[0])
        return self._known[sources[0]] == INPUT and self._pass(node, sources[0])

    def gather(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a shuffle that is written as the order of its channels."""
        given, order = self.shape(sources[0]), self.numbers(node.input[1])
        if len(given) != 4 or not order or attributes_of(node).get("axis", 0) != 1:
            return False
        channels = given[1]
        second = int(order[1]) if len(order) == channels > 1 else 0
        groups = channels // second if second > 0 and channels % second == 0 else 0
        if not groups:
            return False
        shuffled = [one * second + place for place in range(second) for one in range(groups)]
        if shuffled != order:
            return False
        return self._write(node, "shuffle", (self._known[sources[0]],), groups=groups)

    def resize(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Read a repetition of pixels."""
        given, after = self.shape(sources[0]), self.shape(node.output[0])
        if len(given) != 4 or len(after) != 4 or after[2] % given[2]:
            return False
        factor = after[2] // given[2]
        if after[3] != factor * given[3]:
            return False
        return self._write(node, "resize", (self._known[sources[0]],), factor=factor)

    def pad(self, node: onnx.NodeProto, sources: list[str]) -> bool:
        """Note rows and columns of zeros for the convolution that reads them."""
        given, after = self.shape(sources[0]), self.shape(node.output[0])
        pads = self.numbers(node.input[1]) if len(node.input) > 1 else None
        pads = pads or [float(one) for one in attributes_of(node).get("pads", ())]
        if len(given) != 4 or len(pads) != 8:
            return False
        if given[2:] == after[2:] and not pads[1]:
            source = self._known[sources[0]]
            return source != INPUT and self._write(node, "pad", (source,), out_channels=after[1])
        if given[:2] != after[:2]:
            return False
        self._pass(node, sources[0])
        self._padded[node.output[0]] = (int(pads[2]), int(pads[3]), int(pads[6]), int(pads[7]))
        return True


def _places(shape: tuple[int, ...]) -> int:
    """Return height times width of (N, C, H, W); 1 of a vector, 0 of an unknown shape."""
    if not shape:
        return 0
    found = 1
    for side in shape[2:]:
        found *= side
    return found


_READERS: dict[str, Callable[[OnnxReader, onnx.NodeProto, list[str]], bool]] = {
    "Add": OnnxReader.arithmetic,
    "AveragePool": OnnxReader.pool,
    "Clip": OnnxReader.activation,
    "Concat": OnnxReader.concat,
    "Conv": OnnxReader.conv,
    "Gather": OnnxReader.gather,
    "Gemm": OnnxReader.linear,
    "GlobalAveragePool": OnnxReader.global_pool,
    "MatMul": OnnxReader.linear,
    "MaxPool": OnnxReader.pool,
    "Mul": OnnxReader.arithmetic,
    "Pad": OnnxReader.pad,
    "QLinearConv": OnnxReader.conv,
    "ReduceMean": OnnxReader.global_pool,
    "Reshape": OnnxReader.reshape,
    "Resize": OnnxReader.resize,
    "Slice": OnnxReader.split,
    "Split": OnnxReader.split,
    "Transpose": OnnxReader.transpose,
    **dict.fromkeys(_ACTIVATIONS, OnnxReader.activation),
}
"""Operator -> what reads it: whether it was one of ours."""
