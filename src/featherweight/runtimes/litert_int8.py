"""Write an int8 LiteRT file from the quantised ONNX graph: one quantiser for every runtime.

`quantise_model` has chosen all levels and corrected the biases; here each node becomes the LiteRT
operator that computes it on int8 (ONNX's uint8 less 128). Where LiteRT has none (hard sigmoid,
averages over padding, the logits) the node is computed in float32 between a DEQUANTIZE and a
QUANTIZE.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from featherweight.runtimes.litert_graph import Graph, Quantised, Window
from featherweight.runtimes.onnx_writer import IMAGE

__all__ = ["write_litert_int8"]

_LOGISTIC = Quantised((1.0 / 256.0,), -128)
"""The only levels that LiteRT's int8 LOGISTIC has."""
_SHIFT = 128
"""ONNX's levels are 0 to 255, LiteRT's -128 to 127."""


def write_litert_int8(model: onnx.ModelProto) -> bytes:
    """Return the LiteRT file of what `quantise_model` gave.

    Raises:
        MissingDependencyError: ai-edge-litert is not installed.
    """
    return _Translator(model).file()


class _Translator:
    """Copies an ONNX graph node by node; `_numbers` maps its tensors to LiteRT's."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._graph = Graph()
        self._constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        self._shapes = _shapes(model)
        self._levels = {
            node.input[0]: self._quantised(node)
            for node in model.graph.node
            if node.op_type == "QuantizeLinear"
        }
        self._numbers: dict[str, int] = {}
        self._weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def file(self) -> bytes:
        _, height, width, channels = self._shapes[IMAGE]
        levels = self._picture_levels()
        self._graph.input = self._graph.tensor(
            IMAGE, (1, height, width, channels), kind="UINT8", quantised=levels
        )
        self._numbers[IMAGE] = self._graph.input
        for node in self._model.graph.node:
            number = getattr(self, f"_{node.op_type.lower()}")(node)
            if number is not None:
                self._numbers[node.output[0]] = number
        notes = {one.key: one.value for one in self._model.metadata_props}
        return self._graph.file(
            outputs={one.name: self._numbers[one.name] for one in self._model.graph.output},
            description=self._model.graph.name,
            notes=json.dumps(
                {
                    "labels": json.loads(notes["labels"]),
                    "preprocessing": json.loads(notes["preprocessing"]),
                }
            ),
        )

    # What several nodes need.

    def _picture_levels(self) -> Quantised | None:
        """Return the levels of the picture's bytes, where the first convolution reads them."""
        second = self._model.graph.node[1]
        if second.op_type != "DequantizeLinear":
            return None
        return Quantised((1.0,), int(self._constants[second.input[2]]))

    def _quantised(self, node: onnx.NodeProto) -> Quantised:
        scale, zero = (self._constants[name] for name in node.input[1:3])
        return Quantised((float(scale),), int(zero) - _SHIFT)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return LiteRT's shape of an ONNX tensor."""
        shape = self._shapes[name]
        return shape if len(shape) != 4 else (shape[0], shape[2], shape[3], shape[1])

    def _inputs(self, node: onnx.NodeProto) -> list[int]:
        """Return the tensors among a node's inputs: all int8 with an int8 output, else float32."""
        given = [self._numbers[name] for name in node.input if name in self._numbers]
        plain = node.output[0] not in self._levels
        if plain or any(self._graph.levels(number) is None for number in given):
            return [self._plain(number) for number in given]
        return given

    def _output(self, node: onnx.NodeProto, inputs: list[int]) -> int:
        """Add the tensor of a node's output, in the form of its inputs."""
        name = node.output[0]
        if self._graph.levels(inputs[0]) is None:
            return self._graph.tensor(name, self._shape(name))
        return self._graph.tensor(
            name, self._shape(name), kind="INT8", quantised=self._levels[name]
        )

    def _plain(self, number: int) -> int:
        """Return the float32 form of a tensor."""
        if self._graph.levels(number) is None:
            return number
        plain = self._graph.tensor(f"{number}.plain", self._graph.shape(number))
        return self._graph.operator("DEQUANTIZE", [number], plain)

    def _with_levels(self, number: int, levels: Quantised, name: str) -> int:
        """Return a tensor in these int8 levels."""
        if self._graph.levels(number) == levels and number != self._graph.input:
            return number
        shape = self._graph.shape(number)
        changed = self._graph.tensor(name, shape, kind="INT8", quantised=levels)
        return self._graph.operator("QUANTIZE", [number], changed)

    def _window(self, node: onnx.NodeProto) -> tuple[Window, dict[str, Any]]:
        values = {one.name: list(one.ints) or one.i for one in node.attribute}
        top, left, bottom, right = values["pads"]
        size, stride = values["kernel_shape"][0], values["strides"][0]
        return Window(size, stride, (top, left, bottom, right)), {
            "strideW": stride,
            "strideH": stride,
        }

    # The conversions.

    def _quantizelinear(self, node: onnx.NodeProto) -> int:
        source = node.input[0]
        return self._with_levels(self._numbers[source], self._levels[source], node.output[0])

    def _dequantizelinear(self, node: onnx.NodeProto) -> int | None:
        source = node.input[0]
        if source in self._constants:
            self._weights[node.output[0]] = (
                self._constants[source],
                self._constants[node.input[1]],
            )
            return None
        number = self._numbers[source]
        if number == self._graph.input:  # uint8
            return self._with_levels(number, self._quantised(node), node.output[0])
        return number

    # The picture.

    def _transpose(self, node: onnx.NodeProto) -> int:
        return self._numbers[node.input[0]]  # LiteRT's maps lie as the picture does

    def _cast(self, node: onnx.NodeProto) -> int:
        graph, source = self._graph, self._numbers[node.input[0]]
        return graph.operator(
            "CAST",
            [source],
            graph.tensor(node.output[0], graph.shape(source)),
            "CastOptions",
            inDataType=graph.kind("UINT8"),
            outDataType=graph.kind("FLOAT32"),
        )

    def _reducemean(self, node: onnx.NodeProto) -> int:
        graph = self._graph
        axis = graph.constant("input.axis", np.array([3], dtype=np.int32))
        output = graph.tensor(node.output[0], self._shape(node.output[0]))
        source = self._numbers[node.input[0]]
        return graph.operator("MEAN", [source, axis], output, "ReducerOptions", keepDims=True)

    def _sub(self, node: onnx.NodeProto) -> int:
        return self._with_constant(node, "SUB", "SubOptions")

    def _with_constant(self, node: onnx.NodeProto, kind: str, options: str) -> int:
        """Combine a float tensor with the constant of each channel."""
        graph = self._graph
        values = self._constants[node.input[1]].astype(np.float32).reshape(1, 1, 1, -1)
        other = graph.constant(f"{node.output[0]}.constant", values)
        output = graph.tensor(node.output[0], self._shape(node.output[0]))
        return graph.operator(kind, [self._numbers[node.input[0]], other], output, options)

    # Layers with weights.

    def _conv(self, node: onnx.NodeProto) -> int:
        graph, (window, fields) = self._graph, self._window(node)
        weight, steps = self._weights[node.input[1]]
        bias, bias_steps = self._weights[node.input[2]]
        x, fields["padding"] = graph.padded(self._numbers[node.input[0]], node.output[0], window)
        groups = next(one.i for one in node.attribute if one.name == "group")
        depthwise = groups > 1 and weight.shape[1] == 1
        order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        kernel = graph.constant(
            node.input[1],
            weight.transpose(order),
            quantised=Quantised(tuple(steps.tolist()), 0, 3 if depthwise else 0),
        )
        added = graph.constant(
            node.input[2], bias, quantised=Quantised(tuple(bias_steps.tolist()), 0)
        )
        output = self._output(node, [x])
        if not depthwise:
            return graph.operator("CONV_2D", [x, kernel, added], output, "Conv2DOptions", **fields)
        fields["depthMultiplier"] = weight.shape[0] // groups
        return graph.operator(
            "DEPTHWISE_CONV_2D", [x, kernel, added], output, "DepthwiseConv2DOptions", **fields
        )

    def _gemm(self, node: onnx.NodeProto) -> int:
        graph = self._graph
        weight, steps = self._weights[node.input[1]]
        bias, bias_steps = self._weights[node.input[2]]
        (x,) = self._inputs(node)
        if graph.levels(x) is None:
            kernel = graph.constant(node.input[1], (weight * steps[:, None]).astype(np.float32))
            added = graph.constant(node.input[2], (bias * bias_steps).astype(np.float32))
        else:
            kernel = graph.constant(
                node.input[1], weight, quantised=Quantised(tuple(steps.tolist()), 0)
            )
            added = graph.constant(
                node.input[2], bias, quantised=Quantised(tuple(bias_steps.tolist()), 0)
            )
        output = self._output(node, [x])
        return graph.operator(
            "FULLY_CONNECTED",
            [x, kernel, added],
            output,
            "FullyConnectedOptions",
            keepNumDims=False,
        )

    # Layers without.

    def _simple(self, node: onnx.NodeProto, kind: str, options: str | None = None) -> int:
        inputs = self._inputs(node)
        return self._graph.operator(kind, inputs, self._output(node, inputs), options)

    def _add(self, node: onnx.NodeProto) -> int:
        return self._simple(node, "ADD", "AddOptions")

    def _mul(self, node: onnx.NodeProto) -> int:
        if node.input[1] in self._constants:
            return self._with_constant(node, "MUL", "MulOptions")
        return self._simple(node, "MUL", "MulOptions")

    def _relu(self, node: onnx.NodeProto) -> int:
        return self._simple(node, "RELU")

    def _clip(self, node: onnx.NodeProto) -> int:
        return self._simple(node, "RELU6")

    def _hardswish(self, node: onnx.NodeProto) -> int:
        return self._simple(node, "HARD_SWISH")

    def _sigmoid(self, node: onnx.NodeProto) -> int:
        graph, x = self._graph, self._numbers[node.input[0]]
        quantised = None if graph.levels(x) is None else _LOGISTIC
        output = graph.tensor(
            f"{node.output[0]}.logistic",
            graph.shape(x),
            kind="FLOAT32" if quantised is None else "INT8",
            quantised=quantised,
        )
        return graph.operator("LOGISTIC", [x], output)

    def _hardsigmoid(self, node: onnx.NodeProto) -> int:
        graph, x = self._graph, self._plain(self._numbers[node.input[0]])
        name, shape = node.output[0], graph.shape(x)
        three = graph.constant(f"{name}.three", np.array([3.0], dtype=np.float32))
        sixth = graph.constant(f"{name}.sixth", np.array([1.0 / 6.0], dtype=np.float32))
        clipped = graph.operator(
            "ADD",
            [x, three],
            graph.tensor(f"{name}.clipped", shape),
            "AddOptions",
            fusedActivationFunction=graph.activation("relu6"),
        )
        return graph.operator("MUL", [clipped, sixth], graph.tensor(name, shape), "MulOptions")

    def _maxpool(self, node: onnx.NodeProto) -> int:
        graph, x = self._graph, self._numbers[node.input[0]]
        levels = graph.levels(x)
        lowest = np.array(np.finfo(np.float32).min) if levels is None else np.array(-128, np.int8)
        return self._pool(node, "MAX_POOL_2D", x, value=lowest)

    def _averagepool(self, node: onnx.NodeProto) -> int:
        graph, x, (window, _) = self._graph, self._numbers[node.input[0]], self._window(node)
        read, _ = graph.padded(x, node.output[0], window)
        if read == x:
            return self._pool(node, "AVERAGE_POOL_2D", x)
        # Zeros that were written out count in LiteRT's average: their share is taken out again.
        pooled = self._pool(node, "AVERAGE_POOL_2D", self._plain(x))
        sizes = graph.shape(x)[1:3]
        share = graph.constant(f"{node.output[0]}.share", window.inverse_shares(sizes))
        output = graph.tensor(f"{node.output[0]}.shared", graph.shape(pooled))
        return graph.operator("MUL", [pooled, share], output, "MulOptions")

    def _pool(
        self, node: onnx.NodeProto, kind: str, x: int, *, value: np.ndarray | None = None
    ) -> int:
        """Pool in the levels of the input: LiteRT has no others for it."""
        graph, (window, fields) = self._graph, self._window(node)
        read, padding = graph.padded(x, node.output[0], window, value=value)
        output = graph.like(x, node.output[0], self._shape(node.output[0]))
        return graph.operator(
            kind,
            [read],
            output,
            "Pool2DOptions",
            padding=padding,
            filterWidth=window.size,
            filterHeight=window.size,
            **fields,
        )

    def _globalaveragepool(self, node: onnx.NodeProto) -> int:
        inputs = self._inputs(node)
        axes = self._graph.constant(f"{node.output[0]}.axes", np.array([1, 2], dtype=np.int32))
        return self._graph.operator(
            "MEAN", [*inputs, axes], self._output(node, inputs), "ReducerOptions", keepDims=True
        )

    def _concat(self, node: onnx.NodeProto) -> int:
        inputs, name = self._inputs(node), node.output[0]
        if self._graph.levels(inputs[0]) is not None:
            inputs = [
                self._with_levels(number, self._levels[name], f"{name}.{k}")
                for k, number in enumerate(inputs)
            ]
        output = self._output(node, inputs)
        return self._graph.operator("CONCATENATION", inputs, output, "ConcatenationOptions", axis=3)

    def _slice(self, node: onnx.NodeProto) -> int:
        graph, x, name = self._graph, self._numbers[node.input[0]], node.output[0]
        first = int(self._constants[node.input[1]][0])
        begin = graph.constant(f"{name}.first", np.array([0, 0, 0, first], dtype=np.int32))
        shape = self._shape(name)
        size = graph.constant(f"{name}.sizes", np.array(shape, dtype=np.int32))
        return graph.operator("SLICE", [x, begin, size], graph.like(x, name, shape), "SliceOptions")

    def _gather(self, node: onnx.NodeProto) -> int:
        order = self._constants[node.input[1]]
        groups = len(order) // int(order[1]) if len(order) > 1 else 1
        return self._graph.shuffle(self._numbers[node.input[0]], node.output[0], groups=groups)

    def _resize(self, node: onnx.NodeProto) -> int:
        factor = round(float(self._constants[node.input[2]][2]))
        return self._graph.resize(self._numbers[node.input[0]], node.output[0], factor=factor)

    def _pad(self, node: onnx.NodeProto) -> int:
        added = int(self._constants[node.input[1]][5])
        pads = np.array([[0, 0], [0, 0], [0, 0], [0, added]])
        return self._graph.pad(self._numbers[node.input[0]], node.output[0], pads)

    def _flatten(self, node: onnx.NodeProto) -> int:
        graph, x = self._graph, self._numbers[node.input[0]]
        if graph.shape(x)[1:3] != (1, 1):  # ONNX flattens channels first
            x = graph.transpose(x, f"{node.output[0]}.turned", (0, 3, 1, 2))
        return graph.reshape(x, node.output[0], self._shape(node.output[0]))


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a graph."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        one.name: tuple(axis.dim_value for axis in one.type.tensor_type.shape.dim)
        for one in (*inferred.value_info, *inferred.input, *inferred.output)
    }
