"""Which constants of an ONNX file are params: what its layers learned, each counted once.

Certain are the constants that convolutions, matrix products, recurrent layers and norms read,
also where they are cut, put together or computed from others on the way (weight norm), and what
torch's exporter names a parameter. Certainly none are settings (axes, shapes, scales of
quantisation), whole numbers, single numbers, and the mean and deviation of a picture. Any other
table may be learned (a position, a scale per channel) or not (a mask, a grid): its node's params
are `None`, and so is their total.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from featherweight.exporting.onnx_graph import ONNX_DOMAINS, subgraphs
from featherweight.exporting.onnx_rules import (
    COUNTED,
    FREE,
    LEARNED,
    METADATA,
    NORMS,
    PICTURE_STEPS,
    SETTINGS,
    WEIGHT_CARRIERS,
)
from featherweight.exporting.onnx_shapes import Tensor, small_value

__all__ = ["Learned", "stated_kinds"]

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_KNOWN = FREE | METADATA | COUNTED.keys()
_DRAWN = frozenset(
    {"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_NAMES = ("weight", "bias", "gamma", "beta", "scale", "offset")
_WHOLE = frozenset(
    {
        TensorProto.BOOL,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.STRING,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)
"""Types that no weight has, quantised or not."""
_CHANNELS = 4
"""Of a picture, at most."""


class _Use(Enum):
    """What a constant is to the node that reads it, itself or what is computed from it."""

    WEIGHT = auto()
    NORM = auto()
    COMPUTED = auto()  # a weight is computed from it
    TABLE = auto()  # something element-wise, or a look-up
    UNSURE = auto()  # products of constants with each other


class _Root(NamedTuple):
    """A constant of the file; `size` is `None` for a sparse one."""

    size: int | None
    rank: int
    kind: int
    proto: TensorProto | None


def stated_kinds(model: onnx.ModelProto) -> dict[str, str]:
    """Return what torch's exporter wrote of constants: PARAMETER, BUFFER, CONSTANT_TENSOR."""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.initializer)
    return {
        value.name: prop.value
        for value in values
        for prop in getattr(value, "metadata_props", ())
        if prop.key == _KIND
    }


class Learned:
    """The params of a graph whose nodes are in order.

    Attributes:
        biases: position of an Add -> which of its inputs is the bias of the product before it.
        params: per node; `None` = unknown.
    """

    def __init__(
        self, graph: onnx.GraphProto, tensors: Mapping[str, Tensor], kinds: Mapping[str, str]
    ) -> None:
        self._tensors = tensors
        self._kinds = kinds
        self._roots = {c.name: _root(c) for c in graph.initializer}
        self._roots |= {
            c.values.name: _Root(None, len(c.dims), c.values.data_type, None)
            for c in graph.sparse_initializer
        }
        self._derived: dict[str, onnx.NodeProto] = {}
        self._writers: dict[str, onnx.NodeProto] = {}
        self._pictures = {v.name for v in graph.input if v.name not in self._roots}
        self._seen: set[tuple[str, _Use]] = set()
        self._counted: set[str] = set()
        data = [position for position, node in enumerate(graph.node) if not self._place(node)]
        self.biases = {
            position: bias
            for position in data
            if (bias := self._bias_of_product(graph.node[position])) is not None
        }
        self.params: list[int | None] = [0] * len(graph.node)
        # What is a weight somewhere is one; only then is asked what else is read.
        for certain in (True, False):
            for position in data:
                self._count(position, graph.node[position], certain=certain)
        loose = [name for value in graph.output if self._is_constant(name := value.name)]
        self._add(0, ((name, _Use.TABLE) for name in loose))

    def _place(self, node: onnx.NodeProto) -> bool:
        """Note what a node writes, and return whether it is made of constants alone."""
        self._writers.update((name, node) for name in node.output if name)
        op = node.op_type
        if node.domain not in ONNX_DOMAINS or any(subgraphs(node)) or op not in _KNOWN - _DRAWN:
            return False
        if op == "Constant":
            self._roots[node.output[0]] = _held(node)
            return True
        values = [name for _, name in _values(node)]
        if any(node.input) and all(map(self._is_constant, values)):
            self._derived.update((name, node) for name in node.output if name)
            return True
        read = [name for name in values if not self._is_constant(name)]
        if op in PICTURE_STEPS and self._pictures.issuperset(read):
            self._pictures.update(filter(None, node.output))
        return False

    def _is_constant(self, name: str) -> bool:
        return name in self._roots or name in self._derived

    def _count(self, position: int, node: onnx.NodeProto, *, certain: bool) -> None:
        """Add what a node that reads data reads of constants: first weights, then tables."""
        op = node.op_type
        if node.domain not in ONNX_DOMAINS or op not in _KNOWN:
            self.params[position] = None
            return
        learned = LEARNED.get(op, ())
        if position in self.biases:
            learned = (self.biases[position],)
        used = []
        for place, name in _values(node):
            if not self._is_constant(name) or (place in learned) is not certain:
                continue
            if certain:
                used.append((name, _Use.NORM if op in NORMS else _Use.WEIGHT))
            elif not self._is_of_a_picture(node, name):
                used.append((name, _Use.TABLE))
        self._add(position, used)

    def _is_of_a_picture(self, node: onnx.NodeProto, name: str) -> bool:
        tensor = self._tensors.get(name)
        small = tensor is not None and math.prod(tensor.shape) <= _CHANNELS
        return small and self._pictures.issuperset(filter(None, node.output))

    def _add(self, position: int, used: Iterable[tuple[str, _Use]]) -> None:
        """Follow constants back to where the file holds them; nothing is visited twice."""
        waiting = list(used)
        while waiting:
            name, use = waiting.pop()
            if (name, use) in self._seen:
                continue
            self._seen.add((name, use))
            if name in self._derived:
                waiting += _inner_uses(self._derived[name], use)
            elif name not in self._counted:
                found, before = self._judge(name, use), self.params[position]
                unknown = found is None or before is None
                self.params[position] = None if unknown else (found or 0) + (before or 0)
                if found:
                    self._counted.add(name)

    def _judge(self, name: str, use: _Use) -> int | None:
        """Return how many params a constant is; `None` = nobody can tell."""
        root = self._roots[name]
        if name in self._kinds:
            return root.size if self._kinds[name] == "PARAMETER" else 0
        if root.size is None or use is _Use.WEIGHT:
            return root.size
        if use is _Use.NORM:
            return self._of_a_norm(name, root)
        if root.kind in _WHOLE or root.rank == 0 or root.size == 0:
            return 0
        if use is _Use.COMPUTED and root.size > 1:
            return _of_a_computed_weight(root)
        return 0 if use is _Use.TABLE and root.size == 1 else None

    def _of_a_norm(self, name: str, root: _Root) -> int | None:
        """Exporters give a norm that learned nothing ones and zeros; so does a fresh one have."""
        if name.lower().endswith(_NAMES):
            return root.size
        value = None if root.proto is None else small_value(root.proto)
        if value is None:
            return None
        if value.size and (np.all(value == 0) or np.all(value == 1)):
            return 0 if self._kinds else None
        return root.size

    def _bias_of_product(self, node: onnx.NodeProto) -> int | None:
        """Which input of an Add is the bias of a linear layer that an exporter wrote in parts."""
        if node.op_type != "Add" or node.domain not in ONNX_DOMAINS:
            return None
        for place, product in ((1, node.input[0]), (0, node.input[1])):
            bias = self._tensors.get(node.input[place])
            source = self._product_behind(product)
            if bias is None or source is None or not self._is_constant(node.input[place]):
                continue
            output = self._tensors.get(source.output[0])
            if output is None or output.shape != getattr(
                self._tensors.get(node.output[0]), "shape", None
            ):
                continue
            axis = self._axis_of_weight(source, len(output.shape))
            if axis is None:
                continue
            expected = [1] * len(output.shape)
            expected[axis] = output.shape[axis]
            padded = [1] * (len(expected) - len(bias.shape)) + list(bias.shape)
            if bias.shape and padded == expected:
                return place
        return None

    def _axis_of_weight(self, product: onnx.NodeProto, rank: int) -> int | None:
        """Which axis of a product its constant side has; `None` = both sides are computed."""
        if product.op_type == "ConvInteger":
            return 1 if self._is_constant(product.input[1]) else None
        left, right = (0, 3) if product.op_type == "QLinearMatMul" else (0, 1)
        if rank and self._is_constant(product.input[right]):
            return rank - 1
        return rank - 2 if rank > 1 and self._is_constant(product.input[left]) else None

    def _product_behind(self, name: str) -> onnx.NodeProto | None:
        """The product that a tensor is, or is converted from."""
        scaled = False
        for _ in range(8):
            node = self._writers.get(name)
            if node is None or node.domain not in ONNX_DOMAINS:
                return None
            if node.op_type in ("MatMulInteger", "ConvInteger"):
                return node
            if node.op_type in ("MatMul", "QLinearMatMul"):
                return None if scaled else node
            if node.op_type == "Mul":  # of sums in integers by the scales of both sides
                writers = {n: self._writers.get(n) for n in node.input}
                name = next((n for n, w in writers.items() if w and w.op_type == "Cast"), "")
                scaled = True
            elif node.op_type in ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear"):
                name = node.input[0]
            else:
                return None
        return None


def _values(node: onnx.NodeProto) -> list[tuple[int, str]]:
    """The inputs of a node that are not settings."""
    settings = SETTINGS.get(node.op_type, ())
    return [(i, name) for i, name in enumerate(node.input) if name and i not in settings]


def _inner_uses(node: onnx.NodeProto, use: _Use) -> list[tuple[str, _Use]]:
    """What the inputs of a node made of constants are, when its output is used so."""
    op, learned, passed = node.op_type, LEARNED.get(node.op_type, ()), use
    if op in COUNTED:
        passed = _Use.UNSURE
        learned = learned if "Conv" in op else ()
    elif op not in WEIGHT_CARRIERS and use in (_Use.WEIGHT, _Use.NORM):
        passed = _Use.COMPUTED
    own = _Use.NORM if op in NORMS else _Use.WEIGHT
    return [(name, own if place in learned else passed) for place, name in _values(node)]


def _root(constant: TensorProto) -> _Root:
    return _Root(math.prod(constant.dims), len(constant.dims), constant.data_type, constant)


def _held(node: onnx.NodeProto) -> _Root:
    """What a Constant holds."""
    attribute = node.attribute[0] if node.attribute else onnx.AttributeProto()
    if attribute.name == "value":
        return _root(attribute.t)
    if attribute.name == "value_floats":
        return _Root(len(attribute.floats), 1, TensorProto.FLOAT, None)
    if attribute.name == "sparse_value":
        return _Root(None, 1, TensorProto.FLOAT, None)
    return _Root(1, 0, TensorProto.FLOAT, None)  # one number, or whole numbers or text


def _of_a_computed_weight(root: _Root) -> int | None:
    """A table that a weight is computed from, unless it is a mask of ones and zeros."""
    value = None if root.proto is None else small_value(root.proto, most=10**9)
    if value is None or value.dtype.kind != "f":
        return None
    is_mask = bool(np.all((value == 0) | (value == 1)) and np.any(value == 0))
    return None if is_mask else root.size
