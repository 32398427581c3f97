"""Depthwise-separable pairs: what they cost beside the plain convolution they stand for.

Source: MobileNetV1, arXiv 1704.04861, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.layers import Layer
from featherweight.profiling.count import conv_macs
from featherweight.records import Record

__all__ = ["SeparablePair", "separable_pairs", "separable_saving"]

_BETWEEN = frozenset({"activation", "multiply"})  # the scale of squeeze-and-excitation multiplies


class SeparablePair(Record):
    """A depthwise convolution and the 1x1 convolution that reads it.

    Attributes:
        depthwise: name of the k x k layer.
        pointwise: name of the 1x1 layer.
        macs: multiply-adds of both.
        plain_macs: multiply-adds of one plain k x k convolution with the depthwise layer's
            inputs, the pointwise layer's outputs, and the same output size.
    """

    depthwise: str
    pointwise: str
    macs: int
    plain_macs: int


def separable_saving(*, kernel_size: int, in_channels: int, out_channels: int) -> float:
    """Return the multiply-adds of a pair as a share of the plain convolution's.

    (k^2 M + M N) / (k^2 M N) = 1/N + 1/k^2 for M inputs and N outputs: about 1/8 to 1/9 with
    3 x 3 kernels. M and the size of the map cancel.

    Source: MobileNetV1, arXiv 1704.04861, section 3.1, the last equation.
    """
    taps = kernel_size**2
    pair = taps * in_channels + in_channels * out_channels
    return pair / (taps * in_channels * out_channels)


def separable_pairs(network_layers: Sequence[Layer]) -> tuple[SeparablePair, ...]:
    """Return the pairs of a network, in order.

    A pair is a depthwise k x k convolution (k > 1) and a 1x1 convolution of one group that reads
    it, directly or behind activations and squeeze-and-excitation.
    """
    by_name = {layer.name: layer for layer in network_layers}
    pairs = []
    for pointwise in network_layers:
        if not _is_pointwise(pointwise):
            continue
        source = by_name.get(pointwise.inputs[0])
        while source is not None and source.op in _BETWEEN:
            source = by_name.get(source.inputs[0])
        if source is None or not _is_depthwise(source):
            continue
        size = (pointwise.output_shape[1], pointwise.output_shape[2])
        pairs.append(
            SeparablePair(
                depthwise=source.name,
                pointwise=pointwise.name,
                macs=_macs(source) + _macs(pointwise),
                plain_macs=conv_macs(
                    kernel_size=source.kernel_size,
                    in_channels=source.input_shape[0],
                    out_channels=pointwise.output_shape[0],
                    output_size=size,
                ),
            )
        )
    return tuple(pairs)


def _is_pointwise(layer: Layer) -> bool:
    return layer.op == "conv" and layer.kernel_size == layer.stride == layer.groups == 1


def _is_depthwise(layer: Layer) -> bool:
    channels = layer.input_shape[0]
    return (
        layer.op == "conv"
        and layer.kernel_size > 1
        and layer.groups == channels == layer.output_shape[0]
        and channels > 1
    )


def _macs(layer: Layer) -> int:
    return conv_macs(
        kernel_size=layer.kernel_size,
        in_channels=layer.input_shape[0],
        out_channels=layer.output_shape[0],
        groups=layer.groups,
        output_size=(layer.output_shape[1], layer.output_shape[2]),
    )
