"""MobileNetV2: inverted residuals with linear bottlenecks.

Source: Sandler et al. 2018, arXiv 1801.04381, table 2; the other widths and resolutions from
the README of tensorflow/models research/slim/nets/mobilenet.

Published at 224: 3.47M params, 300M multiply-adds, 71.8 % top-1 (paper: 3.4M, 72.0 %). Here:
3,504,872 params with norms (3,470,760 without), 300,774,272 multiply-adds.

Deviations and readings:
    - Every width is make_divisible(channels * width); the last 1280 grows with width > 1 but
      never shrinks (as in the released checkpoints).
    - The paper's table 4 prints 6.9M params for width 1.4; its own rule gives 6.11M.
    - Norm epsilon 1e-5 and symmetric padding, as in the weights that exist for PyTorch; the
      authors' code has 1e-3 and SAME (`padding=same`).
"""

from __future__ import annotations

from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model, skip_if_equal
from featherweight.zoo.published import Published

__all__ = ["mobilenet_v2"]


class _Row(NamedTuple):
    expansion: int
    channels: int
    repeats: int
    stride: int


STEM_CHANNELS = 32
TABLE_2 = (
    _Row(1, 16, 1, 1),
    _Row(6, 24, 2, 2),
    _Row(6, 32, 3, 2),
    _Row(6, 64, 4, 2),
    _Row(6, 96, 3, 1),
    _Row(6, 160, 3, 2),
    _Row(6, 320, 1, 1),
)
LAST_CHANNELS = 1280

_README = "tensorflow/models research/slim/nets/mobilenet/README.md"
_PARAMS = {
    1.4: 6_060_000,
    1.3: 5_340_000,
    1.0: 3_470_000,
    0.75: 2_610_000,
    0.5: 1_950_000,
    0.35: 1_660_000,
}
PUBLISHED = tuple(
    Published(
        width=width,
        resolution=resolution,
        top1=top1,
        macs=megamacs * 1_000_000,
        params=_PARAMS[width],
        source=_README,
    )
    for width, resolution, top1, megamacs in (
        (1.4, 224, 0.750, 582),
        (1.3, 224, 0.744, 509),
        (1.0, 224, 0.718, 300),
        (1.0, 192, 0.707, 221),
        (1.0, 160, 0.688, 154),
        (1.0, 128, 0.653, 99),
        (1.0, 96, 0.603, 56),
        (0.75, 224, 0.698, 209),
        (0.75, 192, 0.687, 153),
        (0.75, 160, 0.664, 107),
        (0.75, 128, 0.632, 69),
        (0.75, 96, 0.588, 39),
        (0.5, 224, 0.654, 97),
        (0.5, 192, 0.639, 71),
        (0.5, 160, 0.610, 50),
        (0.5, 128, 0.577, 32),
        (0.5, 96, 0.512, 18),
        (0.35, 224, 0.603, 59),
        (0.35, 192, 0.582, 43),
        (0.35, 160, 0.557, 30),
        (0.35, 128, 0.508, 20),
        (0.35, 96, 0.455, 11),
    )
)


def mobilenet_v2(settings: Settings) -> Architecture:
    """Draw MobileNetV2 from its table."""
    activation: Activation = settings.activation or "relu6"
    width = settings.width
    channels = make_divisible(STEM_CHANNELS * width)
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=3, stride=2, activation=activation)
    ]
    for row in TABLE_2:
        out_channels = make_divisible(row.channels * width)
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            blocks.append(
                BlockSpec(
                    op="inverted_residual",
                    out_channels=out_channels,
                    stride=stride,
                    hidden_channels=None if row.expansion == 1 else channels * row.expansion,
                    activation=activation,
                    skip=skip_if_equal(stride, channels, out_channels),
                )
            )
            channels = out_channels
    last_channels = make_divisible(LAST_CHANNELS * max(1.0, width))
    blocks.append(
        BlockSpec(op="conv", out_channels=last_channels, kernel_size=1, activation=activation)
    )
    return Architecture(
        name="mobilenet_v2",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        dropout=0.2,
        padding=settings.padding,
    )


add_model("mobilenet_v2", mobilenet_v2, family="mobilenet_v2", published=PUBLISHED)
