"""Shapes of all tensors of an ONNX graph, from those of its inputs alone.

Nodes are visited once, in order; onnx says what shape each has. Where an exporter wrote nodes that
compute a shape (Shape, Gather, Concat, Reshape), their small integers are computed here, with
onnx's own reference operators. What the file itself says of sizes between its inputs and outputs
is not believed. A tensor whose shape does not follow is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, checker, defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from featherweight.exporting.onnx_graph import ONNX_DOMAINS, own_opset, subgraphs
from featherweight.exporting.onnx_rules import COMPUTED_SHAPES, INFERRED_LIKE, SAME_SHAPE
from featherweight.profiling.rules import Shape

__all__ = ["Tensor", "infer_tensors", "small_value"]

_MOST_VALUES = 10_000
"""Of a tensor that is computed here: shapes have a few, index tables of windows some thousands."""
_MOST_BYTES = 64 * 1024**2
"""Of all of them."""
_LARGEST = 2**48
"""Values of a tensor; beyond, the sizes that follow would not fit the integers of onnx."""

# What onnx and its reference operators raise for nodes and numbers that do not fit each other.
_REFUSALS = (
    checker.ValidationError,
    shape_inference.InferenceError,
    defs.SchemaError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Tensor(NamedTuple):
    """Shape with batch axis, and bytes of all values."""

    shape: Shape
    size_bytes: int


def infer_tensors(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return every tensor whose shape follows from the sizes of the inputs.

    Args:
        model: nodes in order, inputs with fixed sizes.
    """
    inference = _Inference(own_opset(model))
    for value in model.graph.input:
        inference.types[value.name] = value.type
    for constant in model.graph.initializer:
        inference.add_constant(constant.name, constant)
    for sparse in model.graph.sparse_initializer:
        kind = helper.make_tensor_type_proto(sparse.values.data_type, list(sparse.dims))
        inference.types[sparse.values.name] = kind
    for node in model.graph.node:
        inference.visit(node)
    sized = {name: _sized(kind) for name, kind in inference.types.items()}
    return {name: tensor for name, tensor in sized.items() if tensor is not None}


def small_value(constant: TensorProto, *, most: int = _MOST_VALUES) -> np.ndarray | None:
    """Return the values of a constant; `None` = too many, in another file, or left out."""
    if constant.data_location == TensorProto.EXTERNAL or math.prod(constant.dims) > most:
        return None
    try:
        return numpy_helper.to_array(constant)
    except _REFUSALS:
        return None


class _Inference:
    """What is known so far."""

    def __init__(self, opset: int) -> None:
        self.types: dict[str, TypeProto] = {}
        self._opset = opset
        self._values: dict[str, np.ndarray] = {}
        self._data: dict[str, TensorProto] = {}
        self._left_bytes = _MOST_BYTES

    def add_constant(self, name: str, constant: TensorProto) -> None:
        """Add a constant of the file."""
        self.types[name] = helper.make_tensor_type_proto(constant.data_type, list(constant.dims))
        value = small_value(constant)
        if value is not None:
            self._add_value(name, value)

    def _add_value(self, name: str, value: np.ndarray) -> None:
        if value.nbytes <= self._left_bytes and value.dtype.kind in "biuf":
            self._left_bytes -= value.nbytes
            self._values[name] = value
            self._data[name] = numpy_helper.from_array(value, name)

    def visit(self, node: onnx.NodeProto) -> None:
        """Find the shapes of what a node writes, and its values where a shape may need them."""
        if node.domain not in ONNX_DOMAINS or any(subgraphs(node)):
            return
        held = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and held is not None:
            self.add_constant(node.output[0], held)
            return
        found = self._infer(node)
        self.types.update({name: kind for name, kind in found.items() if _is_sane(kind)})
        values = self._compute(node)
        for name, value in zip(node.output, values, strict=False):
            element = found[name].tensor_type.elem_type if name in found else 0
            element = element or helper.np_dtype_to_tensor_dtype(value.dtype)
            self.types[name] = helper.make_tensor_type_proto(element, list(value.shape))
            self._add_value(name, value)

    def _infer(self, node: onnx.NodeProto) -> Mapping[str, TypeProto]:
        names = [name for name in node.input if name]
        if any(name not in self.types for name in names):
            return {}
        if node.op_type in SAME_SHAPE:
            return {node.output[0]: self.types[names[0]]}
        like = INFERRED_LIKE.get(node.op_type, node.op_type)
        try:
            return shape_inference.infer_node_outputs(
                defs.get_schema(like, self._opset, ""),
                node,
                {name: self.types[name] for name in names},
                {name: self._data[name] for name in names if name in self._data},
                opset_imports=[helper.make_opsetid("", self._opset)],
            )
        except _REFUSALS:
            return {}

    def _compute(self, node: onnx.NodeProto) -> Sequence[np.ndarray]:
        """Return what a node writes, if it is small and all it reads is known."""
        if node.op_type not in COMPUTED_SHAPES or not self._is_small(node):
            return ()
        names = [name for name in node.input if name]
        if node.op_type in ("Shape", "Size"):
            # They look at the shape alone: one value stands for all.
            tensor = _sized(self.types[names[0]]) if names[0] in self.types else None
            if tensor is None:
                return ()
            given = {names[0]: np.broadcast_to(np.zeros((), np.float32), tensor.shape)}
        elif all(name in self._values for name in names):
            given = {name: self._values[name] for name in names}
        else:
            return ()
        try:
            with np.errstate(all="raise"):
                evaluator = ReferenceEvaluator(node, opsets={"": self._opset})
                values = evaluator.run(None, given)
        except _REFUSALS:
            return ()
        known = all(isinstance(value, (np.ndarray, np.generic)) for value in values)
        return [np.asarray(value) for value in values] if known else ()

    def _is_small(self, node: onnx.NodeProto) -> bool:
        """Whether what a node writes is known to be small, before it is computed."""
        if node.op_type == "NonZero":  # a place for each value it reads, at most
            return True
        tensors = [
            _sized(self.types[name]) if name in self.types else None for name in node.output if name
        ]
        return all(tensor is not None and _count(tensor) <= _MOST_VALUES for tensor in tensors)


def _count(tensor: Tensor) -> int:
    return math.prod(tensor.shape)


def _is_sane(kind: TypeProto) -> bool:
    """Whether sizes that onnx found can be worked with; it writes -3 for a kernel too large."""
    sizes = [d.dim_value for d in kind.tensor_type.shape.dim if d.HasField("dim_value")]
    return min(sizes, default=0) >= 0 and math.prod(sizes) <= _LARGEST


def _sized(kind: TypeProto) -> Tensor | None:
    """What a type says, or `None` when a size or the type is open."""
    tensor = kind.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    if (
        not kind.HasField("tensor_type")
        or not tensor.HasField("shape")
        or min(sizes, default=0) < 0
    ):
        return None
    try:
        bytes_per_value = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    except KeyError:  # undefined, or a type that the installed onnx does not know
        return None
    return Tensor(tuple(sizes), math.prod(sizes) * bytes_per_value)
