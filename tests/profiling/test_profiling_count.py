"""Counting by hand."""

from __future__ import annotations

from featherweight.layers import Layer
from featherweight.profiling.count import (
    COUNTERS,
    conv_flops,
    conv_macs,
    linear_flops,
    linear_macs,
)


def test_the_worked_example() -> None:
    """One 3x3 kernel on a 3x3x1 picture: 9 multiplications and 8 additions."""
    assert conv_macs(kernel_size=3, in_channels=1, out_channels=1, output_size=(1, 1)) == 9
    assert conv_flops(kernel_size=3, in_channels=1, out_channels=1, output_size=(1, 1)) == 9 + 8
    with_bias = conv_flops(
        kernel_size=3, in_channels=1, out_channels=1, output_size=(1, 1), bias=True
    )
    assert with_bias == 9 + 9


def test_the_test_vector_of_the_conventions() -> None:
    """conv 3 -> 8, 3x3, on 8x8; linear 16 -> 10."""
    size = (8, 8)
    assert conv_macs(kernel_size=3, in_channels=3, out_channels=8, output_size=size) == 13_824
    without = conv_flops(kernel_size=3, in_channels=3, out_channels=8, output_size=size)
    bias = conv_flops(kernel_size=3, in_channels=3, out_channels=8, output_size=size, bias=True)
    assert (without, bias) == (27_136, 27_648)
    assert linear_macs(16, 10) == 160
    assert (linear_flops(16, 10), linear_flops(16, 10, bias=False)) == (320, 310)


def test_depthwise_and_grouped() -> None:
    """Dk^2 M DF^2 for a depthwise convolution (MobileNetV1, section 3.1)."""
    macs = conv_macs(kernel_size=3, in_channels=32, out_channels=32, output_size=(7, 5), groups=32)
    assert macs == 9 * 32 * 7 * 5
    flops = conv_flops(kernel_size=1, in_channels=12, out_channels=6, output_size=(2, 2), groups=3)
    assert flops == (2 * 4 - 1) * 6 * 4


def test_a_norm_has_two_params_per_channel_and_no_operations() -> None:
    plain = Layer("a", "conv", ("input",), (4, 6, 6), (8, 6, 6), kernel_size=3, groups=2)
    normed = Layer(
        "a", "conv", ("input",), (4, 6, 6), (8, 6, 6), kernel_size=3, groups=2, norm_eps=1e-5
    )
    count = COUNTERS["conv"]
    assert count(plain).params == 9 * 2 * 8
    assert count(normed).params == 9 * 2 * 8 + 16
    assert count(normed)[1:] == count(plain)[1:]


def test_what_computes_no_products_counts_zero() -> None:
    for op, counter in COUNTERS.items():
        if op in {"conv", "linear"}:
            continue
        assert counter(Layer("a", op, ("input",), (4, 6, 6), (4, 6, 6))) == (0, 0, 0)
