"""ShuffleNetV1: grouped 1x1 convolutions, and a channel shuffle between them.

Source: Zhang et al. 2017, arXiv 1707.01083, table 1 and section 3.2.

Published with 1, 2, 3, 4, 8 groups: 143, 140, 137, 133, 137M multiply-adds without the
classifier; top-1 error 33.6, 32.7, 32.6, 32.8, 32.4 %. Here with the classifier: 143,078,976;
140,836,512; 137,460,672; 134,339,776; 138,365,952, and 1.53, 1.73, 1.87, 1.97 and 2.43M params.

Deviations and readings:
    - The bottleneck is a quarter of the unit's output, the channels of the shortcut included;
      a quarter of the new channels would lose 7 % of the multiply-adds. The first 1x1 of stage 2
      is not grouped (its second is).
    - Other widths: the paper multiplies every width and does not say how it rounds. Here the
      width of stage 2 is rounded up to a multiple of 4 x groups, so that its quarter can be
      grouped, and the stem to a multiple of the groups, so that what the first unit adds can be;
      both change nothing where the paper's numbers divide. At 1.5 x with 3 and 8 groups the stem
      is 24 (not 36), as in the authors' code.
    - The 3 x 3 average of the shortcut leaves out the padding (the authors' PyTorch code counts
      it): the same counts, other values along the border.
    - The order of the shuffle is the paper's, (groups, n) read as (n, groups); the authors' code
      has the inverse and stands after the depthwise convolution. Weights are not interchangeable.
    - The classifier has a bias; the authors' has none.
"""

from __future__ import annotations

import math
from functools import partial

from featherweight.architecture import Activation, Architecture, BlockSpec
from featherweight.zoo.model import Settings, add_model
from featherweight.zoo.published import Published

__all__ = ["shufflenet_v1"]

STEM_CHANNELS = 24
STAGE_2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Groups to the width of stage 2; stages 3 and 4 double it."""
STAGE_UNITS = (4, 8, 4)
AUTHORS_STEMS = {(3, 1.5): 24, (8, 1.5): 24}
"""(groups, width) to the stem of megvii-model/ShuffleNet-Series where no rule gives it."""

_TABLE_2 = {1: 0.336, 2: 0.327, 3: 0.326, 4: 0.328, 8: 0.324}
_TABLE_1_MACS = {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}
_PAPER = "arXiv 1707.01083, tables 1 and 2 (multiply-adds without the classifier)"
_TABLE_5 = "arXiv 1707.01083, table 5"
_SCALED = {
    3: (
        Published(width=0.5, macs=38_000_000, top1=0.568, source="arXiv 1707.01083, table 2"),
        Published(width=1.5, macs=292_000_000, top1=0.715, source=_TABLE_5),
        Published(width=2.0, macs=524_000_000, top1=0.737, source=_TABLE_5),
    )
}


def shufflenet_v1(settings: Settings, *, groups: int) -> Architecture:
    """Draw ShuffleNetV1 with a number of groups."""
    activation: Activation = settings.activation or "relu"
    width = settings.width
    stem = AUTHORS_STEMS.get((groups, width), _round_up(STEM_CHANNELS * width, groups))
    blocks = [
        BlockSpec(op="conv", out_channels=stem, kernel_size=3, stride=2, activation=activation),
        BlockSpec(op="max_pool", out_channels=stem, kernel_size=3, stride=2),
    ]
    for stage, units in enumerate(STAGE_UNITS):
        channels = 2**stage * _round_up(STAGE_2_CHANNELS[groups] * width, 4 * groups)
        for unit in range(units):
            first = stage == 0 and unit == 0
            blocks.append(
                BlockSpec(
                    op="shuffle_v1",
                    out_channels=channels,
                    stride=2 if unit == 0 else 1,
                    groups=groups,
                    entry_groups=1 if first else None,
                    hidden_channels=channels // 4,
                    activation=activation,
                )
            )
    return Architecture(
        name=f"shufflenet_v1_g{groups}",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


def _round_up(value: float, divisor: int) -> int:
    return math.ceil(round(value, 6) / divisor) * divisor


for _groups in STAGE_2_CHANNELS:
    add_model(
        f"shufflenet_v1_g{_groups}",
        partial(shufflenet_v1, groups=_groups),
        family="shufflenet_v1",
        published=(
            Published(
                macs=_TABLE_1_MACS[_groups] * 1_000_000,
                top1=round(1.0 - _TABLE_2[_groups], 3),
                source=_PAPER,
            ),
            *_SCALED.get(_groups, ()),
        ),
    )
