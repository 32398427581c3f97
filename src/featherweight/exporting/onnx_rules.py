"""What ONNX operators cost: the tables `featherweight.exporting.onnx_profile` counts with.

Every operator is in one of three tables, or it is unknown and the totals are `None`:

    COUNTED    convolutions, matrix products and recurrent layers, in floating point or in integers
    FREE       known, zero multiply-adds by convention; they still read and write memory
    METADATA   new shapes for the same values, and questions about shapes

Operators of other domains than ONNX's own (`com.microsoft`) are unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from featherweight.profiling.rules import (
    Arithmetic,
    Shape,
    convolution,
    matrix_product,
    recurrence,
    transposed_convolution,
)

__all__ = [
    "COMPUTED_SHAPES",
    "COUNTED",
    "FREE",
    "INFERRED_LIKE",
    "LEARNED",
    "METADATA",
    "NORMS",
    "PICTURE_STEPS",
    "SAME_SHAPE",
    "SETTINGS",
    "WEIGHT_CARRIERS",
    "NodeShapes",
]


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


def _kernel_agrees(node: NodeShapes, weight: Shape) -> bool:
    """Whether a node says the kernel that its weight has."""
    return list(node.attributes.get("kernel_shape", weight[2:])) == list(weight[2:])


def _convolution(weight: int, bias: int | None) -> Callable[[NodeShapes], Arithmetic | None]:
    def count(node: NodeShapes) -> Arithmetic | None:
        image, kernel = node.needed(0), node.needed(weight)
        fits = image[1] == kernel[1] * node.attributes.get("group", 1)
        if not fits or kernel[0] != node.output[1] or not _kernel_agrees(node, kernel):
            return None
        has_bias = bias is not None and node.has(bias)
        return convolution(kernel, node.output, bias=has_bias)

    return count


def _transposed(node: NodeShapes) -> Arithmetic | None:
    image, kernel = node.needed(0), node.needed(1)
    fits = node.output[1] == kernel[1] * node.attributes.get("group", 1)
    if not fits or image[1] != kernel[0] or not _kernel_agrees(node, kernel):
        return None
    return transposed_convolution(
        inputs=image,
        weight=kernel,
        output=node.output,
        stride=node.attributes.get("strides", [1]),
        dilation=node.attributes.get("dilations", [1]),
        bias=node.has(2),
    )


def _gemm(node: NodeShapes) -> Arithmetic:
    left = node.needed(0)
    left = left[::-1] if node.attributes.get("transA", 0) else left
    bias = node.has(2) and node.attributes.get("beta", 1.0) != 0.0
    return matrix_product(left, node.output, bias=bias)


def _product(node: NodeShapes) -> Arithmetic:
    return matrix_product(node.needed(0), node.output)


def _recurrent(node: NodeShapes) -> Arithmetic | None:
    """(X (T, N, I) in either order, W (D, G H, I), R (D, G H, H), B (D, 2 G H), lengths, ...)."""
    if node.has(4):  # sequences of different lengths
        return None
    image, weights = node.needed(0), [node.needed(1), node.needed(2)]
    if {len(image), *map(len, weights)} != {3} or image[2] != weights[0][2]:
        return None
    return recurrence(
        [shape[1:] for shape in weights for _ in range(shape[0])],
        steps=image[0] * image[1],
        biases=math.prod(node.needed(3)) if node.has(3) else 0,
    )


COUNTED: dict[str, Callable[[NodeShapes], Arithmetic | None]] = {
    "Conv": _convolution(weight=1, bias=2),
    "ConvInteger": _convolution(weight=1, bias=None),
    "ConvTranspose": _transposed,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearConv": _convolution(weight=3, bias=8),
    "QLinearMatMul": _product,
    "RNN": _recurrent,
}
"""Operator -> how it is counted, `None` = its shapes contradict each other: a new one is a row."""

LEARNED: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvInteger": (1,),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "PRelu": (1,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}
"""Operator -> inputs that are params when the file holds them as constants."""

WEIGHT_CARRIERS = frozenset(
    {
        "Cast",
        "CastLike",
        "Concat",
        "DequantizeLinear",
        "Flatten",
        "Gather",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators through which a constant still counts as the weight of what reads it: they convert,
cut or put together and compute nothing."""

SETTINGS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "CastLike": (1,),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "ConvInteger": (2, 3),
    "CumSum": (1,),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "EyeLike": (0,),
    "GRU": (4, 5),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "LSTM": (4, 5, 6),
    "MatMulInteger": (2, 3),
    "MaxUnpool": (1, 2),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "RNN": (4, 5),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "ReverseSequence": (1,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "Shape": (0,),
    "Size": (0,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Operator -> inputs that say how and not what: never params, whatever they hold."""

SAME_SHAPE = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators that onnx has no shape for: it is that of the first input."""

INFERRED_LIKE = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}
"""Operators that some versions of onnx have no shape for -> one with the same."""

_SHAPE_ARITHMETIC = """
Abs Add And Cast CastLike Ceil Concat Constant ConstantOfShape CumSum Div Equal Expand Flatten
Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod
Mul Neg NonZero Not Or Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum Reshape Round ScatterElements ScatterND Shape Sign Size Slice Split Sqrt Squeeze Sub Sum
Tile Transpose Unsqueeze Where Xor
"""
COMPUTED_SHAPES = frozenset(_SHAPE_ARITHMETIC.split())
"""Operators that exporters compute shapes and indices with."""

PICTURE_STEPS = WEIGHT_CARRIERS | {
    "Add",
    "CenterCropPad",
    "Clip",
    "Div",
    "Mul",
    "Pad",
    "ReduceMean",
    "Resize",
    "Sub",
}
"""Operators that prepare a picture: a table of its channels among them is no param."""

_NORMS = """
BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization
MeanVarianceNormalization RMSNormalization
"""
NORMS = frozenset(_NORMS.split())
"""Operators that normalise: FREE."""

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

FREE: frozenset[str] = NORMS | frozenset(
    f"{_ACTIVATIONS} {_POOLING} {_ELEMENTWISE} {_REDUCTIONS} {_COPIES}".split()
)
"""Operators without products of their own: norms, activations, pooling and resampling,
element-wise arithmetic, reductions, quantisation, copies and look-ups."""

METADATA = frozenset(
    {
        "Constant",
        "ConstantOfShape",
        "Flatten",
        "Identity",
        "Reshape",
        "Shape",
        "Size",
        "Squeeze",
        "Unsqueeze",
    }
)
"""Operators that compute nothing and move no data."""
