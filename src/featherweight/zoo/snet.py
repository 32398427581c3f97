"""SNet 49, 146 and 535: the backbones of ThunderNet, ShuffleNetV2 with 5x5 depthwise kernels.

Source: Qin et al. 2019 (ThunderNet), arXiv 1903.11752, table 1.

Published at 224: 49M, 146M and 535M multiply-adds; top-1 error 39.7 % (49), 32.5 % (146). Here:
51,205,832 (875,548 params), 161,137,848 (1,572,748) and 535,354,640 (4,535,144).

Deviations and readings:
    - `snet146` is table 1 as printed (132, 264, 528) and has 161.1M multiply-adds, not 146M.
      `snet146_126` (126, 252, 504) has 148.4M, and the published totals of the detector come out
      with it: the authors' figures very likely belong to that width. 49 has 51.2M, not 49M.
    - Both branches of a unit are halves (see `shufflenet_v2`): so 535.4M are reproduced. The
      authors' code keeps the input's width on the shortcut of widening units (+1.4M for 146).
    - `width` multiplies the stages (rounded to multiples of 4), not the stem or last convolution.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from featherweight.architecture import Activation, Architecture, BlockSpec
from featherweight.zoo.model import Settings, add_model
from featherweight.zoo.published import Published
from featherweight.zoo.shufflenet_v2 import STAGE_UNITS, shufflenet_stages

__all__ = ["snet"]


class _Variant(NamedTuple):
    stem_channels: int
    stage_2_channels: int
    head_channels: int | None
    macs: int | None
    top1: float | None


KERNEL_SIZE = 5
TABLE_1 = {
    "snet49": _Variant(24, 60, 512, 49_000_000, 0.603),
    "snet146": _Variant(24, 132, None, None, None),
    "snet146_126": _Variant(24, 126, None, 146_000_000, 0.675),
    "snet535": _Variant(48, 248, None, 535_000_000, None),
}


def snet(settings: Settings, *, variant: str) -> Architecture:
    """Draw an SNet with the classifier it is trained with on ImageNet."""
    activation: Activation = settings.activation or "relu"
    table = TABLE_1[variant]
    stem, first = table.stem_channels, table.stage_2_channels
    if settings.width != 1.0:
        first = max(4, round(first * settings.width / 4) * 4)
    blocks = [
        BlockSpec(op="conv", out_channels=stem, kernel_size=3, stride=2, activation=activation),
        BlockSpec(op="max_pool", out_channels=stem, kernel_size=3, stride=2),
        *shufflenet_stages(
            tuple(zip(STAGE_UNITS, (first, 2 * first, 4 * first), strict=True)),
            in_channels=stem,
            keep_shortcut=False,
            activation=activation,
            kernel_size=KERNEL_SIZE,
        ),
    ]
    if table.head_channels is not None:
        blocks.append(
            BlockSpec(
                op="conv", out_channels=table.head_channels, kernel_size=1, activation=activation
            )
        )
    return Architecture(
        name=variant,
        input_shape=settings.input_shape,
        blocks=tuple(blocks),
        num_classes=settings.classes,
        padding=settings.padding,
    )


for _name, _variant in TABLE_1.items():
    add_model(
        _name,
        partial(snet, variant=_name),
        family="snet",
        published=()
        if _variant.macs is None
        else (
            Published(
                macs=_variant.macs,
                top1=_variant.top1,
                source="arXiv 1903.11752, tables 1 and 5",
            ),
        ),
    )
