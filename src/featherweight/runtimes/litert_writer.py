"""Write a LiteRT (TensorFlow Lite) file straight from the layers, without a converter.

Source: the schema that comes with ai-edge-litert (`schema_py_generated`). Maps are (N, H, W, C).
ReLU and ReLU6 become part of the convolution, linear layer or addition that they alone follow.
Paddings that TensorFlow's SAME would not give are operators of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.errors import MissingDependencyError, UnsupportedError, UsageError
from featherweight.layers import INPUT, Layer, layers
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import to_plain
from featherweight.runtimes.weights import (
    FoldedLayer,
    check_weights,
    fold_division,
    folded_weights,
    fused_activations,
    input_levels,
    random_weights,
)

__all__ = ["write_litert"]

_FUSED = ("relu", "relu6")
_FUSED_AFTER = ("conv", "linear", "add")
_LOWEST = float(np.finfo(np.float32).min)


def write_litert(
    architecture: Architecture,
    weights: Mapping[str, np.ndarray] | None,
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
) -> bytes:
    """Write a classifier for LiteRT with norms folded and the normalisation inside.

    Args:
        architecture: the network.
        weights: arrays named as in torch's state dict; `None` draws seeded ones (for timing).
        preprocessing: its mean and std become part of the file.
        labels: class names, kept in the file's metadata.

    Returns:
        the file: input uint8 (1, H, W, 3), output float32 (1, classes).

    Raises:
        MissingDependencyError: ai-edge-litert is not installed.
        UnsupportedError: no classifier, or neither 1 nor 3 input channels.
        UsageError: weights or labels of another network.
    """
    if architecture.num_classes == 0:
        raise UnsupportedError(
            f"{architecture.name} has no classifier, which a file needs",
            allowed="classes=1 or more",
        )
    if len(labels) != architecture.num_classes:
        raise UsageError(
            f"{len(labels)} labels for {architecture.num_classes} classes of {architecture.name}"
        )
    if weights is None:
        weights = random_weights(architecture, seed=0)
    check_weights(architecture, weights)
    plan = layers(architecture)
    folded = {
        layer.name: folded_weights(layer, weights)
        for layer in plan
        if layer.op in ("conv", "linear")
    }
    graph = _Graph()
    names = {INPUT: _write_input(graph, plan, folded, architecture, preprocessing)}
    fused = fused_activations(plan, functions=_FUSED, after=_FUSED_AFTER)
    functions = {layer.name: layer.function for layer in plan}
    for layer in plan:
        if layer.name in fused.values():
            names[layer.name] = names[layer.inputs[0]]
            continue
        inputs = [names[name] for name in layer.inputs]
        function = functions[fused[layer.name]] if layer.name in fused else ""
        names[layer.name] = _WRITERS[layer.op](
            graph, layer, inputs, folded.get(layer.name), function
        )
    notes = {"labels": list(labels), "preprocessing": to_plain(preprocessing)}
    return graph.file(
        output=names[plan[-1].name], description=architecture.name, notes=json.dumps(notes)
    )


class _Graph:
    """Tensors, constants and operators of a LiteRT graph under construction."""

    def __init__(self) -> None:
        self._schema, self._flatbuffers = _libraries()
        self._buffers: list[Any] = [self._schema.BufferT()]  # the first one is empty by convention
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self.input = -1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._tensors[tensor].shape)

    def tensor(self, name: str, shape: Sequence[int], *, kind: str = "FLOAT32") -> int:
        """Add a tensor that an operator fills, and return its number."""
        made = self._schema.TensorT()
        made.name, made.shape = name, [int(size) for size in shape]
        made.type = getattr(self._schema.TensorType, kind)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def constant(self, name: str, values: np.ndarray) -> int:
        """Add a constant, float32 or int32, and return its number."""
        kind = "INT32" if values.dtype == np.int32 else "FLOAT32"
        number = self.tensor(name, values.shape, kind=kind)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=np.uint8)
        self._buffers.append(buffer)
        self._tensors[number].buffer = len(self._buffers) - 1
        return number

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        output: int,
        options: str | None = None,
        **fields: Any,  # of the options, named as in the schema
    ) -> int:
        """Add an operator with one output and return that."""
        schema = self._schema
        code = getattr(schema.BuiltinOperator, kind)
        made = schema.OperatorT()
        made.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        made.inputs, made.outputs = list(inputs), [output]
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            made.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in fields.items():
                setattr(made.builtinOptions, field, value)
        self._operators.append(made)
        return output

    def activation(self, function: str) -> int:
        """Return the number of a joined activation."""
        return int(getattr(self._schema.ActivationFunctionType, function.upper() or "NONE"))

    def padding(self, *, same: bool) -> int:
        """Return the number of a padding rule."""
        return int(self._schema.Padding.SAME if same else self._schema.Padding.VALID)

    def kind(self, name: str) -> int:
        """Return the number of a type of values."""
        return int(getattr(self._schema.TensorType, name))

    def file(self, *, output: int, description: str, notes: str) -> bytes:
        """Return the serialised model."""
        schema = self._schema
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = [self.input], [output]
        self._tensors[output].name = "logits"
        model = schema.ModelT()
        model.version, model.description = 3, description
        model.subgraphs = [graph]
        model.operatorCodes = []
        for code in self._codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)
            made.version = 1
            model.operatorCodes.append(made)
        kept = schema.BufferT()
        kept.data = np.frombuffer(notes.encode(), dtype=np.uint8)
        self._buffers.append(kept)
        about = schema.MetadataT()
        about.name, about.buffer = "featherweight", len(self._buffers) - 1
        model.metadata, model.buffers = [about], self._buffers
        builder = self._flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _libraries() -> tuple[Any, Any]:
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingDependencyError(
            "LiteRT is not installed", hint='pip install "featherweight[litert]"'
        ) from error
    return schema_py_generated, flatbuffers


def _write_input(
    graph: _Graph,
    plan: tuple[Layer, ...],
    folded: dict[str, FoldedLayer],
    architecture: Architecture,
    preprocessing: Preprocessing,
) -> int:
    """Write uint8 -> what the first layer reads."""
    mean, deviation = input_levels(architecture, preprocessing)
    channels, height, width = architecture.input_shape
    graph.input = graph.tensor("image", (1, height, width, 3), kind="UINT8")
    x = graph.operator(
        "CAST", [graph.input], graph.tensor("input.float", (1, height, width, 3)), "CastOptions",
        inDataType=graph.kind("UINT8"), outDataType=graph.kind("FLOAT32"),
    )  # fmt: skip
    if channels == 1:
        axis = graph.constant("input.axis", np.array([3], dtype=np.int32))
        grey = graph.tensor("input.grey", (1, height, width, 1))
        x = graph.operator("MEAN", [x, axis], grey, "ReducerOptions", keepDims=True)
    centre = graph.constant("input.mean", mean.astype(np.float32).reshape(1, 1, 1, -1))
    centred = graph.tensor("input.centred", (1, height, width, channels))
    x = graph.operator("SUB", [x, centre], centred, "SubOptions")
    if fold_division(plan, folded, deviation):
        return x
    scale = graph.constant("input.scale", (1.0 / deviation).astype(np.float32).reshape(1, 1, 1, -1))
    normalised = graph.tensor("input.normalised", (1, height, width, channels))
    return graph.operator("MUL", [x, scale], normalised, "MulOptions")


def _maps(layer: Layer) -> tuple[int, ...]:
    """Return the shape of a layer's output as LiteRT has it."""
    if len(layer.output_shape) == 1:
        return (1, layer.output_shape[0])
    channels, height, width = layer.output_shape
    return (1, height, width, channels)


def _same_padding(layer: Layer) -> tuple[int, int, int, int]:
    """Return what TensorFlow's SAME adds: top, left, bottom, right."""
    totals = []
    for size in layer.input_shape[1:]:
        steps = -(-size // layer.stride)
        totals.append(max((steps - 1) * layer.stride + layer.kernel_size - size, 0))
    return (totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2)


def _padded(graph: _Graph, layer: Layer, x: int, *, value: float | None = None) -> tuple[int, int]:
    """Return what a window reads and its padding rule; other paddings are written out."""
    if not any(layer.padding):
        return x, graph.padding(same=False)
    if layer.padding == _same_padding(layer):
        return x, graph.padding(same=True)
    top, left, bottom, right = layer.padding
    _, height, width, channels = graph.shape(x)
    pads = graph.constant(
        f"{layer.name}.pads", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    )
    padded = graph.tensor(
        f"{layer.name}.padded", (1, height + top + bottom, width + left + right, channels)
    )
    if value is None:
        graph.operator("PAD", [x, pads], padded, "PadOptions")
    else:
        filling = graph.constant(f"{layer.name}.filling", np.array(value, dtype=np.float32))
        graph.operator("PADV2", [x, pads, filling], padded, "PadV2Options")
    return padded, graph.padding(same=False)


def _conv(
    graph: _Graph, layer: Layer, inputs: list[int], folded: FoldedLayer | None, function: str
) -> int:
    assert folded is not None
    x, padding = _padded(graph, layer, inputs[0])
    bias = graph.constant(f"{layer.name}.bias", folded.bias)
    output = graph.tensor(layer.name, _maps(layer))
    fields = {
        "padding": padding, "strideW": layer.stride, "strideH": layer.stride,
        "fusedActivationFunction": graph.activation(function),
    }  # fmt: skip
    if layer.groups > 1 and folded.weight.shape[1] == 1:
        weight = graph.constant(f"{layer.name}.weight", folded.weight.transpose(1, 2, 3, 0))
        fields["depthMultiplier"] = layer.output_shape[0] // layer.groups
        return graph.operator(
            "DEPTHWISE_CONV_2D", [x, weight, bias], output, "DepthwiseConv2DOptions", **fields
        )
    weight = graph.constant(f"{layer.name}.weight", folded.weight.transpose(0, 2, 3, 1))
    return graph.operator("CONV_2D", [x, weight, bias], output, "Conv2DOptions", **fields)


def _linear(
    graph: _Graph, layer: Layer, inputs: list[int], folded: FoldedLayer | None, function: str
) -> int:
    assert folded is not None
    x = inputs[0]
    if len(layer.input_shape) > 1:
        channels, height, width = layer.input_shape
        if (height, width) != (1, 1):  # torch flattens channels first
            order = graph.constant(f"{layer.name}.order", np.array([0, 3, 1, 2], dtype=np.int32))
            turned = graph.tensor(f"{layer.name}.turned", (1, channels, height, width))
            x = graph.operator("TRANSPOSE", [x, order], turned, "TransposeOptions")
        x = _reshape(graph, x, f"{layer.name}.flat", (1, channels * height * width))
    weight = graph.constant(f"{layer.name}.weight", folded.weight)
    bias = graph.constant(f"{layer.name}.bias", folded.bias)
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator(
        "FULLY_CONNECTED", [x, weight, bias], output, "FullyConnectedOptions",
        fusedActivationFunction=graph.activation(function), keepNumDims=False,
    )  # fmt: skip


def _reshape(graph: _Graph, x: int, name: str, shape: tuple[int, ...]) -> int:
    sizes = graph.constant(f"{name}.shape", np.array(shape, dtype=np.int32))
    return graph.operator(
        "RESHAPE", [x, sizes], graph.tensor(name, shape), "ReshapeOptions", newShape=list(shape)
    )


def _activation(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    x, shape = inputs[0], _maps(layer)
    output = graph.tensor(layer.name, shape)
    if layer.function == "hard_sigmoid":  # relu6(x + 3) / 6
        three = graph.constant(f"{layer.name}.three", np.array([3.0], dtype=np.float32))
        sixth = graph.constant(f"{layer.name}.sixth", np.array([1.0 / 6.0], dtype=np.float32))
        clipped = graph.tensor(f"{layer.name}.clipped", shape)
        relu6 = graph.activation("relu6")
        graph.operator("ADD", [x, three], clipped, "AddOptions", fusedActivationFunction=relu6)
        return graph.operator("MUL", [clipped, sixth], output, "MulOptions")
    if layer.function == "silu":
        gate = graph.operator("LOGISTIC", [x], graph.tensor(f"{layer.name}.gate", shape))
        return graph.operator("MUL", [x, gate], output, "MulOptions")
    kinds = {
        "relu": "RELU", "relu6": "RELU6", "hard_swish": "HARD_SWISH", "sigmoid": "LOGISTIC"
    }  # fmt: skip
    return graph.operator(kinds[layer.function], [x], output)


def _pool(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    largest = layer.function == "max"
    x, padding = _padded(graph, layer, inputs[0], value=_LOWEST if largest else None)
    window = {
        "padding": padding, "strideW": layer.stride, "strideH": layer.stride,
        "filterWidth": layer.kernel_size, "filterHeight": layer.kernel_size,
    }  # fmt: skip
    output = graph.tensor(layer.name, _maps(layer))
    if largest:
        return graph.operator("MAX_POOL_2D", [x], output, "Pool2DOptions", **window)
    if x == inputs[0]:
        return graph.operator("AVERAGE_POOL_2D", [x], output, "Pool2DOptions", **window)
    # Zeros that were written out count in LiteRT's average: their share is taken out again.
    pooled = graph.tensor(f"{layer.name}.pooled", _maps(layer))
    graph.operator("AVERAGE_POOL_2D", [x], pooled, "Pool2DOptions", **window)
    share = graph.constant(f"{layer.name}.share", _inverse_shares(layer))
    return graph.operator("MUL", [pooled, share], output, "MulOptions")


def _inverse_shares(layer: Layer) -> np.ndarray:
    """Return the size of a window over its places inside the map, float32 (1, H, W, 1)."""
    inside = []
    for axis in (0, 1):
        size, before = layer.input_shape[1 + axis], layer.padding[axis]
        starts = np.arange(layer.output_shape[1 + axis]) * layer.stride - before
        ends = np.minimum(starts + layer.kernel_size, size)
        inside.append(ends - np.maximum(starts, 0))
    shares = layer.kernel_size**2 / np.outer(inside[0], inside[1])
    return np.asarray(shares, dtype=np.float32)[None, :, :, None]


def _global_pool(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    axes = graph.constant(f"{layer.name}.axes", np.array([1, 2], dtype=np.int32))
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator("MEAN", [inputs[0], axes], output, "ReducerOptions", keepDims=True)


def _add(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, function: str
) -> int:
    output = graph.tensor(layer.name, _maps(layer))
    chosen = graph.activation(function)
    return graph.operator("ADD", inputs, output, "AddOptions", fusedActivationFunction=chosen)


def _multiply(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    return graph.operator("MUL", inputs, graph.tensor(layer.name, _maps(layer)), "MulOptions")


def _pad(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    added = layer.output_shape[0] - layer.input_shape[0]
    pads = np.array([[0, 0], [0, 0], [0, 0], [0, added]], dtype=np.int32)
    number = graph.constant(f"{layer.name}.pads", pads)
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator("PAD", [inputs[0], number], output, "PadOptions")


def _concat(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator("CONCATENATION", inputs, output, "ConcatenationOptions", axis=3)


def _select(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    shape = _maps(layer)
    first = graph.constant(
        f"{layer.name}.first", np.array([0, 0, 0, layer.first_channel], dtype=np.int32)
    )
    sizes = graph.constant(f"{layer.name}.sizes", np.array(shape, dtype=np.int32))
    return graph.operator(
        "SLICE", [inputs[0], first, sizes], graph.tensor(layer.name, shape), "SliceOptions"
    )


def _shuffle(
    graph: _Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    _, height, width, channels = shape = _maps(layer)
    apart = (1, height, width, layer.groups, channels // layer.groups)
    x = _reshape(graph, inputs[0], f"{layer.name}.apart", apart)
    order = graph.constant(f"{layer.name}.order", np.array([0, 1, 2, 4, 3], dtype=np.int32))
    turned = graph.tensor(f"{layer.name}.turned", (*apart[:3], apart[4], apart[3]))
    x = graph.operator("TRANSPOSE", [x, order], turned, "TransposeOptions")
    return _reshape(graph, x, layer.name, shape)


_WRITERS: dict[
    str, Callable[[_Graph, Layer, list[int], FoldedLayer | None, str], int]
] = {
    "conv": _conv,
    "activation": _activation,
    "pool": _pool,
    "global_pool": _global_pool,
    "linear": _linear,
    "add": _add,
    "multiply": _multiply,
    "pad": _pad,
    "concat": _concat,
    "select": _select,
    "shuffle": _shuffle,
}  # fmt: skip
