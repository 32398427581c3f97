"""MobileNetV3 large and small: searched inverted residuals, squeeze-and-excitation, hard swish.

Source: Howard et al. 2019, arXiv 1905.02244v5 (ICCV), tables 1, 2 and 3; the tables of
arXiv v1 are of other networks.

Published at 224: large 5.4M params, 219M multiply-adds, 75.2 % top-1; small 2.5M, 56M, 67.4 %.
Here: large 5,483,032 params, 216,589,760 multiply-adds; small 2,542,856 and 56,510,400. Their
minimalistic forms (the authors' README: 3.9M, 209M; 2.0M, 65M): 3,924,288 and 209,136,704;
2,044,736 and 52,288,448.

Deviations and readings:
    - The README's 65M for small minimalistic are not reproduced by the network (52.3M); nor were
      the 66M that arXiv v1 printed for small.
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
_README = "tensorflow/models research/slim/nets/mobilenet/README.md"
PUBLISHED = {
    "large": (
        Published(params=5_400_000, macs=219_000_000, top1=0.752, source=_PAPER),
        Published(width=0.75, params=4_000_000, macs=155_000_000, top1=0.733, source=_PAPER),
    ),
    "small": (
        Published(params=2_500_000, macs=56_000_000, top1=0.674, source=_PAPER),
        Published(width=0.75, params=2_000_000, macs=44_000_000, top1=0.654, source=_PAPER),
    ),
    "large_minimalistic": (
        Published(params=3_900_000, macs=209_000_000, top1=0.723, source=_README),
    ),
    "small_minimalistic": (
        Published(params=2_000_000, macs=65_000_000, top1=0.619, source=_README),
    ),
}


def mobilenet_v3(
    settings: Settings, *, size: Literal["large", "small"], minimalistic: bool = False
) -> Architecture:
    """Draw MobileNetV3 from its table; minimalistic: 3 x 3 only, ReLU only, no SE."""
    table, tail_channels = TABLES[size]
    width = settings.width
    activation: Activation = settings.activation or ("relu" if minimalistic else "hard_swish")
    table_channels = STEM_CHANNELS
    channels = make_divisible(STEM_CHANNELS * width)
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=3, stride=2, activation=activation)
    ]
    for published_row in table:
        row = _minimalistic(published_row) if minimalistic else published_row
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
        name=f"mobilenet_v3_{size}" + ("_minimalistic" if minimalistic else ""),
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        head_channels=(make_divisible(tail_channels * max(1.0, width)),),
        head_activation=activation,
        num_classes=settings.classes,
        dropout=0.2,
        norm_eps=1e-3,
        padding=settings.padding,
    )


def _minimalistic(row: _Row) -> _Row:
    return row._replace(kernel_size=3, squeeze="-", activation="relu")


add_model(
    "mobilenet_v3_large",
    partial(mobilenet_v3, size="large"),
    family="mobilenet_v3",
    published=PUBLISHED["large"],
)
add_model(
    "mobilenet_v3_small",
    partial(mobilenet_v3, size="small"),
    family="mobilenet_v3",
    published=PUBLISHED["small"],
)
add_model(
    "mobilenet_v3_large_minimalistic",
    partial(mobilenet_v3, size="large", minimalistic=True),
    family="mobilenet_v3",
    published=PUBLISHED["large_minimalistic"],
)
add_model(
    "mobilenet_v3_small_minimalistic",
    partial(mobilenet_v3, size="small", minimalistic=True),
    family="mobilenet_v3",
    published=PUBLISHED["small_minimalistic"],
)
