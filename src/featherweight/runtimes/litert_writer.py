"""Write a LiteRT (TensorFlow Lite) file straight from the layers, without a converter.

Source: the schema that comes with ai-edge-litert (`schema_py_generated`). Maps are (N, H, W, C).
ReLU and ReLU6 become part of the convolution, linear layer or addition that they alone follow.
Paddings that TensorFlow's SAME would not give are operators of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np

from featherweight.architecture import Architecture
from featherweight.layers import INPUT, Layer
from featherweight.layers import graph as graph_of
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import to_plain
from featherweight.runtimes.litert_graph import Graph, Window
from featherweight.runtimes.weights import (
    FoldedLayer,
    check_labels,
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
_LOWEST = np.array(np.finfo(np.float32).min)


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
        the file: input uint8 (1, H, W, 3), the outputs of `layers.graph` in float32.

    Raises:
        MissingDependencyError: ai-edge-litert is not installed.
        UnsupportedError: no classifier, or neither 1 nor 3 input channels.
        UsageError: weights or labels of another network.
    """
    check_labels(architecture, labels)
    if weights is None:
        weights = random_weights(architecture, seed=0)
    check_weights(architecture, weights)
    network = graph_of(architecture)
    plan = network.layers
    folded = {
        layer.name: folded_weights(layer, weights)
        for layer in plan
        if layer.op in ("conv", "linear")
    }
    graph = Graph()
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
        outputs={one.name: names[one.layer] for one in network.outputs},
        description=architecture.name,
        notes=json.dumps(notes),
    )


def _write_input(
    graph: Graph,
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
        "CAST",
        [graph.input],
        graph.tensor("input.float", (1, height, width, 3)),
        "CastOptions",
        inDataType=graph.kind("UINT8"),
        outDataType=graph.kind("FLOAT32"),
    )
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


def _window(layer: Layer) -> Window:
    return Window(layer.kernel_size, layer.stride, layer.padding)


def _maps(layer: Layer) -> tuple[int, ...]:
    """Return the shape of a layer's output as LiteRT has it."""
    if len(layer.output_shape) == 1:
        return (1, layer.output_shape[0])
    channels, height, width = layer.output_shape
    return (1, height, width, channels)


def _conv(
    graph: Graph, layer: Layer, inputs: list[int], folded: FoldedLayer | None, function: str
) -> int:
    assert folded is not None
    x, padding = graph.padded(inputs[0], layer.name, _window(layer))
    bias = graph.constant(f"{layer.name}.bias", folded.bias)
    output = graph.tensor(layer.name, _maps(layer))
    fields = {
        "padding": padding,
        "strideW": layer.stride,
        "strideH": layer.stride,
        "fusedActivationFunction": graph.activation(function),
    }
    if layer.groups > 1 and folded.weight.shape[1] == 1:
        weight = graph.constant(f"{layer.name}.weight", folded.weight.transpose(1, 2, 3, 0))
        fields["depthMultiplier"] = layer.output_shape[0] // layer.groups
        return graph.operator(
            "DEPTHWISE_CONV_2D", [x, weight, bias], output, "DepthwiseConv2DOptions", **fields
        )
    weight = graph.constant(f"{layer.name}.weight", folded.weight.transpose(0, 2, 3, 1))
    return graph.operator("CONV_2D", [x, weight, bias], output, "Conv2DOptions", **fields)


def _linear(
    graph: Graph, layer: Layer, inputs: list[int], folded: FoldedLayer | None, function: str
) -> int:
    assert folded is not None
    x = inputs[0]
    if len(layer.input_shape) > 1:
        channels, height, width = layer.input_shape
        if (height, width) != (1, 1):  # torch flattens channels first
            x = graph.transpose(x, f"{layer.name}.turned", (0, 3, 1, 2))
        x = graph.reshape(x, f"{layer.name}.flat", (1, channels * height * width))
    weight = graph.constant(f"{layer.name}.weight", folded.weight)
    bias = graph.constant(f"{layer.name}.bias", folded.bias)
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator(
        "FULLY_CONNECTED",
        [x, weight, bias],
        output,
        "FullyConnectedOptions",
        fusedActivationFunction=graph.activation(function),
        keepNumDims=False,
    )


def _activation(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
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
    kinds = {"relu": "RELU", "relu6": "RELU6", "hard_swish": "HARD_SWISH", "sigmoid": "LOGISTIC"}
    return graph.operator(kinds[layer.function], [x], output)


def _pool(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    largest = layer.function == "max"
    lowest = _LOWEST if largest else None
    x, padding = graph.padded(inputs[0], layer.name, _window(layer), value=lowest)
    window = {
        "padding": padding,
        "strideW": layer.stride,
        "strideH": layer.stride,
        "filterWidth": layer.kernel_size,
        "filterHeight": layer.kernel_size,
    }
    output = graph.tensor(layer.name, _maps(layer))
    if largest:
        return graph.operator("MAX_POOL_2D", [x], output, "Pool2DOptions", **window)
    if x == inputs[0]:
        return graph.operator("AVERAGE_POOL_2D", [x], output, "Pool2DOptions", **window)
    # Zeros that were written out count in LiteRT's average: their share is taken out again.
    pooled = graph.tensor(f"{layer.name}.pooled", _maps(layer))
    graph.operator("AVERAGE_POOL_2D", [x], pooled, "Pool2DOptions", **window)
    shares = _window(layer).inverse_shares(layer.input_shape[1:])
    share = graph.constant(f"{layer.name}.share", shares)
    return graph.operator("MUL", [pooled, share], output, "MulOptions")


def _global_pool(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    axes = graph.constant(f"{layer.name}.axes", np.array([1, 2], dtype=np.int32))
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator("MEAN", [inputs[0], axes], output, "ReducerOptions", keepDims=True)


def _add(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, function: str
) -> int:
    output = graph.tensor(layer.name, _maps(layer))
    chosen = graph.activation(function)
    return graph.operator("ADD", inputs, output, "AddOptions", fusedActivationFunction=chosen)


def _multiply(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    return graph.operator("MUL", inputs, graph.tensor(layer.name, _maps(layer)), "MulOptions")


def _pad(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    added = layer.output_shape[0] - layer.input_shape[0]
    return graph.pad(inputs[0], layer.name, np.array([[0, 0], [0, 0], [0, 0], [0, added]]))


def _resize(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    return graph.resize(inputs[0], layer.name, factor=layer.factor)


def _concat(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    output = graph.tensor(layer.name, _maps(layer))
    return graph.operator("CONCATENATION", inputs, output, "ConcatenationOptions", axis=3)


def _select(
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
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
    graph: Graph, layer: Layer, inputs: list[int], _folded: FoldedLayer | None, _function: str
) -> int:
    return graph.shuffle(inputs[0], layer.name, groups=layer.groups)


_WRITERS: dict[str, Callable[[Graph, Layer, list[int], FoldedLayer | None, str], int]] = {
    "conv": _conv,
    "activation": _activation,
    "pool": _pool,
    "global_pool": _global_pool,
    "linear": _linear,
    "add": _add,
    "multiply": _multiply,
    "resize": _resize,
    "pad": _pad,
    "concat": _concat,
    "select": _select,
    "shuffle": _shuffle,
}
