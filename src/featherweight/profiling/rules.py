"""How many multiplications and additions one operation takes, from shapes alone.

One rule each for what is counted in a torch module (`featherweight.profiling.aten`) and in an
ONNX file (`featherweight.exporting.onnx_rules`). An output that is the sum of K products takes K
multiplications and K - 1 additions, and one more addition with a bias. Products with the zeros
of a padded border count like all others. Shapes include the batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "NOTHING",
    "Arithmetic",
    "Shape",
    "attention",
    "convolution",
    "dot_products",
    "matrix_product",
    "recurrence",
    "transposed_convolution",
]

Shape = tuple[int, ...]


class Arithmetic(NamedTuple):
    """Multiplications and additions of one operation; `macs` are its multiplications."""

    multiplications: int
    additions: int

    @property
    def macs(self) -> int:
        """Multiply-adds: every multiplication belongs to one."""
        return self.multiplications

    @property
    def flops(self) -> int:
        """Multiplications plus additions."""
        return self.multiplications + self.additions


NOTHING = Arithmetic(0, 0)


def dot_products(outputs: int, *, products: int, bias: bool = False) -> Arithmetic:
    """`outputs` sums of `products` products each."""
    additions = products - 1 + bias if products else 0
    return Arithmetic(outputs * products, outputs * additions)


def convolution(weight: Shape, output: Shape, *, bias: bool) -> Arithmetic:
    """Convolution in any number of dimensions, with any groups.

    Args:
        weight: (Co, Ci / groups, K, ...).
        output: (N, Co, H, ...).
        bias: whether one is added.
    """
    return dot_products(math.prod(output), products=math.prod(weight[1:]), bias=bias)


def transposed_convolution(
    *,
    inputs: Shape,
    weight: Shape,
    output: Shape,
    stride: Sequence[int],
    dilation: Sequence[int],
    bias: bool,
) -> Arithmetic:
    """Transposed convolution: each input value is spread over K x ... x Co / groups outputs.

    What falls outside and is cut off by the padding counts, as the zero border of a convolution
    does. Additions: the products, less one for each place that receives at least one.

    Args:
        inputs: (N, Ci, H, ...).
        weight: (Ci, Co / groups, K, ...).
        output: (N, Co, H', ...).
        stride: one per dimension, or one for all.
        dilation: one per dimension, or one for all.
        bias: whether one is added.
    """
    products = math.prod(inputs) * math.prod(weight[1:])
    places = output[0] * output[1]
    for axis, (size, kernel_size) in enumerate(zip(inputs[2:], weight[2:], strict=True)):
        step = stride[axis] if len(stride) > 1 else stride[0]
        spread = dilation[axis] if len(dilation) > 1 else dilation[0]
        places *= len({i * step + k * spread for i in range(size) for k in range(kernel_size)})
    return Arithmetic(products, products - places + (math.prod(output) if bias else 0))


def matrix_product(left: Shape, output: Shape, *, bias: bool = False) -> Arithmetic:
    """Product of (batches of) matrices or vectors; `left` ends in the axis that is summed."""
    return dot_products(math.prod(output), products=left[-1], bias=bias)


def attention(query: Shape, key: Shape, output: Shape) -> Arithmetic:
    """Scaled dot-product attention: query x key, then scores x value; scale and softmax are free.

    A mask, causal or not, does not lower the count.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        output: (..., L, Ev), with the batch and head axes of the query.
    """
    scores = dot_products(math.prod(output[:-1]) * key[-2], products=query[-1])
    values = dot_products(math.prod(output), products=key[-2])
    return Arithmetic(
        scores.multiplications + values.multiplications, scores.additions + values.additions
    )


def recurrence(matrices: Sequence[Shape], *, steps: int, biases: int) -> Arithmetic:
    """Recurrent layers: every matrix (rows, columns) is applied once at each step.

    Element-wise gates are free.

    Args:
        matrices: of all layers and directions.
        steps: time steps times batch size.
        biases: number of values of all bias vectors.
    """
    rows = sum(shape[0] for shape in matrices)
    products = sum(math.prod(shape) for shape in matrices)
    return Arithmetic(steps * products, steps * (products - rows + biases))
