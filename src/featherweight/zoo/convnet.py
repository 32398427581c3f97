"""A plain 3x3 network for small images: few large convolutions, nothing else.

Source: our own drawing after Jordan 2024, arXiv 2404.00498 (airbench94, table of section 3):
a thin first layer, then stages of two 3x3 convolutions with a max pool between them.

Published: nothing for this drawing (airbench94 itself: 94 % on CIFAR-10). Here, with 10
classes: 806,378 params, 24,774,848 multiply-adds at 32 x 32.

On small pictures such a network trains several times faster per accuracy than a depthwise one,
because its arithmetic runs near the processor's peak, and it survives int8 without loss.

Deviations and readings:
    - The first layer is a learned 3x3 convolution of 32 channels, not a frozen 2x2 whitening
      (a training from scratch starts it as a whitening: `featherweight.training.start`).
    - Each stage pools before its convolutions, not between them: more multiply-adds at equal int8
      latency.
    - Widths 64, 96, 224 instead of 64, 256, 256, and one convolution in the first stage: large
      maps cost most of the time, wide small ones hold most of the weights.
    - The second convolution of a stage adds its input.
    - ReLU, not GELU (int8); norm and ReLU after each convolution, where they fuse.
    - Global average pooling instead of a last max pool.
    - Inputs above 64 pixels are first reduced to a quarter by a stem of stride 2 and a max pool.
    - `width` multiplies all widths (make_divisible with 16).
"""

from __future__ import annotations

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model

__all__ = ["convnet"]

STEM_CHANNELS = 32
STAGES = ((64, 1), (96, 2), (224, 2))
"""Channels and number of convolutions per stage."""
CHANNEL_STEP = 16
"""Processors compute 8 or 16 channels at once: other widths cost time and give nothing."""
LARGEST_SMALL_INPUT = 64
"""Pixels up to which the picture enters the first stage unreduced."""


def convnet(settings: Settings) -> Architecture:
    """Draw the plain network: stem, then a max pool and one or two convolutions per stage."""
    activation: Activation = settings.activation or "relu"
    reduce = settings.resolution > LARGEST_SMALL_INPUT
    stem_channels = make_divisible(STEM_CHANNELS * settings.width, CHANNEL_STEP)
    blocks = [
        BlockSpec(
            op="conv", out_channels=stem_channels, kernel_size=3, stride=2 if reduce else 1,
            activation=activation,
        )
    ]  # fmt: skip
    if reduce:
        blocks.append(BlockSpec(op="max_pool", out_channels=stem_channels, kernel_size=2, stride=2))
    channels = stem_channels
    for stage_channels, convolutions in STAGES:
        pool = BlockSpec(op="max_pool", out_channels=channels, kernel_size=2, stride=2)
        channels = make_divisible(stage_channels * settings.width, CHANNEL_STEP)
        conv = BlockSpec(op="conv", out_channels=channels, kernel_size=3, activation=activation)
        blocks += [pool, conv]
        blocks += [conv.model_copy(update={"skip": "identity"})] * (convolutions - 1)
    return Architecture(
        name="convnet",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


add_model("convnet", convnet, family="convnet", default_resolution=32)
