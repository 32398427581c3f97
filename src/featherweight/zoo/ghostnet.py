"""GhostNet: half of every 1x1 convolution's channels come from cheap depthwise filters.

Source: Han et al. 2020, arXiv 1911.11907, table 1, table 7; the authors' code,
huawei-noah/Efficient-AI-Backbones ghostnet_pytorch.

Published at 224: 0.5x 2.6M params, 42M multiply-adds, 66.2 % top-1; 1x 5.2M, 141M, 73.9 %; 1.3x
7.3M, 226M, 75.7 %. Here: 2,587,292 params and 42,328,152 multiply-adds; 5,182,508 and
141,150,512; 7,358,820 and 227,003,256.

Deviations and readings:
    - Widths are rounded to multiples of 4 (not 8): stem, blocks, hidden widths, the last
      convolution and the reduced widths of squeeze-and-excitation (a quarter of the hidden
      width). The linear 1280 after the pooling is never scaled.
    - A block of stride 1 has no k x k depthwise convolution: its kernel size matters only for a
      shortcut that changes the width.
    - The gate is a hard sigmoid, relu6(x + 3) / 6, as in the PyTorch code; the paper's figures
      come from TensorFlow code with clip(x, 0, 1), int(hidden / 4), and a norm instead of a bias
      on the 1280.
"""

from __future__ import annotations

from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model
from featherweight.zoo.published import Published

__all__ = ["ghostnet"]


class _Row(NamedTuple):
    kernel_size: int
    hidden: int
    channels: int
    squeeze: bool
    stride: int


STEM_CHANNELS = 16
GHOST_RATIO = 2
DIVISOR = 4
TABLE_1 = (
    _Row(3, 16, 16, squeeze=False, stride=1),
    _Row(3, 48, 24, squeeze=False, stride=2),
    _Row(3, 72, 24, squeeze=False, stride=1),
    _Row(5, 72, 40, squeeze=True, stride=2),
    _Row(5, 120, 40, squeeze=True, stride=1),
    _Row(3, 240, 80, squeeze=False, stride=2),
    _Row(3, 200, 80, squeeze=False, stride=1),
    _Row(3, 184, 80, squeeze=False, stride=1),
    _Row(3, 184, 80, squeeze=False, stride=1),
    _Row(3, 480, 112, squeeze=True, stride=1),
    _Row(3, 672, 112, squeeze=True, stride=1),
    _Row(5, 672, 160, squeeze=True, stride=2),
    _Row(5, 960, 160, squeeze=False, stride=1),
    _Row(5, 960, 160, squeeze=True, stride=1),
    _Row(5, 960, 160, squeeze=False, stride=1),
    _Row(5, 960, 160, squeeze=True, stride=1),
)
HEAD_CHANNELS = 1280

_PAPER = "arXiv 1911.11907, table 7"
PUBLISHED = (
    Published(width=0.5, params=2_600_000, macs=42_000_000, top1=0.662, source=_PAPER),
    Published(width=1.0, params=5_200_000, macs=141_000_000, top1=0.739, source=_PAPER),
    Published(width=1.3, params=7_300_000, macs=226_000_000, top1=0.757, source=_PAPER),
)


def ghostnet(settings: Settings) -> Architecture:
    """Draw GhostNet from its table."""
    activation: Activation = settings.activation or "relu"

    def scaled(channels: int) -> int:
        return make_divisible(channels * settings.width, DIVISOR)

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
        hidden = scaled(row.hidden)
        blocks.append(
            BlockSpec(
                op="ghost",
                out_channels=scaled(row.channels),
                kernel_size=row.kernel_size,
                stride=row.stride,
                hidden_channels=hidden,
                se_channels=make_divisible(hidden / 4, DIVISOR) if row.squeeze else 0,
                activation=activation,
                ghost_ratio=GHOST_RATIO,
            )
        )
    last = scaled(TABLE_1[-1].hidden)
    blocks.append(BlockSpec(op="conv", out_channels=last, kernel_size=1, activation=activation))
    return Architecture(
        name="ghostnet",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        head_channels=(HEAD_CHANNELS,),
        head_activation=activation,
        num_classes=settings.classes,
        dropout=0.2,
        padding=settings.padding,
    )


add_model("ghostnet", ghostnet, family="ghostnet", published=PUBLISHED)
