"""VGG-16 for small images and its ghost form.

Source: Simonyan and Zisserman 2014, arXiv 1409.1556, table 1 (D); its CIFAR-10 form and the
ghost form: GhostNet, arXiv 1911.11907, section 4.1, tables 2 to 5.

Published with 10 classes at 32 x 32: VGG-16 15.0M params, 313M multiply-adds, 93.6 % on CIFAR-10;
Ghost-VGG-16 (ratio 2, 3 x 3) 7.7M, 158M, 93.7 %. Here: 14,986,698 params and 313,463,808
multiply-adds; 7,650,474 and 158,109,696.

Deviations and readings:
    - The CIFAR form has a norm after every convolution and one hidden linear layer of 512; the
      papers do not print it, but with this reading every row of tables 2 to 5 comes out.
    - The ghost form replaces all 13 convolutions, the first included.
    - Inputs above 64 pixels run through the same layers (max pools included), averaged at the
      end: the networks are meant for 32.
    - `width` multiplies the convolutions (make_divisible), not the hidden linear layer.
"""

from __future__ import annotations

from functools import partial

from featherweight.architecture import Activation, Architecture, BlockSpec, make_divisible
from featherweight.zoo.model import Settings, add_model

__all__ = ["vgg16"]

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of convolutions before each max pool."""
HEAD_CHANNELS = 512


def vgg16(settings: Settings, *, ghost_ratio: int) -> Architecture:
    """Draw VGG-16; a ghost ratio of 1 is the plain network."""
    activation: Activation = settings.activation or "relu"
    blocks = []
    for index, (stage_channels, convolutions) in enumerate(STAGES):
        channels = make_divisible(stage_channels * settings.width)
        conv = BlockSpec(
            op="conv",
            out_channels=channels,
            kernel_size=3,
            activation=activation,
            ghost_ratio=ghost_ratio,
        )
        blocks += [conv] * convolutions
        if index < len(STAGES) - 1:  # the average over the last map takes the last pool's place
            blocks.append(BlockSpec(op="max_pool", out_channels=channels, kernel_size=2, stride=2))
    return Architecture(
        name="vgg16" if ghost_ratio == 1 else "ghost_vgg16",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        head_channels=(HEAD_CHANNELS,),
        head_activation=activation,
        num_classes=settings.classes,
        padding=settings.padding,
    )


add_model("vgg16", partial(vgg16, ghost_ratio=1), family="vgg", default_resolution=32)
add_model("ghost_vgg16", partial(vgg16, ghost_ratio=2), family="vgg", default_resolution=32)
