"""Count what an ONNX file computes, from the shapes alone: nothing in it is executed.

The file's own truth. Where an exporter folded norms into convolutions they have a bias: flops
are 2K instead of 2K - 1 per output, and params are fewer by one per output channel. A quantised
file (QuantizeLinear, DequantizeLinear) has the multiply-adds of the float file; its weights count
once, wherever they are converted. Memory traffic is that of the nodes as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper, inliner, shape_inference

from featherweight.errors import UsageError
from featherweight.exporting.onnx_rules import (
    COUNTED,
    FREE,
    LEARNED,
    METADATA,
    WEIGHT_CARRIERS,
    NodeShapes,
)
from featherweight.profiling.profile import LayerProfile, Profile, layer_profile, network_profile
from featherweight.profiling.rules import NOTHING, Arithmetic, Shape

__all__ = ["profile_onnx"]


def profile_onnx(path: Path, *, input_shape: tuple[int, ...] | None = None) -> Profile:
    """Count an ONNX file for one picture; weights kept in other files need not be there.

    Args:
        path: the file.
        input_shape: sizes of its first input without the batch axis, for a file that leaves them
            open. A batch axis that is open is taken as 1.

    Returns:
        One row per node that computes or moves data. A node whose shapes the file does not
        determine is unknown, like one with an operator in no table.

    Raises:
        UsageError: the file cannot be read, an input has open sizes, or `input_shape` contradicts
            it.
    """
    model = _load(path)
    _fix_inputs(model, path, input_shape=input_shape)
    file = _File(model)
    rows = list(file.rows())
    first = file.tensors.get(file.inputs[0]) if file.inputs else None
    return network_profile(
        rows,
        name=path.stem,
        input_shape=() if first is None else first.shape[1:],
        params=sum(row.params or 0 for row in rows),
        unknown_ops={row.op for row in rows if row.macs is None},
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=False)
        if model.functions:
            model = inliner.inline_local_functions(model)
    except Exception as error:  # a missing file, and whatever protobuf says of other content
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"cannot read {path} as an ONNX file: {reason}") from error
    if not model.graph.node:
        raise UsageError(f"{path} holds no ONNX graph")
    return model


def _fix_inputs(model: onnx.ModelProto, path: Path, *, input_shape: tuple[int, ...] | None) -> None:
    """Write a number into every open size of the inputs: 1 for the batch, others as given."""
    constants = {constant.name for constant in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    for position, value in enumerate(inputs):
        sizes = value.type.tensor_type.shape.dim
        fixed = [size.dim_value if size.dim_value > 0 else None for size in sizes]
        place = (
            f"{path}: input {value.name!r} of shape {['open' if f is None else f for f in fixed]}"
        )
        wanted = [1, *fixed[1:]]
        if input_shape is not None and position == 0:
            wanted = [1, *input_shape]
            agree = len(wanted) == len(fixed) and all(
                given == size or size is None
                for given, size in zip(wanted[1:], fixed[1:], strict=True)
            )
            if not agree:
                raise UsageError(f"{place} does not take input_shape {input_shape}")
        for size, given in zip(sizes, wanted, strict=False):
            if given is None:
                raise UsageError(
                    f"{place} is open beyond its batch axis",
                    hint="export it with fixed sizes, or use Python: "
                    "fw.profile(path, input_shape=(3, 224, 224))",
                )
            if size.dim_value <= 0:
                size.Clear()
                size.dim_value = given


class _Tensor(NamedTuple):
    """Shape with batch axis, and bytes of all values."""

    shape: Shape
    size_bytes: int


class _File:
    """A graph with the shape of every tensor that can be known."""

    def __init__(self, model: onnx.ModelProto) -> None:
        # What the file says of open sizes gives way to what follows from the inputs, now fixed;
        # data_prop follows shapes that nodes compute.
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
        self.tensors: dict[str, _Tensor] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = _tensor(value)
            if tensor is not None:
                self.tensors[value.name] = tensor
        for constant in graph.initializer:
            self.tensors[constant.name] = _sized(tuple(constant.dims), constant.data_type)
        self._nodes = list(graph.node)
        self._producers = {name: node for node in self._nodes for name in node.output if name}
        self._constants = {constant.name for constant in graph.initializer}
        self._counted_constants: set[str] = set()
        self.inputs = [v.name for v in graph.input if v.name not in self._constants]

    def rows(self) -> Iterator[LayerProfile]:
        """Yield a row for each node that computes or moves data, in the order of the file."""
        for node in self._nodes:
            own = node.domain in ("", "ai.onnx")
            op = node.op_type if own else f"{node.domain}.{node.op_type}"
            if op in METADATA:
                continue
            arithmetic = self._arithmetic(node, op)
            output = self.tensors.get(node.output[0])
            yield layer_profile(
                node.name or node.output[0],
                op,
                output_shape=None if output is None else output.shape,
                params=self._params(node, op),
                macs=None if arithmetic is None else arithmetic.macs,
                flops=None if arithmetic is None else arithmetic.flops,
                memory_access_bytes=None if arithmetic is None else self._memory(node),
            )

    def _arithmetic(self, node: onnx.NodeProto, op: str) -> Arithmetic | None:
        """`None` = unknown operator, or one that is counted and has a shape nobody knows."""
        if op in FREE:
            bias = self._bias_of_product(node)
            return (
                NOTHING if bias is None else Arithmetic(0, math.prod(self._shape(node.output[0])))
            )
        names = [name for name in (*node.input, node.output[0]) if name]
        if op not in COUNTED or any(name not in self.tensors for name in names):
            return None
        shapes = NodeShapes(
            inputs=tuple(self._shape(name) if name else None for name in node.input),
            attributes={item.name: helper.get_attribute_value(item) for item in node.attribute},
            output=self._shape(node.output[0]),
        )
        return COUNTED[op](shapes)

    def _params(self, node: onnx.NodeProto, op: str) -> int:
        """Values of the constants a node learned, unless an earlier node reads them too."""
        names = [node.input[i] for i in LEARNED.get(op, ()) if i < len(node.input)]
        bias = self._bias_of_product(node)
        sources = {self._constant(name) for name in [*names, *([bias] if bias else [])]}
        new = {name for name in sources if name is not None} - self._counted_constants
        self._counted_constants |= new
        return sum(math.prod(self._shape(name)) for name in new)

    def _bias_of_product(self, node: onnx.NodeProto) -> str | None:
        """The constant an Add adds to a matrix product: exporters write a linear layer so."""
        if node.op_type != "Add" or node.domain or node.output[0] not in self.tensors:
            return None
        for product, bias in (tuple(node.input), tuple(node.input)[::-1]):
            source = self._producers.get(product)
            if (
                source is not None
                and source.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul")
                and self._constant(bias) is not None
            ):
                return str(bias)
        return None

    def _constant(self, name: str) -> str | None:
        """The constant behind a tensor, seen through conversions; `None` = it is computed."""
        while name not in self._constants:
            source = self._producers.get(name)
            if source is None or not name:
                return None
            if source.op_type == "Constant":
                return name if name in self.tensors else None
            if source.op_type not in WEIGHT_CARRIERS:
                return None
            name = str(source.input[0])
        return name

    def _shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def _memory(self, node: onnx.NodeProto) -> int | None:
        names = {name for name in node.input if name}
        tensors = [self.tensors.get(name) for name in (*names, *filter(None, node.output))]
        if any(tensor is None for tensor in tensors):
            return None
        return sum(tensor.size_bytes for tensor in tensors if tensor is not None)


def _tensor(value: onnx.ValueInfoProto) -> _Tensor | None:
    """What a value's type says, or `None` when a size or the type is open."""
    kind = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    if not kind.HasField("shape") or min(sizes, default=0) < 0:
        return None
    return None if kind.elem_type == TensorProto.UNDEFINED else _sized(tuple(sizes), kind.elem_type)


def _sized(shape: Shape, element_type: int) -> _Tensor:
    bytes_per_value = helper.tensor_dtype_to_np_dtype(element_type).itemsize
    return _Tensor(shape, math.prod(shape) * bytes_per_value)
