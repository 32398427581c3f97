"""ShuffleNetV2: channel split instead of grouped convolutions, with torchvision's first units.

Source: Ma et al. 2018, arXiv 1807.11164, table 5; large networks: appendix table 2.

Published at 224: 0.5x 41M, 1x 146M, 1.5x 299M, 2x 591M multiply-adds; top-1 error 39.7, 30.6,
27.4, 25.1 %. Here, `shufflenet_v2_paper`: 40,476,448; 145,814,296; 298,970,656; 590,783,000
(1,366,792; 2,279,760; 3,507,720; 7,403,600 params); `shufflenet_v2`: 40,476,448; 144,907,992;
295,759,392; 583,253,464 (1,366,792; 2,278,604; 3,503,624; 7,393,996). The large forms: 2.3G and
12.7G; here 2,314,702,176 and 12,558,378,288 (16,576,898 and 87,218,225).

Deviations and readings:
    - `shufflenet_v2` halves both branches of every unit, as torchvision does, whose weights it
      takes. `shufflenet_v2_paper` keeps the input's width on the shortcut of a widening unit, as
      the authors' code does (24 in the first one; at most half of the output); only that gives
      the published multiply-adds.
    - The shuffle comes at the end of every unit (torchvision). The authors' code takes even and
      odd channels at the start of the next: the same functions, other channel order, so their
      weights are not interchangeable.
    - Widths exist in the paper for 0.5, 1, 1.5 and 2 only; others interpolate table 5 linearly
      and round to a multiple of 4. The last convolution has 1024 channels, 2048 from 2 x on.
      The stem has 24 at every width.
    - The authors' 2 x network drops out 20 % before the classifier; torchvision does not, nor
      does this.
    - `shufflenet_v2_50` and `shufflenet_v2_164_se` follow appendix table 2 (the latter with SE
      after the last 1x1 of a branch, a quarter wide, and residual branches). The authors' large
      code is another network (grouped 3x3, three more classifiers) and is not built.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec
from featherweight.zoo.model import Settings, add_model
from featherweight.zoo.published import Published

__all__ = ["shufflenet_stages", "shufflenet_v2", "shufflenet_v2_large", "stage_width"]

STEM_CHANNELS = 24
STAGE_UNITS = (4, 8, 4)
STAGE_2_CHANNELS = {0.5: 48, 1.0: 116, 1.5: 176, 2.0: 244}
"""Table 5: width multiplier to the channels of stage 2; stages 3 and 4 double it."""
HEAD_CHANNELS, WIDE_HEAD_CHANNELS = 1024, 2048

_TABLE_8 = "arXiv 1807.11164, table 8"
PUBLISHED = (
    Published(width=0.5, params=1_400_000, macs=41_000_000, top1=0.603, source=_TABLE_8),
    Published(width=1.0, params=2_300_000, macs=146_000_000, top1=0.694, source=_TABLE_8),
    Published(width=1.5, params=3_500_000, macs=299_000_000, top1=0.726, source=_TABLE_8),
    Published(width=2.0, params=7_400_000, macs=591_000_000, top1=0.749, source=_TABLE_8),
)


class _Large(NamedTuple):
    stem: tuple[int, ...]
    units: tuple[int, ...]
    channels: tuple[int, ...]
    squeeze: bool
    published: tuple[Published, ...]


_APPENDIX = "arXiv 1807.11164, appendix, table 2"
LARGE = {
    "shufflenet_v2_50": _Large(
        (64,),
        (3, 4, 6, 3),
        (244, 488, 976, 1952),
        squeeze=False,
        published=(Published(macs=2_300_000_000, top1=0.772, source=_APPENDIX),),
    ),
    "shufflenet_v2_164_se": _Large(
        (64, 64, 128),
        (10, 10, 23, 10),
        (340, 680, 1360, 2720),
        squeeze=True,
        published=(Published(macs=12_700_000_000, top1=0.814, source=_APPENDIX),),
    ),
}


def shufflenet_v2(settings: Settings, *, keep_shortcut: bool) -> Architecture:
    """Draw ShuffleNetV2.

    Args:
        settings: the checked settings.
        keep_shortcut: whether the shortcut of a widening unit keeps the input's width (authors)
            or gets half of the output (torchvision).
    """
    activation: Activation = settings.activation or "relu"
    first = stage_width(settings.width)
    blocks = [
        BlockSpec(
            op="conv", out_channels=STEM_CHANNELS, kernel_size=3, stride=2, activation=activation
        ),
        BlockSpec(op="max_pool", out_channels=STEM_CHANNELS, kernel_size=3, stride=2),
        *shufflenet_stages(
            tuple(zip(STAGE_UNITS, (first, 2 * first, 4 * first), strict=True)),
            in_channels=STEM_CHANNELS,
            keep_shortcut=keep_shortcut,
            activation=activation,
        ),
        BlockSpec(
            op="conv",
            out_channels=HEAD_CHANNELS if settings.width < 2.0 else WIDE_HEAD_CHANNELS,
            kernel_size=1,
            activation=activation,
        ),
    ]
    return Architecture(
        name="shufflenet_v2",
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


def shufflenet_v2_large(settings: Settings, *, variant: str) -> Architecture:
    """Draw a large ShuffleNetV2 of the appendix."""
    activation: Activation = settings.activation or "relu"
    table = LARGE[variant]
    stem = tuple(_even(channels * settings.width) for channels in table.stem)
    widths = tuple(_even(channels * settings.width) for channels in table.channels)
    blocks = [
        BlockSpec(
            op="conv",
            out_channels=channels,
            kernel_size=3,
            stride=2 if index == 0 else 1,
            activation=activation,
        )
        for index, channels in enumerate(stem)
    ]
    blocks.append(BlockSpec(op="max_pool", out_channels=stem[-1], kernel_size=3, stride=2))
    blocks += shufflenet_stages(
        tuple(zip(table.units, widths, strict=True)),
        in_channels=stem[-1],
        keep_shortcut=True,
        activation=activation,
        squeeze=table.squeeze,
        residual=table.squeeze,
        first_stride=1,
    )
    blocks.append(
        BlockSpec(op="conv", out_channels=WIDE_HEAD_CHANNELS, kernel_size=1, activation=activation)
    )
    return Architecture(
        name=variant,
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


def shufflenet_stages(
    stages: tuple[tuple[int, int], ...],
    *,
    in_channels: int,
    keep_shortcut: bool,
    activation: Activation,
    kernel_size: int = 3,
    squeeze: bool = False,
    residual: bool = False,
    first_stride: int = 2,
) -> list[BlockSpec]:
    """Return the units of stages given as (units, channels); the first unit of each reduces.

    Args:
        stages: number of units and output channels of each stage.
        in_channels: width that enters the first stage.
        keep_shortcut: see `shufflenet_v2`.
        activation: of all units.
        kernel_size: of the depthwise convolutions.
        squeeze: squeeze-and-excitation in every unit, a quarter of the branch wide.
        residual: add its input to the branch of every unit that keeps the width.
        first_stride: stride of the first stage.
    """
    blocks = []
    for stage, (units, channels) in enumerate(stages):
        for unit in range(units):
            widens = unit == 0
            half = channels // 2
            shortcut = min(in_channels, half) if widens and keep_shortcut else half
            blocks.append(
                BlockSpec(
                    op="shuffle_v2",
                    out_channels=channels,
                    kernel_size=kernel_size,
                    stride=(first_stride if stage == 0 else 2) if widens else 1,
                    hidden_channels=half,
                    shortcut_channels=shortcut if shortcut != half else None,
                    se_channels=max(1, (channels - shortcut) // 4) if squeeze else 0,
                    activation=activation,
                    skip="identity" if residual and not widens else "none",
                )
            )
        in_channels = channels
    return blocks


def stage_width(width: float) -> int:
    """Return the channels of stage 2 at a width multiplier: table 5, between its rows linear."""
    if width in STAGE_2_CHANNELS:
        return STAGE_2_CHANNELS[width]
    multipliers = sorted(STAGE_2_CHANNELS)
    inside = [right for right in multipliers[1:] if width <= right] or [multipliers[-1]]
    right = inside[0]
    left = multipliers[multipliers.index(right) - 1]
    if width < multipliers[0]:
        value = STAGE_2_CHANNELS[left] * width / left
    else:
        slope = (STAGE_2_CHANNELS[right] - STAGE_2_CHANNELS[left]) / (right - left)
        value = STAGE_2_CHANNELS[left] + slope * (width - left)
    return max(4, round(value / 4) * 4)


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)


for _name, _keep in (("shufflenet_v2", False), ("shufflenet_v2_paper", True)):
    add_model(
        _name,
        partial(shufflenet_v2, keep_shortcut=_keep),
        family="shufflenet_v2",
        published=PUBLISHED,
    )
for _name, _table in LARGE.items():
    add_model(
        _name,
        partial(shufflenet_v2_large, variant=_name),
        family="shufflenet_v2",
        published=_table.published,
    )
