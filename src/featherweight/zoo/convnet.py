"""A plain 3x3 network for small images: few large convolutions, nothing else.

Source: our own drawing after Jordan 2024, arXiv 2404.00498 (airbench94, table of section 3):
a thin first layer, then stages of two 3x3 convolutions with a max pool between them.

Published: nothing for this drawing (airbench94 itself: 94 % on CIFAR-10). Here, with 10
classes: 1,130,186 params, 33,425,920 multiply-adds at 32 x 32.

On small pictures such a network trains several times faster per accuracy than a depthwise one,
because its arithmetic runs near the processor's peak, and it survives int8 without loss.

Deviations and readings:
    - The first layer is a learned 4x4 convolution of stride 2 and 32 channels, not a frozen 2x2
      whitening of stride 1 (a training from scratch starts it as a whitening:
      `featherweight.training.start`). A 3x3 layer at full size and a max pool held 4 % of the
      multiply-adds, took a fifth of the int8 latency and slowed training by a third.
    - The other stages pool before their convolutions, not between them: more multiply-adds at
      equal int8 latency.
    - Widths 64, 128, 256 instead of 64, 256, 256, and one convolution in the first stage: large
      maps cost most of the time, wide small ones hold most of the weights.
    - The second convolution of a stage adds its input.
    - ReLU, not GELU (int8); norm and ReLU after each convolution, where they fuse.
    - Global average pooling instead of a last max pool.
    - Inputs above 64 pixels are reduced once more, by a 4x4 max pool after the first layer.
    - `width` multiplies all widths (make_divisible with 16).
"""

from __future__ import annotations

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model

__all__ = ["convnet"]

STEM_CHANNELS = 32
STAGES = ((64, 1), (128, 2), (256, 2))
"""Channels and number of convolutions per stage."""
CHANNEL_STEP = 16
"""Processors compute 8 or 16 channels at once: other widths cost time and give nothing."""
LARGEST_SMALL_INPUT = 64
"""Pixels up to which one layer of stride 2 stands before the first stage."""


def convnet(settings: Settings) -> Architecture:
    """Draw the plain network: a stem, then stages of one or two convolutions, pools between."""
    activation: Activation = settings.activation or "relu"
    channels = make_divisible(STEM_CHANNELS * settings.width, CHANNEL_STEP)
    blocks = [
        BlockSpec(op="conv", out_channels=channels, kernel_size=4, stride=2, activation=activation)
    ]
    for stage, (stage_channels, convolutions) in enumerate(STAGES):
        if stage > 0:
            blocks.append(_max_pool(channels, stride=2))
        elif settings.resolution > LARGEST_SMALL_INPUT:
            blocks.append(_max_pool(channels, stride=4))
        channels = make_divisible(stage_channels * settings.width, CHANNEL_STEP)
        conv = BlockSpec(op="conv", out_channels=channels, kernel_size=3, activation=activation)
        blocks += [conv, *[conv.model_copy(update={"skip": "identity"})] * (convolutions - 1)]
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
