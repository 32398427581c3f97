"""What one layer costs.

Counting semantics
    macs    multiply-adds of convolutions and linear layers: one per weight and output position.
    flops   their multiplications plus additions, counted exactly. An output of K products takes
            K multiplications and K - 1 additions to sum them, and one more addition with a
            bias: 2K - 1 without bias, 2K with bias. A convolution followed by a norm has no bias.
    params  learned numbers: weights, biases, and gamma and beta of norms (not their statistics).

Norms, activations, pooling, additions, scaling, padding and the moving of channels are known and
count zero macs and zero flops. That is the convention of the papers (their "multiply-adds" or
"FLOPs" are `macs`).
Worked example: a 3 x 3 x 1 picture and one 3 x 3 kernel without padding and bias give one
output: 9 multiplications and 8 additions, so 9 macs and 17 flops.

An operator that is not in `COUNTERS` is unknown: totals that contain it are `None`.

Source: MobileNetV1, arXiv 1704.04861, section 3.1 (multiply-adds of a convolution).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from featherweight.layers import Layer
from featherweight.profiling.rules import dot_products

__all__ = ["COUNTERS", "Count", "conv_flops", "conv_macs", "linear_flops", "linear_macs"]


class Count(NamedTuple):
    """Learned numbers, multiply-adds and exact operations of one layer, one picture."""

    params: int
    macs: int
    flops: int


def conv_macs(
    *,
    kernel_size: int,
    in_channels: int,
    out_channels: int,
    output_size: tuple[int, int],
    groups: int = 1,
) -> int:
    """Multiply-adds of a square convolution with an output of (height, width) pixels."""
    return kernel_size**2 * (in_channels // groups) * out_channels * math.prod(output_size)


def conv_flops(
    *,
    kernel_size: int,
    in_channels: int,
    out_channels: int,
    output_size: tuple[int, int],
    groups: int = 1,
    bias: bool = False,
) -> int:
    """Multiplications plus additions of a square convolution."""
    products = kernel_size**2 * (in_channels // groups)
    outputs = out_channels * math.prod(output_size)
    return dot_products(outputs, products=products, bias=bias).flops


def linear_macs(in_features: int, out_features: int) -> int:
    """Multiply-adds of a linear layer."""
    return in_features * out_features


def linear_flops(in_features: int, out_features: int, *, bias: bool = True) -> int:
    """Multiplications plus additions of a linear layer."""
    return dot_products(out_features, products=in_features, bias=bias).flops


def _count_conv(layer: Layer) -> Count:
    in_channels, out_channels = layer.input_shape[0], layer.output_shape[0]
    output_size = (layer.output_shape[1], layer.output_shape[2])
    params = layer.kernel_size**2 * (in_channels // layer.groups) * out_channels
    params += out_channels if layer.bias else 0
    params += 0 if layer.norm_eps is None else 2 * out_channels
    return Count(
        params,
        conv_macs(
            kernel_size=layer.kernel_size,
            in_channels=in_channels,
            out_channels=out_channels,
            output_size=output_size,
            groups=layer.groups,
        ),
        conv_flops(
            kernel_size=layer.kernel_size,
            in_channels=in_channels,
            out_channels=out_channels,
            output_size=output_size,
            groups=layer.groups,
            bias=layer.bias,
        ),
    )


def _count_linear(layer: Layer) -> Count:
    in_features, out_features = math.prod(layer.input_shape), layer.output_shape[0]
    return Count(
        in_features * out_features + (out_features if layer.bias else 0),
        linear_macs(in_features, out_features),
        linear_flops(in_features, out_features, bias=layer.bias),
    )


def _count_nothing(_layer: Layer) -> Count:
    return Count(0, 0, 0)


COUNTERS: dict[str, Callable[[Layer], Count]] = {
    "conv": _count_conv,
    "linear": _count_linear,
    "activation": _count_nothing,
    "add": _count_nothing,
    "concat": _count_nothing,
    "global_pool": _count_nothing,
    "multiply": _count_nothing,
    "pad": _count_nothing,
    "pool": _count_nothing,
    "resize": _count_nothing,
    "select": _count_nothing,
    "shuffle": _count_nothing,
}
"""Primitive (`Layer.op`) to its count: a new primitive is one row."""
