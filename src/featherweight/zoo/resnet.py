"""ResNet-20 for small images: plain 3x3 convolutions with identity skips.

Source: He et al. 2016, arXiv 1512.03385, section 4.2 (CIFAR-10, n = 3): three stages of three
residual blocks with 16, 32 and 64 channels; parameter-free shortcuts (option A, skip `pad`).

Published with 10 classes: 0.27M params, 8.75 % error on CIFAR-10 (ImageNet: none). Here, with
10 classes: 269,722 params, 40,551,040 multiply-adds at 32 x 32. (The paper's "FLOPs" are not
printed for this network.)

Deviations and readings:
    - Inputs above 64 pixels (ours; the paper has none) are first reduced to a quarter by a
      stem of stride 2 and a 3x3 max pool of stride 2, as in the paper's ImageNet networks.
    - `width` multiplies 16, 32 and 64 (make_divisible).
"""

from __future__ import annotations

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model

__all__ = ["resnet"]

STAGE_CHANNELS = (16, 32, 64)
BLOCKS_PER_STAGE = 3
LARGEST_SMALL_INPUT = 64
"""Pixels up to which the picture enters the first stage unreduced."""


def resnet(settings: Settings) -> Architecture:
    """Draw ResNet-20."""
    activation: Activation = settings.activation or "relu"
    widths = [make_divisible(channels * settings.width) for channels in STAGE_CHANNELS]
    reduce = settings.resolution > LARGEST_SMALL_INPUT
    blocks = [
        BlockSpec(
            op="conv", out_channels=widths[0], kernel_size=3, stride=2 if reduce else 1,
            activation=activation,
        )
    ]  # fmt: skip
    if reduce:
        blocks.append(BlockSpec(op="max_pool", out_channels=widths[0], kernel_size=3, stride=2))
    channels = widths[0]
    for stage, out_channels in enumerate(widths):
        for index in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 0 and index == 0 else 1
            equal = stride == 1 and channels == out_channels
            blocks.append(
                BlockSpec(
                    op="residual",
                    out_channels=out_channels,
                    stride=stride,
                    activation=activation,
                    skip="identity" if equal else "pad",
                )
            )
            channels = out_channels
    return Architecture(
        name="resnet",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


add_model("resnet", resnet, family="resnet", default_resolution=32)
