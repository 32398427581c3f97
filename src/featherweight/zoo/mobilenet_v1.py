"""MobileNetV1: depthwise-separable convolutions.

Source: Howard et al. 2017, arXiv 1704.04861, table 1; widths and resolutions tables 6 and 7.

Published at 224: 4.2M params, 569M multiply-adds, 70.6 % top-1. Here: 4,231,976 params with
norms (4,210,088 without), 568,740,352 multiply-adds.

Deviations and readings:
    - The last depthwise row of table 1 prints stride 2 with equal sizes before and after; the
      authors' code has stride 1, as here.
    - ReLU6 after both convolutions (the authors' code), where the paper says ReLU.
    - Widths are max(int(channels * width), 8), as in the authors' code: not make_divisible.
    - Norm epsilon 1e-5 and symmetric padding, as in the weights that exist for PyTorch; the
      authors' code has 1e-3 and SAME (`padding=same`).
"""

from __future__ import annotations

from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec
from featherweight.zoo.model import Settings, add_model
from featherweight.zoo.published import Published

__all__ = ["mobilenet_v1"]


class _Row(NamedTuple):
    repeats: int
    channels: int
    stride: int


STEM_CHANNELS = 32
TABLE_1 = (
    _Row(1, 64, 1),
    _Row(1, 128, 2),
    _Row(1, 128, 1),
    _Row(1, 256, 2),
    _Row(1, 256, 1),
    _Row(1, 512, 2),
    _Row(5, 512, 1),
    _Row(1, 1024, 2),
    _Row(1, 1024, 1),
)

_PAPER = "arXiv 1704.04861, tables 6 and 7"
PUBLISHED = tuple(
    Published(
        width=width, resolution=resolution, top1=top1, macs=macs, params=params, source=_PAPER
    )
    for width, resolution, top1, macs, params in (
        (1.0, 224, 0.706, 569_000_000, 4_200_000),
        (0.75, 224, 0.684, 325_000_000, 2_600_000),
        (0.5, 224, 0.637, 149_000_000, 1_300_000),
        (0.25, 224, 0.506, 41_000_000, 500_000),
        (1.0, 192, 0.691, 418_000_000, 4_200_000),
        (1.0, 160, 0.672, 290_000_000, 4_200_000),
        (1.0, 128, 0.644, 186_000_000, 4_200_000),
        (0.5, 160, 0.602, 76_000_000, 1_320_000),
    )
)


def mobilenet_v1(settings: Settings) -> Architecture:
    """Draw MobileNetV1 from its table."""
    activation: Activation = settings.activation or "relu6"

    def scaled(channels: int) -> int:
        return max(int(channels * settings.width), 8)

    blocks = [
        BlockSpec(
            op="conv",
            out_channels=scaled(STEM_CHANNELS),
            kernel_size=3,
            stride=2,
            activation=activation,
        )
    ]
    for row in TABLE_1:
        blocks += [
            BlockSpec(
                op="separable",
                out_channels=scaled(row.channels),
                stride=row.stride,
                activation=activation,
            )
        ] * row.repeats
    return Architecture(
        name="mobilenet_v1",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        dropout=0.001,  # the authors keep 0.999
        padding=settings.padding,
    )


add_model("mobilenet_v1", mobilenet_v1, family="mobilenet_v1", published=PUBLISHED)
