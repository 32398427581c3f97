"""MobileNetV3 large and small: searched inverted residuals, squeeze-and-excitation, hard swish.

Source: Howard et al. 2019, arXiv 1905.02244v5 (ICCV), tables 1, 2 and 3; the tables of
arXiv v1 are of other networks.

Published at 224: large 5.4M params, 219M multiply-adds, 75.2 % top-1; small 2.5M, 56M, 67.4 %.
Here: large 5,483,032 params, 216,589,760 multiply-adds; small 2,542,856 and 56,510,400.

Deviations and readings:
    - Table 2 prints squeeze-and-excitation on the last 576-wide convolution; no code has it.
    - The activation comes before squeeze-and-excitation, whose reduced width is
      make_divisible(hidden / 4) (the authors' code).
    - Other widths: every width of the table is make_divisible(channels * width), stem included;
      a hidden width keeps its ratio to the scaled input of the block (the authors' code;
      torchvision scales the hidden width itself); the last convolution is six times the last
      block. The linear 1280 or 1024 after the pooling grows with width > 1 but never shrinks
      (paper and released checkpoints; torchvision shrinks it). timm keeps the stem at 16 below
      width 0.75: there its networks differ.
    - Norm epsilon 1e-3 (authors, torchvision) and symmetric padding (torchvision); the authors'
      code has SAME (`padding=same`).
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model, skip_if_equal
from featherweight.zoo.published import Published

__all__ = ["mobilenet_v3"]


class _Row(NamedTuple):
    kernel_size: int
    hidden: int
    channels: int
    squeeze: Literal["SE", "-"]
    activation: Activation
    stride: int


STEM_CHANNELS = 16
TABLE_1_LARGE = (
    _Row(3, 16, 16, "-", "relu", 1),
    _Row(3, 64, 24, "-", "relu", 2),
    _Row(3, 72, 24, "-", "relu", 1),
    _Row(5, 72, 40, "SE", "relu", 2),
    _Row(5, 120, 40, "SE", "relu", 1),
    _Row(5, 120, 40, "SE", "relu", 1),
    _Row(3, 240, 80, "-", "hard_swish", 2),
    _Row(3, 200, 80, "-", "hard_swish", 1),
    _Row(3, 184, 80, "-", "hard_swish", 1),
    _Row(3, 184, 80, "-", "hard_swish", 1),
    _Row(3, 480, 112, "SE", "hard_swish", 1),
    _Row(3, 672, 112, "SE", "hard_swish", 1),
    _Row(5, 672, 160, "SE", "hard_swish", 2),
    _Row(5, 960, 160, "SE", "hard_swish", 1),
    _Row(5, 960, 160, "SE", "hard_swish", 1),
)
TABLE_2_SMALL = (
    _Row(3, 16, 16, "SE", "relu", 2),
    _Row(3, 72, 24, "-", "relu", 2),
    _Row(3, 88, 24, "-", "relu", 1),
    _Row(5, 96, 40, "SE", "hard_swish", 2),
    _Row(5, 240, 40, "SE", "hard_swish", 1),
    _Row(5, 240, 40, "SE", "hard_swish", 1),
    _Row(5, 120, 48, "SE", "hard_swish", 1),
    _Row(5, 144, 48, "SE", "hard_swish", 1),
    _Row(5, 288, 96, "SE", "hard_swish", 2),
    _Row(5, 576, 96, "SE", "hard_swish", 1),
    _Row(5, 576, 96, "SE", "hard_swish", 1),
)
TABLES = {"large": (TABLE_1_LARGE, 1280), "small": (TABLE_2_SMALL, 1024)}
"""Blocks, and the linear layer after pooling."""

_PAPER = "arXiv 1905.02244v5, table 3"
PUBLISHED = {
    "large": (
        Published(params=5_400_000, macs=219_000_000, top1=0.752, source=_PAPER),
        Published(width=0.75, params=4_000_000, macs=155_000_000, top1=0.733, source=_PAPER),
    ),
    "small": (
        Published(params=2_500_000, macs=56_000_000, top1=0.674, source=_PAPER),
        Published(width=0.75, params=2_000_000, macs=44_000_000, top1=0.654, source=_PAPER),
    ),
}


def mobilenet_v3(settings: Settings, *, size: Literal["large", "small"]) -> Architecture:
    """Draw MobileNetV3 from its table."""
    table, tail_channels = TABLES[size]
    width = settings.width
    activation: Activation = settings.activation or "hard_swish"
    table_channels = STEM_CHANNELS
    channels = make_divisible(STEM_CHANNELS * width)
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=3, stride=2, activation=activation)
    ]
    for row in table:
        out_channels = make_divisible(row.channels * width)
        hidden = make_divisible(channels * row.hidden / table_channels)
        blocks.append(
            BlockSpec(
                op="inverted_residual",
                out_channels=out_channels,
                kernel_size=row.kernel_size,
                stride=row.stride,
                hidden_channels=None if row.hidden == table_channels else hidden,
                se_channels=make_divisible(hidden / 4) if row.squeeze == "SE" else 0,
                activation=settings.activation or row.activation,
                skip=skip_if_equal(row.stride, channels, out_channels),
            )
        )
        table_channels, channels = row.channels, out_channels
    blocks.append(
        BlockSpec(op="conv", out_channels=6 * channels, kernel_size=1, activation=activation)
    )
    return Architecture(
        name=f"mobilenet_v3_{size}",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        head_channels=(make_divisible(tail_channels * max(1.0, width)),),
        head_activation=activation,
        num_classes=settings.classes,
        dropout=0.2,
        norm_eps=1e-3,
        padding=settings.padding,
    )


add_model(
    "mobilenet_v3_large", partial(mobilenet_v3, size="large"),
    family="mobilenet_v3", published=PUBLISHED["large"],
)  # fmt: skip
add_model(
    "mobilenet_v3_small", partial(mobilenet_v3, size="small"),
    family="mobilenet_v3", published=PUBLISHED["small"],
)  # fmt: skip
