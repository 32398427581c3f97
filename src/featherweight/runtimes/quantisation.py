"""Static int8: quantise the graph that `onnx_writer` writes, from ranges seen on pictures.

Activations are uint8 per tensor, weights int8 symmetric per output channel, biases int32. The
result is standard ONNX QuantizeLinear / DequantizeLinear ("QDQ"), which any runtime can read.
`onnxruntime.quantization.quantize_static` does the same for arbitrary graphs, but needs 3.0 s for
EfficientNet-Lite0 and two pictures where this needs 0.3 s (decides whether shopping among networks
takes minutes), keeps the input in float and cannot give depthwise layers more bits than others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["Range", "observe_ranges", "observed_tensors", "quantise_model", "with_observers"]

_SCALED = frozenset({"Conv", "Gemm"})
_SAME_SCALE = frozenset({"MaxPool", "Pad", "Flatten"})
_ABSORBING = frozenset({"Conv", "Gemm", "Add"})
_CLIPS = frozenset({"Relu", "Clip"})
_INPUT_OPS = ("Transpose", "Cast", "ReduceMean", "Sub")
_BIAS_LIMIT = float(2**30)


class Range(NamedTuple):
    """Smallest and largest value of a tensor that its 256 levels have to cover."""

    low: float
    high: float


class _Levels(NamedTuple):
    """value = scale * (level - zero_point), level in 0..255."""

    scale: float
    zero_point: int


def _levels(span: Range) -> _Levels:
    """Zero must be a level: padding and skips rely on it."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    if high - low <= 0.0:
        return _Levels(1.0, 0)
    scale = float(np.float32((high - low) / 255.0))
    return _Levels(scale, int(np.clip(round(-low / scale), 0, 255)))


def _absorbed(graph: onnx.GraphProto) -> dict[str, str]:
    """Map the output of a node to that of the clipping which is its only reader.

    Quantised levels end at the range anyway, so ReLU and ReLU6 cost nothing: they are left out.
    """
    readers = Counter(name for node in graph.node for name in node.input)
    producers = {node.output[0]: node.op_type for node in graph.node}
    return {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type in _CLIPS
        and readers[node.input[0]] == 1
        and producers.get(node.input[0]) in _ABSORBING
    }


def observed_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the tensors whose ranges `quantise_model` needs, in graph order."""
    absorbed = _absorbed(model.graph)
    logits = model.graph.output[0].name
    names = []
    for node in model.graph.node:
        name = node.output[0]
        skipped = node.op_type in (*_SAME_SCALE, *_INPUT_OPS)
        if name != logits and name not in absorbed and not skipped:
            names.append(name)
    return tuple(names)


def with_observers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose outputs are the minima, then the maxima, of the observed tensors."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    for op, suffix in (("ReduceMin", "min"), ("ReduceMax", "max")):
        outputs = []
        for name in observed_tensors(model):
            output = f"{name}.{suffix}"
            observed.graph.node.append(helper.make_node(op, [name], [output], keepdims=0))
            outputs.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, []))
        observed.graph.output.extend(outputs)
    return observed


def observe_ranges(
    model: onnx.ModelProto,
    images: np.ndarray,
    *,
    run: Callable[[np.ndarray], list[np.ndarray]],
    percentile: float = 100.0,
) -> dict[str, Range]:
    """Return the range of every observed tensor over pictures.

    Args:
        model: what `write_onnx` gave.
        images: uint8 (N, H, W, 3).
        run: executes `with_observers(model)` on a uint8 (1, H, W, 3) picture.
        percentile: 100 covers every picture; 99 leaves out the extremes of one in a hundred.
    """
    seen = np.array([np.array(run(image[None]), dtype=np.float64) for image in images])
    names = observed_tensors(model)
    lows = np.percentile(seen[:, : len(names)], 100.0 - percentile, axis=0)
    highs = np.percentile(seen[:, len(names) :], percentile, axis=0)
    return {
        name: Range(float(low), float(high))
        for name, low, high in zip(names, lows, highs, strict=True)
    }


def quantise_model(
    model: onnx.ModelProto, ranges: Mapping[str, Range], *, weight_bits: int = 8
) -> onnx.ModelProto:
    """Return the int8 form of a model that `write_onnx` wrote with uint8 input.

    Args:
        model: the float model.
        ranges: of `observed_tensors(model)`.
        weight_bits: 7 keeps products of pairs inside 16 bits, for x86 CPUs without VNNI.
            Depthwise weights are not multiplied in pairs and always have 8.
    """
    quantiser = _Quantiser(model, ranges, weight_bits=weight_bits)
    quantiser.write()
    return quantiser.model()


class _Quantiser:
    """Copies a graph node by node with the conversions between them."""

    def __init__(
        self, model: onnx.ModelProto, ranges: Mapping[str, Range], *, weight_bits: int
    ) -> None:
        self._model = model
        self._ranges = ranges
        self._weight_bits = weight_bits
        self._constants = {
            constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer
        }
        self._absorbed = _absorbed(model.graph)
        self._levels: dict[str, _Levels] = {}
        self._values: dict[str, str] = {}  # float tensor -> its dequantised form
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, np.ndarray] = {}
        self._image_mean: np.ndarray | None = None  # of the convolution that reads the picture

    def write(self) -> None:
        nodes = list(self._model.graph.node)
        absorbed = set(self._absorbed.values())
        start = self._write_input(nodes)
        for node in nodes[start:]:
            if node.output[0] not in absorbed:
                self._write_node(node)

    def model(self) -> onnx.ModelProto:
        quantised = onnx.ModelProto()
        quantised.CopyFrom(self._model)
        del quantised.graph.node[:], quantised.graph.initializer[:]
        quantised.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        quantised.graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for name, value in (self._constants | self._initialisers).items()
            if name in used
        )
        return quantised

    def _write_input(self, nodes: list[onnx.NodeProto]) -> int:
        """Let the first convolution read the picture's bytes; return where the network starts.

        The picture is already quantised: scale 1, zero point = the mean, rounded. What rounding
        (and one zero point for three channels) leaves goes into the bias; it is exact except under
        the zero padding of the border.
        """
        start = next(i for i, node in enumerate(nodes) if node.op_type not in _INPUT_OPS)
        centred = nodes[start - 1].output[0]
        if nodes[start].op_type != "Conv":
            self._nodes += nodes[:start]
            return start
        mean = self._constants["input.mean"].reshape(-1).astype(np.float64)
        self._image_mean = np.resize(mean, 3)
        self._nodes.append(nodes[0])
        self._levels[centred] = _Levels(1.0, int(np.clip(round(float(mean.mean())), 0, 255)))
        self._dequantise(nodes[0].output[0], centred)
        return start

    def _write_node(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        inputs = list(node.input)
        if node.op_type in _SCALED:
            inputs = [self._values.get(inputs[0], inputs[0]), *self._quantised_weights(node)]
        copy.input.extend(self._values.get(name, name) for name in inputs)
        output = self._absorbed.get(node.output[0], node.output[0])
        copy.output[0] = output
        self._nodes.append(copy)
        if node.op_type in _SAME_SCALE and node.input[0] in self._levels:
            self._levels[output] = self._levels[node.input[0]]
        elif output in self._ranges:
            self._levels[output] = _levels(self._ranges[output])
        else:
            return
        self._nodes.append(
            helper.make_node(
                "QuantizeLinear", [output, *self._level_constants(output)], [f"{output}.q"],
                name=f"{output}.q",
            )
        )  # fmt: skip
        self._dequantise(f"{output}.q", output)

    def _dequantise(self, source: str, tensor: str) -> None:
        """Add `tensor`.dq, the float value of the uint8 tensor `source`."""
        output = f"{tensor}.dq"
        inputs = [source, *self._level_constants(tensor)]
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [output], name=output))
        self._values[tensor] = output

    def _level_constants(self, tensor: str) -> list[str]:
        scale, zero_point = self._levels[tensor]
        self._initialisers[f"{tensor}.scale"] = np.float32(scale).reshape(())
        self._initialisers[f"{tensor}.zero"] = np.uint8(zero_point).reshape(())
        return [f"{tensor}.scale", f"{tensor}.zero"]

    def _quantised_weights(self, node: onnx.NodeProto) -> list[str]:
        """Add the int8 weight and int32 bias of a Conv or Gemm; return their float forms."""
        source, weight_name, bias_name = node.input
        weight = self._constants[weight_name].astype(np.float64)
        bias = self._constants[bias_name].astype(np.float64)
        if self._image_mean is not None and node.op_type == "Conv":
            weight, bias = self._first_convolution(node, weight, bias)
            self._image_mean = None
        depthwise = weight.ndim == 4 and weight.shape[1] == 1
        limit = 127 if depthwise else 2 ** (self._weight_bits - 1) - (self._weight_bits == 8)
        per_row = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        input_scale = self._levels[source].scale
        scale = np.maximum(per_row / limit, np.abs(bias) / (input_scale * _BIAS_LIMIT))
        scale = np.where(scale > 0.0, scale, 1.0).astype(np.float32).astype(np.float64)
        rows = scale.reshape(-1, *[1] * (weight.ndim - 1))
        levels = np.clip(np.round(weight / rows), -limit, limit).astype(np.int8)
        bias_scale = scale * input_scale
        parts = (
            (weight_name, levels, scale, np.int8),
            (bias_name, np.round(bias / bias_scale).astype(np.int32), bias_scale, np.int32),
        )
        for name, values, steps, kind in parts:
            self._initialisers[f"{name}.q"] = values
            self._initialisers[f"{name}.scale"] = steps.astype(np.float32)
            self._initialisers[f"{name}.zero"] = np.zeros(len(values), dtype=kind)
            inputs = [f"{name}.q", f"{name}.scale", f"{name}.zero"]
            self._nodes.append(
                helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], axis=0)
            )
        return [f"{weight_name}.dq", f"{bias_name}.dq"]

    def _first_convolution(
        self, node: onnx.NodeProto, weight: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fold what separates the picture's bytes from the centred picture into weight and bias."""
        assert self._image_mean is not None
        offset = self._levels[node.input[0]].zero_point - self._image_mean
        groups = next(item.i for item in node.attribute if item.name == "group")
        if groups == 1:
            if weight.shape[1] == 1:  # greyscale: the mean over RGB
                weight = np.repeat(weight, 3, axis=1) / 3.0
            return weight, bias + np.einsum("ochw,c->o", weight, offset)
        per_row = np.repeat(offset, len(weight) // groups)
        return weight, bias + weight.sum(axis=(1, 2, 3)) * per_row
