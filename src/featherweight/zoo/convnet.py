"""A plain 3x3 network for small images: few large convolutions, nothing else.

Source: our own drawing after Jordan 2024, arXiv 2404.00498 (airbench94, section 3): a thin layer,
then three stages of a 3x3 convolution, a max pool and a second convolution.

Published: nothing for this drawing (airbench94 itself: 94 % on CIFAR-10). Here, with 10
classes: 1,978,026 params, 151,882,240 multiply-adds at 32 x 32.

On small pictures such a network trains several times faster per accuracy than a depthwise one,
because its arithmetic runs near the processor's peak, and it survives int8 without loss.

Deviations and readings:
    - The first layer is a learned 3x3 convolution of 32 channels with padding, not a frozen 2x2
      whitening to 24 without (a training from scratch starts it as a whitening:
      `featherweight.training.start`): the last map has 4 x 4 pixels, not 3 x 3.
    - The first convolution of a stage sees the map before its pool, as there. A drawing that
      pooled first, behind a 4x4 layer of stride 2, was better where int8 is slow (AVX2: 25M
      multiply-adds in 0.5 ms). Where it is not (VNNI), that one at width 2.5 took 0.47 ms and
      reached a val accuracy of 0.897 on CIFAR-10 in 32 minutes, and this one learns more in less
      (benchmarks/results/fit_cifar10.json).
    - The second convolution of a stage adds its input.
    - ReLU, not GELU (int8); norm and ReLU after each convolution, where they fuse, so that the
      pool follows both.
    - Global average pooling instead of a last max pool.
    - Inputs above 64 pixels are reduced by a 4x4 max pool after the first layer.
    - `width` multiplies all widths, that of the first layer only below 1 (make_divisible with 16).
"""

from __future__ import annotations

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model

__all__ = ["convnet"]

STEM_CHANNELS = 32
STAGES = (64, 256, 256)
"""Channels of both convolutions of a stage."""
CHANNEL_STEP = 16
"""Processors compute 8 or 16 channels at once: other widths cost time and give nothing."""
LARGEST_SMALL_INPUT = 64
"""Pixels up to which the first stage sees the picture at full size."""


def convnet(settings: Settings) -> Architecture:
    """Draw the plain network: a stem, then stages of a convolution, a pool and a convolution."""
    activation: Activation = settings.activation or "relu"
    channels = make_divisible(STEM_CHANNELS * min(settings.width, 1.0), CHANNEL_STEP)
    blocks = [BlockSpec(op="conv", out_channels=channels, kernel_size=3, activation=activation)]
    if settings.resolution > LARGEST_SMALL_INPUT:
        blocks.append(_max_pool(channels, stride=4))
    for stage_channels in STAGES:
        channels = make_divisible(stage_channels * settings.width, CHANNEL_STEP)
        conv = BlockSpec(op="conv", out_channels=channels, kernel_size=3, activation=activation)
        second = conv.model_copy(update={"skip": "identity"})
        blocks += [conv, _max_pool(channels, stride=2), second]
    return Architecture(
        name="convnet",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


def _max_pool(channels: int, *, stride: int) -> BlockSpec:
    """Return a max pool whose windows touch and do not overlap."""
    return BlockSpec(op="max_pool", out_channels=channels, kernel_size=stride, stride=stride)


add_model("convnet", convnet, family="convnet", default_resolution=32)
