"""Blend every picture of a batch with another one of the same batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Blend", "Box", "draw_blend"]

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


@dataclass(frozen=True)
class Blend:
    """What one batch is blended with.

    Source: mixup, arXiv 1710.09412; CutMix, arXiv 1905.04899.

    Attributes:
        partners: int64 (N,), the row that each row is blended with.
        ratio: weight of the row's label; the partner's has the rest.
        box: what is pasted from the partner, of 1 - ratio of the area; `None` = both pictures
            shine through each other.
    """

    partners: Tensor
    ratio: float
    box: Box | None = None

    def pixels(self, inputs: Tensor) -> Tensor:
        """Return the blended pictures, (N, C, H, W)."""
        others = inputs[self.partners]
        if self.box is None:
            return torch.lerp(others, inputs, self.ratio)
        top, left, height, width = self.box
        place = (..., slice(top, top + height), slice(left, left + width))
        blended = inputs.clone()
        blended[place] = others[place]
        return blended


def draw_blend(
    count: int, *, size: int, mixup: float, cutmix: float, generator: torch.Generator
) -> Blend | None:
    """Return the blend of a batch, or `None` in 1 - `mixup` - `cutmix` of the cases.

    The ratio is uniform in 0..1, as in CutMix, and as where a teacher labels pictures of mixup
    (arXiv 2106.05237). Shares of zero draw no random number.

    Args:
        count: pictures of the batch.
        size: their side in pixels.
        mixup: share of the batches in which pictures shine through each other.
        cutmix: share of the batches in which a box is pasted.
        generator: where the random numbers come from.
    """
    if mixup + cutmix == 0.0:
        return None
    chance, ratio, down, right = torch.rand(4, generator=generator).tolist()
    partners = torch.randperm(count, generator=generator)
    if chance < mixup:
        return Blend(partners, ratio)
    if chance >= mixup + cutmix:
        return None
    side = round(size * math.sqrt(1.0 - ratio))
    box = (int(down * (size - side + 1)), int(right * (size - side + 1)), side, side)
    return Blend(partners, 1.0 - (side / size) ** 2, box)
