"""What is computed: the one list of primitive layers that everything else reads.

The torch module is built from it, multiply-adds and memory are counted on it, the ONNX file is
written from it. Each layer has one output, named like the layer. The primitives:

==============  ==================================================================
conv            convolution, optional bias, optional batch norm (part of the layer)
activation      relu, relu6, hard_swish, hard_sigmoid, sigmoid
pool            max or average over a window (`count_include_pad` is off)
global_pool     mean over height and width: (C, H, W) -> (C, 1, 1)
linear          matrix product with bias on the flattened input: (C, 1, 1) -> (C, )
add, multiply   element-wise; the second map may be (C, 1, 1)
resize          every pixel repeated `factor` times along rows and columns (nearest)
pad             zero channels appended
concat          channels of several maps, one after the other
select          neighbouring channels of a map
shuffle         channels reordered: (groups, n) read as (n, groups)
==============  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from featherweight.architecture import Architecture, BlockSpec, Primitive
from featherweight.errors import ArchitectureError
from featherweight.primitives import Padding, Shape, pad_axis, shape_primitive
from featherweight.registry import Registry

__all__ = [
    "INPUT",
    "LOGITS",
    "OPERATORS",
    "Builder",
    "Graph",
    "Layer",
    "Operator",
    "Output",
    "Value",
    "as_primitives",
    "graph",
    "layers",
]

INPUT = "input"
"""Name of the tensor that enters the network."""
LOGITS = "logits"
"""Name of what a classifier answers."""


class Layer(NamedTuple):
    """One primitive with its shapes (batch axis left out).

    Attributes:
        name: dotted, unique; also the prefix of its weights.
        op: name of the primitive.
        inputs: names of the layers whose outputs it reads.
        input_shape: shape of the first input.
        output_shape: shape of its only output.
        kernel_size, stride: of conv and pool.
        groups: of conv and shuffle.
        factor: of resize.
        padding: rows and columns added (top, left, bottom, right).
        same: whether this padding follows from the size of the input (TensorFlow SAME).
        bias: whether a conv has a bias; a linear always has.
        norm_eps: epsilon of the batch norm after a conv; `None` = no norm.
        function: which activation, or which pooling (`max`, `average`).
        first_channel: of select.
        dropout: share of the input of a linear layer dropped while training.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    input_shape: Shape
    output_shape: Shape
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    factor: int = 1
    padding: Padding = (0, 0, 0, 0)
    bias: bool = False
    norm_eps: float | None = None
    function: str = ""
    first_channel: int = 0
    dropout: float = 0.0
    same: bool = False


class Output(NamedTuple):
    """Something that a network answers.

    Attributes:
        name: what files and callers call it.
        layer: whose output it is.
        shape: without the batch axis.
    """

    name: str
    layer: str
    shape: Shape


class Graph(NamedTuple):
    """The layers of a network and what it answers with them."""

    layers: tuple[Layer, ...]
    outputs: tuple[Output, ...]

    def name_of(self, layer: str) -> str:
        """Return what files call the output of a layer: its own name, or that of an answer."""
        return next((one.name for one in self.outputs if one.layer == layer), layer)


class Value(NamedTuple):
    """A value while layers are listed: where it comes from and its shape (C, H, W)."""

    name: str
    shape: Shape


class Builder:
    """Collects layers; an operator's lowering function calls one method per primitive."""

    def __init__(self, architecture: Architecture) -> None:
        self._same = architecture.padding == "same"
        self._norm_eps = architecture.norm_eps
        self.layers: list[Layer] = []

    def _append(self, layer: Layer) -> Value:
        self.layers.append(layer)
        return Value(layer.name, layer.output_shape)

    def _window(self, x: Value, kernel_size: int, stride: int) -> tuple[Padding, int, int]:
        height, width = x.shape[1:]
        top, bottom, rows = pad_axis(height, kernel_size, stride, same=self._same)
        left, right, columns = pad_axis(width, kernel_size, stride, same=self._same)
        return (top, left, bottom, right), rows, columns

    def conv(
        self,
        x: Value,
        name: str,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
    ) -> Value:
        """Convolution with batch norm, or with bias when `norm` is false."""
        if x.shape[0] % groups or out_channels % groups:
            raise ArchitectureError(
                f"{name}: {groups} groups do not divide {x.shape[0]} inputs and "
                f"{out_channels} outputs"
            )
        padding, rows, columns = self._window(x, kernel_size, stride)
        return self._append(
            Layer(
                name,
                "conv",
                (x.name,),
                x.shape,
                (out_channels, rows, columns),
                kernel_size=kernel_size,
                stride=stride,
                groups=groups,
                padding=padding,
                bias=not norm,
                norm_eps=self._norm_eps if norm else None,
            )
        )

    def depthwise(self, x: Value, name: str, *, kernel_size: int, stride: int = 1) -> Value:
        """Convolution of each channel by itself, with batch norm."""
        channels = x.shape[0]
        return self.conv(x, name, channels, kernel_size=kernel_size, stride=stride, groups=channels)

    def activation(self, x: Value, name: str, function: str) -> Value:
        """Element-wise non-linearity; `none` adds no layer."""
        if function == "none":
            return x
        return self._append(
            Layer(name, "activation", (x.name,), x.shape, x.shape, function=function)
        )

    def pool(self, x: Value, name: str, *, function: str, kernel_size: int, stride: int) -> Value:
        """Max or average over windows."""
        padding, rows, columns = self._window(x, kernel_size, stride)
        return self._append(
            Layer(
                name,
                "pool",
                (x.name,),
                x.shape,
                (x.shape[0], rows, columns),
                kernel_size=kernel_size,
                stride=stride,
                padding=padding,
                function=function,
            )
        )

    def global_pool(self, x: Value, name: str) -> Value:
        """Mean over height and width."""
        return self._append(Layer(name, "global_pool", (x.name,), x.shape, (x.shape[0], 1, 1)))

    def linear(self, x: Value, name: str, out_features: int, *, dropout: float = 0.0) -> Value:
        """Matrix product with bias."""
        return self._append(
            Layer(name, "linear", (x.name,), x.shape, (out_features,), bias=True, dropout=dropout)
        )

    def add(self, x: Value, y: Value, name: str) -> Value:
        """Sum of two maps of one shape, or of a map and a number for each of its channels."""
        if y.shape not in (x.shape, (x.shape[0], 1, 1)):
            raise ArchitectureError(f"{name}: cannot add shapes {x.shape} and {y.shape}")
        return self._append(Layer(name, "add", (x.name, y.name), x.shape, x.shape))

    def multiply(self, x: Value, scale: Value, name: str) -> Value:
        """Scale each channel of a map, or each of its values."""
        if scale.shape not in (x.shape, (x.shape[0], 1, 1)):
            raise ArchitectureError(f"{name}: cannot multiply shapes {x.shape} and {scale.shape}")
        return self._append(Layer(name, "multiply", (x.name, scale.name), x.shape, x.shape))

    def resize(self, x: Value, name: str, *, factor: int) -> Value:
        """Repeat every pixel along rows and columns; a factor of 1 adds no layer."""
        if factor == 1:
            return x
        channels, height, width = x.shape
        shape = (channels, factor * height, factor * width)
        return self._append(Layer(name, "resize", (x.name,), x.shape, shape, factor=factor))

    def pad_channels(self, x: Value, name: str, out_channels: int) -> Value:
        """Append zero channels."""
        shape = (out_channels, *x.shape[1:])
        return self._append(Layer(name, "pad", (x.name,), x.shape, shape))

    def concat(self, maps: Sequence[Value], name: str) -> Value:
        """Put the channels of maps of one size one after the other."""
        first = maps[0].shape
        if any(x.shape[1:] != first[1:] for x in maps):
            shapes = ", ".join(str(x.shape) for x in maps)
            raise ArchitectureError(f"{name}: cannot concatenate shapes {shapes}")
        shape = (sum(x.shape[0] for x in maps), *first[1:])
        return self._append(Layer(name, "concat", tuple(x.name for x in maps), first, shape))

    def select_channels(self, x: Value, name: str, *, first: int, count: int) -> Value:
        """Take `count` neighbouring channels from `first` on; all of them add no layer."""
        if first == 0 and count == x.shape[0]:
            return x
        if count < 1 or first + count > x.shape[0]:
            raise ArchitectureError(
                f"{name}: channels {first} to {first + count} of {x.shape[0]} do not exist"
            )
        shape = (count, *x.shape[1:])
        return self._append(Layer(name, "select", (x.name,), x.shape, shape, first_channel=first))

    def shuffle(self, x: Value, name: str, *, groups: int) -> Value:
        """Read the channels as (groups, n), transpose, flatten; one group adds no layer.

        Source: ShuffleNet, arXiv 1707.01083, section 3.1.
        """
        if groups == 1:
            return x
        if x.shape[0] % groups:
            raise ArchitectureError(f"{name}: {groups} groups do not divide {x.shape[0]} channels")
        return self._append(Layer(name, "shuffle", (x.name,), x.shape, x.shape, groups=groups))


class Operator(NamedTuple):
    """How a block becomes layers.

    Attributes:
        lower: (builder, input, block, name) -> output.
        fields: BlockSpec fields the operator reads beyond op, out_channels and stride.
    """

    lower: Callable[[Builder, Value, BlockSpec, str], Value]
    fields: frozenset[str]


OPERATORS: Registry[Operator] = Registry("operator", plugins="featherweight.operators")

_WIDENING = frozenset({"conv", "linear", "pad", "select"})
"""Primitives whose width does not follow from their inputs."""
_ALWAYS = {"op", "out_channels", "stride"}


def graph(architecture: Architecture) -> Graph:
    """Return the layers of a network with the names of its answers: `logits` of a classifier."""
    plan = layers(architecture)
    if architecture.outputs:
        shapes = {layer.name: layer.output_shape for layer in plan}
        return Graph(
            plan,
            tuple(Output(one.name, one.layer, shapes[one.layer]) for one in architecture.outputs),
        )
    return Graph(plan, (Output(LOGITS, plan[-1].name, plan[-1].output_shape),))


def as_primitives(listed: Sequence[Layer], *, same: bool = False) -> tuple[Primitive, ...]:
    """Return layers as the primitives of a graph, without the shapes that follow from its input.

    Args:
        listed: as a builder collected them.
        same: whether windows are padded as TensorFlow SAME has it.
    """
    shared = set(Primitive.model_fields) & set(Layer._fields) - {"padding"}
    primitives = []
    for layer in listed:
        fields = {name: getattr(layer, name) for name in shared}
        width = layer.output_shape[0] if layer.op in _WIDENING else None
        is_window = layer.op in {"conv", "pool"}
        padding = "same" if layer.same or (same and is_window) else layer.padding
        primitives.append(
            Primitive.model_validate({**fields, "out_channels": width, "padding": padding})
        )
    return tuple(primitives)


def layers(architecture: Architecture) -> tuple[Layer, ...]:
    """List the layers of a network from input to logits (without classes: to features).

    Raises:
        ArchitectureError: a block uses a field its operator does not have, or shapes do not fit.
        UsageError: an operator nobody registered.
    """
    if architecture.primitives:
        return _imported_layers(architecture)
    builder = Builder(architecture)
    x = Value(INPUT, architecture.input_shape)
    for index, block in enumerate(architecture.blocks):
        name = f"blocks.{index}"
        operator = OPERATORS[block.op]
        unused = block.model_fields_set - operator.fields - _ALWAYS
        for field in sorted(unused):
            if getattr(block, field) != BlockSpec.model_fields[field].default:
                raise ArchitectureError(
                    f"{name}: the operator {block.op!r} does not use {field!r}",
                    allowed=", ".join(sorted(operator.fields | _ALWAYS)),
                )
        x = operator.lower(builder, x, block, name)
        if x.shape[0] != block.out_channels:
            raise ArchitectureError(
                f"{name}: {block.op!r} gives {x.shape[0]} channels, not {block.out_channels}"
            )
    x = builder.global_pool(x, "pool")
    for index, width in enumerate(architecture.head_channels):
        if architecture.head_norm:
            x = builder.conv(x, f"head.{index}.main", width)
        else:
            x = builder.linear(x, f"head.{index}.linear", width)
        x = builder.activation(x, f"head.{index}.act", architecture.head_activation)
    if architecture.num_classes:
        builder.linear(x, "classifier", architecture.num_classes, dropout=architecture.dropout)
    return tuple(builder.layers)


def _imported_layers(architecture: Architecture) -> tuple[Layer, ...]:
    """Give the primitives of an imported network the shapes that follow from its input."""
    shapes: dict[str, Shape] = {INPUT: architecture.input_shape}
    listed = []
    for primitive in architecture.primitives:
        given = [shapes[name] for name in primitive.inputs if name in shapes]
        if len(given) < len(primitive.inputs) or primitive.name in shapes:
            raise ArchitectureError(f"{primitive.name}: an input comes later, or the name twice")
        padding, shapes[primitive.name] = shape_primitive(primitive, given)
        fields = primitive.model_dump(exclude={"out_channels", "padding"})
        if primitive is architecture.primitives[-1] and primitive.classes:
            fields["dropout"] = architecture.dropout
        listed.append(
            Layer(
                **fields,
                padding=padding,
                same=primitive.padding == "same",
                input_shape=given[0],
                output_shape=shapes[primitive.name],
            )
        )
    return tuple(listed)
