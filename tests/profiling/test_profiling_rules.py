"""Rules on shapes, by hand."""

from __future__ import annotations

import pytest

from featherweight.profiling.rules import (
    Arithmetic,
    attention,
    convolution,
    dot_products,
    matrix_product,
    recurrence,
    transposed_convolution,
)


def test_a_sum_of_products() -> None:
    assert dot_products(1, products=9) == Arithmetic(9, 8)
    assert dot_products(1, products=9, bias=True) == Arithmetic(9, 9)
    assert dot_products(4, products=0) == Arithmetic(0, 0)
    assert dot_products(1, products=9).flops == 17
    assert dot_products(1, products=9).macs == 9


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_convolution_in_any_number_of_dimensions(dimensions: int) -> None:
    weight, output = (8, 3, *[3] * dimensions), (1, 8, *[5] * dimensions)
    outputs, products = 8 * 5**dimensions, 3 * 3**dimensions
    assert convolution(weight, output, bias=False) == (outputs * products, outputs * (products - 1))
    assert convolution(weight, output, bias=True).flops == 2 * outputs * products


def transposed(size: int, kernel_size: int, stride: int, *, bias: bool, dilation: int = 1) -> int:
    """Additions of a 1-D transposed convolution 2 -> 1, one by one."""
    terms: dict[int, int] = {}
    for i in range(size):
        for k in range(kernel_size):
            place = i * stride + k * dilation
            terms[place] = terms.get(place, 0) + 2
    outputs = (size - 1) * stride + (kernel_size - 1) * dilation + 1
    return sum(count - 1 for count in terms.values()) + (outputs if bias else 0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation"), [(2, 2, 1), (3, 2, 1), (4, 1, 1), (1, 3, 1), (3, 2, 2)]
)
def test_a_transposed_convolution_place_by_place(
    kernel_size: int, stride: int, dilation: int, bias: bool
) -> None:
    size = 5
    outputs = (size - 1) * stride + (kernel_size - 1) * dilation + 1
    counted = transposed_convolution(
        inputs=(1, 2, size),
        weight=(2, 1, kernel_size),
        output=(1, 1, outputs),
        stride=[stride],
        dilation=[dilation],
        bias=bias,
    )
    assert counted.macs == 2 * size * kernel_size
    assert counted.additions == transposed(size, kernel_size, stride, bias=bias, dilation=dilation)


def test_the_transposed_convolution_others_count_four_times() -> None:
    """ConvTranspose2d(8, 4, 2, stride 2) on 4 x 4: 2,048 multiply-adds, not 8,192."""
    counted = transposed_convolution(
        inputs=(1, 8, 4, 4),
        weight=(8, 4, 2, 2),
        output=(1, 4, 8, 8),
        stride=[2, 2],
        dilation=[1, 1],
        bias=False,
    )
    assert counted == Arithmetic(2048, 7 * 4 * 8 * 8)


def test_matrix_products() -> None:
    assert matrix_product((7, 16), (7, 10)) == Arithmetic(1120, 7 * 10 * 15)
    assert matrix_product((2, 3, 7, 16), (2, 3, 7, 10)).macs == 6 * 1120
    assert matrix_product((16,), ()).flops == 31
    assert matrix_product((7, 16), (7, 10), bias=True).flops == 2 * 1120


def test_attention_has_two_products() -> None:
    """4 heads of 4, 7 tokens: 2 x 4 x 7 x 7 x 4 = 1,568 (half of it each)."""
    counted = attention((1, 4, 7, 4), (1, 4, 7, 4), (1, 4, 7, 4))
    assert counted.macs == 1568
    assert counted.additions == 4 * 7 * 7 * 3 + 4 * 7 * 4 * 6
    crossed = attention((1, 1, 2, 8), (1, 1, 5, 8), (1, 1, 2, 3))
    assert crossed.macs == 2 * 5 * 8 + 2 * 5 * 3


def test_a_recurrent_layer_applies_every_matrix_at_each_step() -> None:
    """LSTM 6 -> 5: four gates read the input and the state, each with its bias."""
    counted = recurrence([(20, 6), (20, 5)], steps=3, biases=40)
    assert counted.macs == 3 * 20 * 11
    assert counted.flops == 2 * counted.macs
