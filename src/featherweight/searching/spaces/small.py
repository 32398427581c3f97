"""For small pictures: plain convolutions and inverted residuals, by stages.

Source: our own. The zoo's `convnet`, and `mobilenet_v2` in its small form with ReLU, are points of
it at 32 pixels: on small pictures plain convolutions learn more in the same time, and a space of
inverted residuals alone could not leave them (docs/measured.md).
"""

from __future__ import annotations

from featherweight.searching.space import SPACES, SpaceSettings
from featherweight.searching.staged_space import Op, StageChoices, StagedSpace, StagedSpaceRecord

__all__ = ["small_space"]

_OPS: tuple[Op, ...] = ("conv", "separable", "mbconv3", "mbconv6")


def small_space(settings: SpaceSettings) -> StagedSpace:
    """Return seven stages, three of which halve the map; the others may be left out."""
    stages = (
        StageChoices(op=_OPS, out_channels=(16, 32, 64), repeats=(0, 1, 2)),
        StageChoices(op=_OPS, out_channels=(24, 48, 64), repeats=(0, 1, 2)),
        _halving(out_channels=(32, 64, 96, 128)),
        _halving(out_channels=(64, 128, 192, 256)),
        StageChoices(op=_OPS, out_channels=(96, 128, 192, 256), repeats=(0, 1, 2, 3)),
        _halving(out_channels=(128, 160, 192, 256)),
        StageChoices(op=_OPS, out_channels=(192, 256, 320), repeats=(0, 1)),
    )
    record = StagedSpaceRecord(
        name="small",
        stem_channels=(16, 32),
        stem_stride=1,
        stages=stages,
        head_channels=(0, 1280),
    )
    return StagedSpace(record, settings)


def _halving(*, out_channels: tuple[int, ...]) -> StageChoices:
    return StageChoices(
        op=_OPS,
        out_channels=out_channels,
        repeats=(1, 2, 3, 4),
        stride=2,
        reduction=("stride", "pool"),
    )


SPACES.add("small", small_space)
