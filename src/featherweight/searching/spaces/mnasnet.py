"""MnasNet's space, factorised by stages, and the flat one that decides every layer for itself.

Source: Tan et al. 2018, arXiv 1807.11626v3, section 4: seven blocks of layers that are alike; per
block the convolution, kernel 3 or 5, squeeze-and-excitation 0 or 0.25, skip (pooling, identity or
none), 0.75, 1 or 1.25 of MobileNetV2's filters, and one layer less, as many, or one more.

Deviations and readings:
    - The options printed multiply to 324 a block; the 432 of the text follow where the inverted
      bottleneck counts twice, with expansion 3 and 6, as in the networks that were found.
    - Where MobileNetV2 has one layer, one less would be none: 1, 2 or 3 layers there.
    - Filters are rounded to multiples of 8; three quarters of 16 would be 16 again, and of 24 24:
      to multiples of 4 there. MnasNet-A1 has 112 filters in its fifth block, 1.167
      times MobileNetV2's: it is no point of the space that the paper prints.
"""

from __future__ import annotations

from typing import NamedTuple

from featherweight.architecture import make_divisible
from featherweight.searching.space import SPACES, SpaceSettings
from featherweight.searching.staged_space import StageChoices, StagedSpace, StagedSpaceRecord

__all__ = ["mnasnet_space"]


class _Row(NamedTuple):
    channels: int
    repeats: int
    stride: int


ROWS = (
    _Row(16, 1, 1),
    _Row(24, 2, 2),
    _Row(32, 3, 2),
    _Row(64, 4, 2),
    _Row(96, 3, 1),
    _Row(160, 3, 2),
    _Row(320, 1, 1),
)
"""Filters, layers and strides of MobileNetV2 (arXiv 1801.04381, table 2)."""
RATIOS = (0.75, 1.0, 1.25)


def _filters(channels: int, ratio: float) -> int:
    return make_divisible(channels * ratio, 4 if channels < 32 else 8)


def mnasnet_space(settings: SpaceSettings, *, per_layer: bool) -> StagedSpace:
    """Return the space, factorised or flat."""
    stages = tuple(
        StageChoices(
            op=("conv", "separable", "mbconv3", "mbconv6"),
            kernel_size=(3, 5),
            squeeze=(0.0, 0.25),
            skip=("pool", "identity", "none"),
            out_channels=tuple(_filters(row.channels, ratio) for ratio in RATIOS),
            repeats=tuple(max(row.repeats, 2) + change for change in (-1, 0, 1)),
            stride=row.stride,
        )
        for row in ROWS
    )
    name = "mnasnet_flat" if per_layer else "mnasnet"
    return StagedSpace(StagedSpaceRecord(name=name, stages=stages, per_layer=per_layer), settings)


SPACES.add("mnasnet", lambda settings: mnasnet_space(settings, per_layer=False))
SPACES.add("mnasnet_flat", lambda settings: mnasnet_space(settings, per_layer=True))
