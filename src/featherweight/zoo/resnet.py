"""ResNet-20 and -56 for small images, and Ghost-ResNet-56: 3x3 convolutions, identity skips.

Source: He et al. 2016, arXiv 1512.03385, section 4.2 (CIFAR-10, n = 3): three stages of three
residual blocks (ResNet-56: nine) with 16, 32 and 64 channels; parameter-free shortcuts (option
A, skip `pad`). Ghost form: GhostNet, arXiv 1911.11907, table 5.

Published with 10 classes: 0.27M params, 8.75 % error on CIFAR-10 (ImageNet: none). Here, with
10 classes: 269,722 params, 40,551,040 multiply-adds at 32 x 32. (The paper's "FLOPs" are not
printed for this network.) ResNet-56: 0.85M params, 125M multiply-adds, 93.0 % (GhostNet's table
5); here 853,018 and 125,485,696. Ghost-ResNet-56 (ratio 2): 0.43M, 63M, 92.7 %; here 429,882 and
63,009,408.

Deviations and readings:
    - Inputs above 64 pixels (ours; the paper has none) are first reduced to a quarter by a
      stem of stride 2 and a 3x3 max pool of stride 2, as in the paper's ImageNet networks.
    - Ghost-ResNet-56 replaces all convolutions. The published 0.43M and 63M come out with cheap
      kernels of 1 x 1 only (`cheap_kernel_size` 1); with 3 x 3, which the text suggests, they
      would be 438,010 and 65,139,328. The network that has the published figures is built.
    - `width` multiplies 16, 32 and 64 (make_divisible).
"""

from __future__ import annotations

from functools import partial

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model

__all__ = ["resnet"]

STAGE_CHANNELS = (16, 32, 64)
LARGEST_SMALL_INPUT = 64
"""Pixels up to which the picture enters the first stage unreduced."""


def resnet(
    settings: Settings, *, blocks_per_stage: int, ghost_ratio: int = 1, cheap_kernel_size: int = 3
) -> Architecture:
    """Draw a ResNet of 6 n + 2 layers with n blocks per stage, plain or of ghost modules."""
    activation: Activation = settings.activation or "relu"
    widths = [make_divisible(channels * settings.width) for channels in STAGE_CHANNELS]
    reduce = settings.resolution > LARGEST_SMALL_INPUT
    blocks = [
        BlockSpec(
            op="conv",
            out_channels=widths[0],
            kernel_size=3,
            stride=2 if reduce else 1,
            activation=activation,
            ghost_ratio=ghost_ratio,
            cheap_kernel_size=cheap_kernel_size,
        )
    ]
    if reduce:
        blocks.append(BlockSpec(op="max_pool", out_channels=widths[0], kernel_size=3, stride=2))
    channels = widths[0]
    for stage, out_channels in enumerate(widths):
        for index in range(blocks_per_stage):
            stride = 2 if stage > 0 and index == 0 else 1
            equal = stride == 1 and channels == out_channels
            blocks.append(
                BlockSpec(
                    op="residual",
                    out_channels=out_channels,
                    stride=stride,
                    activation=activation,
                    skip="identity" if equal else "pad",
                    ghost_ratio=ghost_ratio,
                    cheap_kernel_size=cheap_kernel_size,
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


for _name, _draw in {
    "resnet": partial(resnet, blocks_per_stage=3),
    "resnet56": partial(resnet, blocks_per_stage=9),
    "ghost_resnet56": partial(resnet, blocks_per_stage=9, ghost_ratio=2, cheap_kernel_size=1),
}.items():
    add_model(_name, _draw, family="resnet", default_resolution=32)
