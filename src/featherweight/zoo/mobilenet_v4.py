"""MobileNetV4 conv small, medium and large: universal inverted bottlenecks.

Source: Qin et al. 2024, arXiv 2404.10518, appendix D (tables of the networks).

Published: small 3.8M params, 73.8 % top-1 (224); medium 9.72M, 79.9 % (256); large 32.59M, 81.9 %
(256). Here at 224: 3,774,024 params and 186,005,568 multiply-adds; 9,715,512 and 827,649,984;
32,590,864 and 2,171,341,312.

Deviations and readings:
    - A fused inverted bottleneck (first stage of medium and large) is written as its two
      convolutions: k x k with activation, linear 1 x 1.
    - The 1280 after the pooling has a norm and no bias (the authors' code, timm).
    - `width` multiplies the blocks and the last convolution (make_divisible); hidden widths keep
      their ratio to the scaled input of the block; the stem grows with width > 1 but does not
      shrink, and the 1280 is not scaled (timm).
    - Symmetric padding and norm epsilon 1e-5 (timm's weights); the authors' code has SAME
      (`padding=same`) and 1e-3.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model, skip_if_equal
from featherweight.zoo.published import Published

__all__ = ["mobilenet_v4"]


class _Conv(NamedTuple):
    """Convolution, norm, activation."""

    kernel_size: int
    stride: int
    channels: int


class _Fused(NamedTuple):
    """k x k expansion, linear 1 x 1."""

    kernel_size: int
    stride: int
    expansion: float
    channels: int


class _Bottleneck(NamedTuple):
    """Universal inverted bottlenecks; a kernel of 0 is left out."""

    repeats: int
    start: int
    middle: int
    stride: int
    expansion: float
    channels: int


class _Variant(NamedTuple):
    stem_channels: int
    rows: tuple[_Conv | _Fused | _Bottleneck, ...]


LAST_CHANNELS, HEAD_CHANNELS = 960, 1280
VARIANTS = {
    "small": _Variant(
        32,
        (
            _Conv(3, 2, 32),
            _Conv(1, 1, 32),
            _Conv(3, 2, 96),
            _Conv(1, 1, 64),
            _Bottleneck(1, 5, 5, 2, 3.0, 96),
            _Bottleneck(4, 0, 3, 1, 2.0, 96),
            _Bottleneck(1, 3, 0, 1, 4.0, 96),
            _Bottleneck(1, 3, 3, 2, 6.0, 128),
            _Bottleneck(1, 5, 5, 1, 4.0, 128),
            _Bottleneck(1, 0, 5, 1, 4.0, 128),
            _Bottleneck(1, 0, 5, 1, 3.0, 128),
            _Bottleneck(2, 0, 3, 1, 4.0, 128),
        ),
    ),
    "medium": _Variant(
        32,
        (
            _Fused(3, 2, 4.0, 48),
            _Bottleneck(1, 3, 5, 2, 4.0, 80),
            _Bottleneck(1, 3, 3, 1, 2.0, 80),
            _Bottleneck(1, 3, 5, 2, 6.0, 160),
            _Bottleneck(2, 3, 3, 1, 4.0, 160),
            _Bottleneck(1, 3, 5, 1, 4.0, 160),
            _Bottleneck(1, 3, 3, 1, 4.0, 160),
            _Bottleneck(1, 3, 0, 1, 4.0, 160),
            _Bottleneck(1, 0, 0, 1, 2.0, 160),
            _Bottleneck(1, 3, 0, 1, 4.0, 160),
            _Bottleneck(1, 5, 5, 2, 6.0, 256),
            _Bottleneck(1, 5, 5, 1, 4.0, 256),
            _Bottleneck(2, 3, 5, 1, 4.0, 256),
            _Bottleneck(1, 0, 0, 1, 4.0, 256),
            _Bottleneck(1, 3, 0, 1, 4.0, 256),
            _Bottleneck(1, 3, 5, 1, 2.0, 256),
            _Bottleneck(1, 5, 5, 1, 4.0, 256),
            _Bottleneck(2, 0, 0, 1, 4.0, 256),
            _Bottleneck(1, 5, 0, 1, 2.0, 256),
        ),
    ),
    "large": _Variant(
        24,
        (
            _Fused(3, 2, 4.0, 48),
            _Bottleneck(1, 3, 5, 2, 4.0, 96),
            _Bottleneck(1, 3, 3, 1, 4.0, 96),
            _Bottleneck(1, 3, 5, 2, 4.0, 192),
            _Bottleneck(3, 3, 3, 1, 4.0, 192),
            _Bottleneck(1, 3, 5, 1, 4.0, 192),
            _Bottleneck(5, 5, 3, 1, 4.0, 192),
            _Bottleneck(1, 3, 0, 1, 4.0, 192),
            _Bottleneck(1, 5, 5, 2, 4.0, 512),
            _Bottleneck(3, 5, 5, 1, 4.0, 512),
            _Bottleneck(1, 5, 0, 1, 4.0, 512),
            _Bottleneck(1, 5, 3, 1, 4.0, 512),
            _Bottleneck(2, 5, 0, 1, 4.0, 512),
            _Bottleneck(1, 5, 3, 1, 4.0, 512),
            _Bottleneck(1, 5, 5, 1, 4.0, 512),
            _Bottleneck(3, 5, 0, 1, 4.0, 512),
        ),
    ),
}


_CARDS = "model cards of timm's mobilenetv4 weights (the authors' are unreleased)"
PUBLISHED = {
    "small": (Published(params=3_800_000, top1=0.738, source=_CARDS),),
    "medium": (Published(resolution=256, params=9_720_000, top1=0.799, source=_CARDS),),
    "large": (Published(resolution=256, params=32_590_000, top1=0.819, source=_CARDS),),
}


def mobilenet_v4(settings: Settings, *, size: str) -> Architecture:
    """Draw a convolutional MobileNetV4 from its table."""
    variant = VARIANTS[size]
    activation: Activation = settings.activation or "relu"
    channels = make_divisible(variant.stem_channels * max(1.0, settings.width))
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=3, stride=2, activation=activation)
    ]
    for row in variant.rows:
        out_channels = make_divisible(row.channels * settings.width)
        blocks += _blocks(row, channels, out_channels, activation)
        channels = out_channels
    blocks.append(
        BlockSpec(
            op="conv",
            out_channels=make_divisible(LAST_CHANNELS * settings.width),
            kernel_size=1,
            activation=activation,
        )
    )
    return Architecture(
        name=f"mobilenet_v4_conv_{size}",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        head_channels=(HEAD_CHANNELS,),
        head_norm=True,
        head_activation=activation,
        num_classes=settings.classes,
        dropout=0.2,
        padding=settings.padding,
    )


def _blocks(
    row: _Conv | _Fused | _Bottleneck, in_channels: int, out_channels: int, activation: Activation
) -> list[BlockSpec]:
    if isinstance(row, _Conv):
        return [
            BlockSpec(
                op="conv",
                out_channels=out_channels,
                kernel_size=row.kernel_size,
                stride=row.stride,
                activation=activation,
            )
        ]
    if isinstance(row, _Fused):
        return [
            BlockSpec(
                op="conv",
                out_channels=make_divisible(in_channels * row.expansion),
                kernel_size=row.kernel_size,
                stride=row.stride,
                activation=activation,
            ),
            BlockSpec(op="conv", out_channels=out_channels, kernel_size=1),
        ]
    blocks = []
    for repeat in range(row.repeats):
        stride = row.stride if repeat == 0 else 1
        blocks.append(
            BlockSpec(
                op="universal_inverted_bottleneck",
                out_channels=out_channels,
                kernel_size=row.middle or 1,
                start_kernel_size=row.start or None,
                stride=stride,
                hidden_channels=make_divisible(in_channels * row.expansion),
                activation=activation,
                skip=skip_if_equal(stride, in_channels, out_channels),
            )
        )
        in_channels = out_channels
    return blocks


for _size in VARIANTS:
    add_model(
        f"mobilenet_v4_conv_{_size}",
        partial(mobilenet_v4, size=_size),
        family="mobilenet_v4",
        published=PUBLISHED[_size],
    )
