"""What ONNX operators cost: the tables `featherweight.exporting.onnx_profile` counts with.

Every operator is in one of three tables, or it is unknown and the totals are `None`:

    COUNTED    convolutions and matrix products, in floating point or in integers
    FREE       known, zero multiply-adds by convention; they still read and write memory
    METADATA   new shapes for the same values, and questions about shapes

Operators of other domains than ONNX's own (`com.microsoft`) are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from featherweight.profiling.rules import (
    Arithmetic,
    Shape,
    convolution,
    matrix_product,
    transposed_convolution,
)

__all__ = ["COUNTED", "FREE", "LEARNED", "METADATA", "WEIGHT_CARRIERS", "NodeShapes"]


class NodeShapes(NamedTuple):
    """A node as the rules see it.

    Attributes:
        inputs: shapes with batch axis; `None` = an optional input that is left out.
        attributes: as in the file.
        output: shape of the first output.
    """

    inputs: tuple[Shape | None, ...]
    attributes: Mapping[str, Any]
    output: Shape

    def needed(self, position: int) -> Shape:
        """Shape of an input that the operator cannot be without."""
        shape = self.inputs[position]
        assert shape is not None, f"input {position} is left out"
        return shape

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return len(self.inputs) > position and self.inputs[position] is not None


def _convolution(weight: int, bias: int | None) -> Callable[[NodeShapes], Arithmetic]:
    def count(node: NodeShapes) -> Arithmetic:
        has_bias = bias is not None and node.has(bias)
        return convolution(node.needed(weight), node.output, bias=has_bias)

    return count


def _transposed(node: NodeShapes) -> Arithmetic:
    return transposed_convolution(
        inputs=node.needed(0), weight=node.needed(1), output=node.output,
        stride=node.attributes.get("strides", [1]),
        dilation=node.attributes.get("dilations", [1]),
        bias=node.has(2),
    )  # fmt: skip


def _gemm(node: NodeShapes) -> Arithmetic:
    left = node.needed(0)
    left = left[::-1] if node.attributes.get("transA", 0) else left
    bias = node.has(2) and node.attributes.get("beta", 1.0) != 0.0
    return matrix_product(left, node.output, bias=bias)


def _product(node: NodeShapes) -> Arithmetic:
    return matrix_product(node.needed(0), node.output)


COUNTED: dict[str, Callable[[NodeShapes], Arithmetic]] = {
    "Conv": _convolution(weight=1, bias=2),
    "ConvInteger": _convolution(weight=1, bias=None),
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearConv": _convolution(weight=3, bias=8),
    "QLinearMatMul": _product,
}
"""Operator -> how it is counted: a new operator is one row."""

LEARNED: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvInteger": (1,),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "PRelu": (1,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "RMSNormalization": (1,),
}
"""Operator -> inputs that are params when the file holds them as constants."""

WEIGHT_CARRIERS = frozenset(
    {"Cast", "DequantizeLinear", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators through which a constant still counts as the weight of what reads it."""

_NORMS = """
BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization
LpNormalization MeanVarianceNormalization RMSNormalization
"""
_ACTIVATIONS = """
Celu Clip Dropout Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu
Selu Shrink Sigmoid Softmax Softplus Softsign Swish Tanh ThresholdedRelu
"""
_POOLING = """
AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LpPool MaxPool MaxRoiPool
MaxUnpool Resize RoiAlign Upsample
"""
_ELEMENTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
Ceil Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max
Mean Min Mod Mul Neg Not Or Pow Reciprocal Round Sign Sin Sinh Sqrt Sub Sum Tan Where Xor
"""
_REDUCTIONS = """
ArgMax ArgMin CumSum NonMaxSuppression NonZero ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK Unique
"""
_COPIES = """
Bernoulli Cast CastLike CenterCropPad Compress Concat DepthToSpace DequantizeLinear
DynamicQuantizeLinear Expand EyeLike Gather GatherElements GatherND OneHot Pad QuantizeLinear
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range ReverseSequence Scatter
ScatterElements ScatterND Slice SpaceToDepth Split Tile Transpose Trilu
"""

FREE: frozenset[str] = frozenset(
    f"{_NORMS} {_ACTIVATIONS} {_POOLING} {_ELEMENTWISE} {_REDUCTIONS} {_COPIES}".split()
)
"""Operators without products of their own: norms, activations, pooling and resampling,
element-wise arithmetic, reductions, quantisation, copies and look-ups."""

METADATA = frozenset(
    {
        "Constant", "ConstantOfShape", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze",
        "Unsqueeze",
    }
)  # fmt: skip
"""Operators that compute nothing and move no data."""
