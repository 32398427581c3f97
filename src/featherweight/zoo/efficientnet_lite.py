"""EfficientNet-Lite 0 to 4: EfficientNet without what mobile integer hardware dislikes.

Source: Tan and Le 2019, arXiv 1905.11946, table 1 (EfficientNet-B0) and equation 3 (scaling);
the Lite changes and figures from tensorflow/tpu models/official/efficientnet/lite/README.md.

Published: lite0 4.7M params, 407M multiply-adds, 75.1 % top-1 (224); lite1 5.4M, 631M, 76.7 %
(240); lite2 6.1M, 899M, 77.6 % (260); lite3 8.2M, 1.44G, 79.8 % (280); lite4 13.0M, 2.64G,
81.5 % (300). Here: 4,652,008 params and 385,187,552 multiply-adds; 5,416,680 and 600,185,232;
6,092,072 and 859,736,272; 8,197,096 and 1,383,321,872; 13,006,568 and 2,553,034,336.

Deviations and readings:
    - Lite leaves out squeeze-and-excitation, uses ReLU6 for swish, keeps the stem (32) and the
      head (1280) at every width, and repeats the first and the last stage once at every depth.
    - The README's multiply-adds exceed those of the convolutions and linear layers by 5 to 6 %:
      another way of counting.
    - `width` multiplies the variant's own width.
    - Padding is SAME by default and norm epsilon 1e-3, as the released weights need.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model, skip_if_equal
from featherweight.zoo.published import Published

__all__ = ["efficientnet_lite"]


class _Row(NamedTuple):
    kernel_size: int
    expansion: int
    channels: int
    repeats: int
    stride: int


class _Variant(NamedTuple):
    width: float
    depth: float
    resolution: int
    dropout: float
    params: int
    macs: int
    top1: float


STEM_CHANNELS = 32
TABLE_1 = (
    _Row(3, 1, 16, 1, 1),
    _Row(3, 6, 24, 2, 2),
    _Row(5, 6, 40, 2, 2),
    _Row(3, 6, 80, 3, 2),
    _Row(5, 6, 112, 3, 1),
    _Row(5, 6, 192, 4, 2),
    _Row(3, 6, 320, 1, 1),
)
HEAD_CHANNELS = 1280
VARIANTS = {
    "efficientnet_lite0": _Variant(1.0, 1.0, 224, 0.2, 4_700_000, 407_000_000, 0.751),
    "efficientnet_lite1": _Variant(1.0, 1.1, 240, 0.2, 5_400_000, 631_000_000, 0.767),
    "efficientnet_lite2": _Variant(1.1, 1.2, 260, 0.3, 6_100_000, 899_000_000, 0.776),
    "efficientnet_lite3": _Variant(1.2, 1.4, 280, 0.3, 8_200_000, 1_440_000_000, 0.798),
    "efficientnet_lite4": _Variant(1.4, 1.8, 300, 0.3, 13_000_000, 2_640_000_000, 0.815),
}


def efficientnet_lite(settings: Settings, *, variant: str) -> Architecture:
    """Draw one EfficientNet-Lite."""
    activation: Activation = settings.activation or "relu6"
    scale = VARIANTS[variant]
    width = scale.width * settings.width
    channels = STEM_CHANNELS
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=3, stride=2, activation=activation)
    ]
    for index, row in enumerate(TABLE_1):
        out_channels = make_divisible(row.channels * width)
        ends = index in (0, len(TABLE_1) - 1)
        repeats = row.repeats if ends else math.ceil(row.repeats * scale.depth)
        for repeat in range(repeats):
            stride = row.stride if repeat == 0 else 1
            blocks.append(
                BlockSpec(
                    op="inverted_residual",
                    out_channels=out_channels,
                    kernel_size=row.kernel_size,
                    stride=stride,
                    hidden_channels=None if row.expansion == 1 else channels * row.expansion,
                    activation=activation,
                    skip=skip_if_equal(stride, channels, out_channels),
                )
            )
            channels = out_channels
    blocks.append(
        BlockSpec(op="conv", out_channels=HEAD_CHANNELS, kernel_size=1, activation=activation)
    )
    return Architecture(
        name=variant,
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        dropout=scale.dropout,
        norm_eps=1e-3,
        padding=settings.padding,
    )


for _name, _variant in VARIANTS.items():
    add_model(
        _name,
        partial(efficientnet_lite, variant=_name),
        family="efficientnet_lite",
        default_resolution=_variant.resolution,
        default_padding="same",
        published=(
            Published(
                resolution=_variant.resolution,
                params=_variant.params,
                macs=_variant.macs,
                top1=_variant.top1,
                source="tensorflow/tpu models/official/efficientnet/lite/README.md",
            ),
        ),
    )
