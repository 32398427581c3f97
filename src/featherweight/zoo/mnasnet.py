"""MnasNet A1, B1 and small: the networks that a search with measured phone latency found.

Source: Tan et al. 2018, arXiv 1807.11626v3, figure 7 (A1) and table 4; B1 and small from the
authors' code, tensorflow/tpu models/official/mnasnet/mnasnet_models.py.

Published at 224: A1 3.9M params, 312M multiply-adds, 75.2 % top-1, 78 ms on a Pixel 1; small
2.0M, 68M, 66.0 %. Here: A1 3,887,038 params and 311,579,072 multiply-adds; B1 4,383,312 and
314,415,872; small 2,030,264 and 68,339,184.

Deviations and readings:
    - The reduced width of squeeze-and-excitation is a quarter of the block's input (not of the
      expanded width, as in MobileNetV3), its gate a plain sigmoid.
    - `width` multiplies the stem and every block (make_divisible); the last convolution keeps
      its 1280 channels at every width.
    - Norm epsilon 1e-5 and symmetric padding (torchvision, timm); the authors' code has 1e-3 and
      SAME (`padding=same`). torchvision's norm momentum of 0.0003 is not taken over: running
      statistics would say nothing after a short training.
    - The counts of the authors' README exceed those of the convolutions and linear layers by
      0.9 to 2.5 %; the paper's 312M agree with ours. arXiv v1 had another network (74.0 %).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model, skip_if_equal
from featherweight.zoo.published import Published

__all__ = ["mnasnet"]


class _Row(NamedTuple):
    repeats: int
    kernel_size: int
    stride: int
    expansion: int
    channels: int
    squeeze: float = 0.0


class _Variant(NamedTuple):
    stem_channels: int
    dropout: float
    rows: tuple[_Row, ...]


VARIANTS = {
    "a1": _Variant(
        32,
        0.2,
        (
            _Row(1, 3, 1, 1, 16),
            _Row(2, 3, 2, 6, 24),
            _Row(3, 5, 2, 3, 40, 0.25),
            _Row(4, 3, 2, 6, 80),
            _Row(2, 3, 1, 6, 112, 0.25),
            _Row(3, 5, 2, 6, 160, 0.25),
            _Row(1, 3, 1, 6, 320),
        ),
    ),
    "b1": _Variant(
        32,
        0.2,
        (
            _Row(1, 3, 1, 1, 16),
            _Row(3, 3, 2, 3, 24),
            _Row(3, 5, 2, 3, 40),
            _Row(3, 5, 2, 6, 80),
            _Row(2, 3, 1, 6, 96),
            _Row(4, 5, 2, 6, 192),
            _Row(1, 3, 1, 6, 320),
        ),
    ),
    "small": _Variant(
        8,
        0.0,
        (
            _Row(1, 3, 1, 1, 8),
            _Row(1, 3, 2, 3, 16),
            _Row(2, 3, 2, 6, 16),
            _Row(4, 5, 2, 6, 32, 0.25),
            _Row(3, 3, 1, 6, 32, 0.25),
            _Row(3, 5, 2, 6, 88, 0.25),
            _Row(1, 3, 1, 6, 144),
        ),
    ),
}
HEAD_CHANNELS = 1280

_PAPER = "arXiv 1807.11626v3, table 4"
_README = "tensorflow/tpu models/official/mnasnet/README.md"
PUBLISHED = {
    "a1": (
        Published(params=3_900_000, macs=312_000_000, top1=0.752, source=_PAPER),
        Published(width=0.35, params=1_700_000, macs=63_000_000, top1=0.641, source=_PAPER),
        Published(width=0.5, params=2_100_000, macs=105_200_000, top1=0.689, source=_README),
        Published(width=0.75, params=2_900_000, macs=226_700_000, top1=0.733, source=_README),
        Published(width=1.4, params=6_100_000, macs=591_500_000, top1=0.772, source=_README),
    ),
    "b1": (),
    "small": (Published(params=2_000_000, macs=68_000_000, top1=0.660, source=_PAPER),),
}


def mnasnet(settings: Settings, *, variant: str) -> Architecture:
    """Draw a MnasNet from its table."""
    table = VARIANTS[variant]
    activation: Activation = settings.activation or "relu"
    channels = make_divisible(table.stem_channels * settings.width)
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=3, stride=2, activation=activation)
    ]
    for row in table.rows:
        out_channels = make_divisible(row.channels * settings.width)
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            blocks.append(
                BlockSpec(
                    op="inverted_residual",
                    out_channels=out_channels,
                    kernel_size=row.kernel_size,
                    stride=stride,
                    hidden_channels=None if row.expansion == 1 else channels * row.expansion,
                    se_channels=max(1, int(channels * row.squeeze)) if row.squeeze else 0,
                    se_gate="sigmoid" if row.squeeze else "hard_sigmoid",
                    activation=activation,
                    skip=skip_if_equal(stride, channels, out_channels),
                )
            )
            channels = out_channels
    blocks.append(
        BlockSpec(op="conv", out_channels=HEAD_CHANNELS, kernel_size=1, activation=activation)
    )
    return Architecture(
        name=f"mnasnet_{variant}",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        dropout=table.dropout,
        padding=settings.padding,
    )


for _variant, _published in PUBLISHED.items():
    add_model(
        f"mnasnet_{_variant}",
        partial(mnasnet, variant=_variant),
        family="mnasnet",
        published=_published,
    )
