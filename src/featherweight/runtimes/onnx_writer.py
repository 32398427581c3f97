"""Write an ONNX file straight from the layers: milliseconds instead of a trace through torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from featherweight.architecture import Architecture
from featherweight.layers import INPUT, Layer, graph
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import to_plain
from featherweight.runtimes.weights import (
    FoldedLayer,
    check_labels,
    check_weights,
    fold_division,
    folded_weights,
    input_levels,
    random_weights,
)

__all__ = [
    "CENTRED",
    "IMAGE",
    "NORMALISED",
    "OnnxGraph",
    "finish_model",
    "wrap_graph",
    "write_layers",
    "write_onnx",
]

IMAGE = "image"
"""Name of the input: uint8 (1, H, W, 3)."""

CENTRED = "input.centred"
"""Name of the picture less its mean, which a first convolution reads: it divides, too."""
NORMALISED = "input.normalised"
"""Name of the normalised picture, where something else than one convolution reads it."""

_OPSET = 17
_IR_VERSION = 8


class OnnxGraph:
    """Nodes and constants of an ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return its name."""
        self.constants[name] = value
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        output: str,
        attributes: Mapping[str, object] | None = None,
    ) -> str:
        """Add a node with one output, named like its output, and return that name."""
        node = helper.make_node(op, list(inputs), [output], name=output)
        for key, value in (attributes or {}).items():
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return output


def write_onnx(
    architecture: Architecture,
    weights: Mapping[str, np.ndarray] | None,
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    uint8_input: bool = True,
) -> onnx.ModelProto:
    """Write a classifier as ONNX with norms folded into the convolutions.

    Args:
        architecture: the network.
        weights: arrays named as in torch's state dict; `None` draws seeded ones (for timing).
        preprocessing: its mean and std become part of the graph.
        labels: class names; stored in the file's metadata.
        uint8_input: take `image` uint8 (1, H, W, 3) and normalise inside the graph; otherwise
            take normalised float32 (1, C, H, W).

    Returns:
        The model: one input `image`, the outputs of `layers.graph` in float32; labels,
        preprocessing, architecture and its digest are in `metadata_props`.

    Raises:
        UnsupportedError: a uint8 file of a network with neither 1 nor 3 input channels.
        UsageError: weights or labels of another network.
    """
    if weights is None:
        weights = random_weights(architecture, seed=0)
    model = OnnxGraph()
    write_layers(model, architecture, weights, preprocessing=preprocessing if uint8_input else None)
    return finish_model(
        model, architecture, preprocessing=preprocessing, labels=labels, uint8_input=uint8_input
    )


def write_layers(
    model: OnnxGraph,
    architecture: Architecture,
    weights: Mapping[str, np.ndarray],
    *,
    preprocessing: Preprocessing | None,
    source: str = IMAGE,
) -> None:
    """Add the layers of a network to a graph; its answers have their own names.

    Args:
        model: what they are added to.
        architecture: the network.
        weights: arrays named as in torch's state dict.
        preprocessing: of a network that reads `image` as uint8; `None` = it reads float32 values.
        source: name of the values that it then reads.

    Raises:
        UsageError: weights of another network.
    """
    check_weights(architecture, weights)
    network = graph(architecture)
    folded = {
        layer.name: folded_weights(layer, weights)
        for layer in network.layers
        if layer.op in ("conv", "linear")
    }
    if preprocessing is not None:
        source = _write_input(model, network.layers, folded, architecture, preprocessing)
    names = {INPUT: source}
    for layer in network.layers:
        output = network.name_of(layer.name)
        inputs = [names[name] for name in layer.inputs]
        names[layer.name] = _NODES[layer.op](model, layer, inputs, output, folded.get(layer.name))


def finish_model(
    model: OnnxGraph,
    architecture: Architecture,
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    uint8_input: bool = True,
) -> onnx.ModelProto:
    """Wrap nodes from `image` to the outputs as a model with its metadata.

    Raises:
        UnsupportedError: a network without a classifier.
        UsageError: the number of labels is not the number of classes.
    """
    check_labels(architecture, labels)
    channels, height, width = architecture.input_shape
    image = (
        helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [1, height, width, 3])
        if uint8_input
        else helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [1, channels, height, width])
    )
    answers = [
        helper.make_tensor_value_info(one.name, TensorProto.FLOAT, [1, *one.shape])
        for one in graph(architecture).outputs
    ]
    return wrap_graph(
        model,
        name=architecture.name,
        inputs=[image],
        outputs=answers,
        notes={
            "labels": labels,
            "preprocessing": to_plain(preprocessing),
            "architecture": to_plain(architecture),
        },
        digest=architecture.digest,
    )


def wrap_graph(
    model: OnnxGraph,
    *,
    name: str,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    notes: Mapping[str, object],
    digest: str,
) -> onnx.ModelProto:
    """Return a graph as a model.

    Args:
        model: nodes and constants.
        name: of the graph.
        inputs: what it takes.
        outputs: what it answers.
        notes: plain values, which become JSON in the metadata.
        digest: of what was written.
    """
    constants = [numpy_helper.from_array(value, own) for own, value in model.constants.items()]
    finished = helper.make_model(
        helper.make_graph(model.nodes, name, list(inputs), list(outputs), constants),
        producer_name="featherweight",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    written = {key: json.dumps(value) for key, value in notes.items()}
    helper.set_model_props(finished, {**written, "architecture_digest": digest})
    return finished


def _write_input(
    model: OnnxGraph,
    plan: tuple[Layer, ...],
    folded: dict[str, FoldedLayer],
    architecture: Architecture,
    preprocessing: Preprocessing,
) -> str:
    """Write uint8 NHWC -> normalised NCHW and return what the first layer reads."""
    mean, deviation = input_levels(architecture, preprocessing)
    x = model.node("Transpose", [IMAGE], "input.nchw", {"perm": [0, 3, 1, 2]})
    x = model.node("Cast", [x], "input.float", {"to": TensorProto.FLOAT})
    if architecture.input_shape[0] == 1:
        x = model.node("ReduceMean", [x], "input.grey", {"axes": [1], "keepdims": 1})
    mean_name = model.constant("input.mean", _channels(mean))
    x = model.node("Sub", [x, mean_name], CENTRED)
    if fold_division(plan, folded, deviation):
        return x
    scale = model.constant("input.scale", _channels(1.0 / deviation))
    return model.node("Mul", [x, scale], NORMALISED)


def _channels(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(1, -1, 1, 1)


def _conv(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, folded: FoldedLayer | None
) -> str:
    assert folded is not None
    weight = model.constant(f"{layer.name}.weight", folded.weight)
    bias = model.constant(f"{layer.name}.bias", folded.bias)
    attributes = {
        "kernel_shape": [layer.kernel_size] * 2,
        "strides": [layer.stride] * 2,
        "pads": list(layer.padding),
        "group": layer.groups,
    }
    return model.node("Conv", [*inputs, weight, bias], output, attributes)


def _linear(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, folded: FoldedLayer | None
) -> str:
    assert folded is not None
    flat = inputs[0]
    if len(layer.input_shape) > 1:
        flat = model.node("Flatten", [flat], f"{layer.name}.flat", {"axis": 1})
    weight = model.constant(f"{layer.name}.weight", folded.weight)
    bias = model.constant(f"{layer.name}.bias", folded.bias)
    return model.node("Gemm", [flat, weight, bias], output, {"transB": 1})


def _activation(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    if layer.function == "relu6":
        low = model.constant("zero", np.array(0.0, dtype=np.float32))
        high = model.constant("six", np.array(6.0, dtype=np.float32))
        return model.node("Clip", [*inputs, low, high], output)
    if layer.function == "hard_sigmoid":
        return model.node("HardSigmoid", inputs, output, {"alpha": 1.0 / 6.0, "beta": 0.5})
    if layer.function == "silu":
        gate = model.node("Sigmoid", inputs, f"{layer.name}.gate")
        return model.node("Mul", [*inputs, gate], output)
    op = {"relu": "Relu", "hard_swish": "HardSwish", "sigmoid": "Sigmoid"}[layer.function]
    return model.node(op, inputs, output)


def _pool(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    attributes: dict[str, object] = {
        "kernel_shape": [layer.kernel_size] * 2,
        "strides": [layer.stride] * 2,
        "pads": list(layer.padding),
    }
    if layer.function == "max":
        return model.node("MaxPool", inputs, output, attributes)
    return model.node("AveragePool", inputs, output, {**attributes, "count_include_pad": 0})


def _pad(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    added = layer.output_shape[0] - layer.input_shape[0]
    pads = model.constant(
        f"{layer.name}.pads", np.array([0, 0, 0, 0, 0, added, 0, 0], dtype=np.int64)
    )
    return model.node("Pad", [*inputs, pads], output)


def _resize(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    factors = np.array([1, 1, layer.factor, layer.factor], dtype=np.float32)
    scales = model.constant(f"{layer.name}.scales", factors)
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    return model.node("Resize", [*inputs, "", scales], output, attributes)


def _concat(
    model: OnnxGraph, _layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    return model.node("Concat", inputs, output, {"axis": 1})


def _select(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    first, last = layer.first_channel, layer.first_channel + layer.output_shape[0]
    bounds = [
        model.constant(f"{layer.name}.{key}", np.array([value], dtype=np.int64))
        for key, value in (("first", first), ("end", last), ("axis", 1))
    ]
    return model.node("Slice", [*inputs, *bounds], output)


def _shuffle(
    model: OnnxGraph, layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
) -> str:
    order = np.arange(layer.output_shape[0], dtype=np.int64).reshape(layer.groups, -1).T.reshape(-1)
    channels = model.constant(f"{layer.name}.order", order)
    return model.node("Gather", [*inputs, channels], output, {"axis": 1})


def _plain(op: str) -> Callable[..., str]:
    def write(
        model: OnnxGraph, _layer: Layer, inputs: list[str], output: str, _folded: FoldedLayer | None
    ) -> str:
        return model.node(op, inputs, output)

    return write


_NODES: dict[str, Callable[[OnnxGraph, Layer, list[str], str, FoldedLayer | None], str]] = {
    "conv": _conv,
    "activation": _activation,
    "pool": _pool,
    "global_pool": _plain("GlobalAveragePool"),
    "linear": _linear,
    "add": _plain("Add"),
    "multiply": _plain("Mul"),
    "resize": _resize,
    "pad": _pad,
    "concat": _concat,
    "select": _select,
    "shuffle": _shuffle,
}
