"""Blend every picture of a batch with another one of the same batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Blend", "draw_blend"]


@dataclass(frozen=True)
class Blend:
    """What one batch is blended with.

    Source: mixup, arXiv 1710.09412.

    Attributes:
        partners: int64 (N,), the row that each row is blended with.
        ratio: weight of the row itself; the partner has the rest.
    """

    partners: Tensor
    ratio: float

    def pixels(self, inputs: Tensor) -> Tensor:
        """Return ratio * inputs + (1 - ratio) * their partners, (N, C, H, W)."""
        return torch.lerp(inputs[self.partners], inputs, self.ratio)


def draw_blend(count: int, *, share: float, generator: torch.Generator) -> Blend | None:
    """Return the blend of a batch of `count` pictures, or `None` in 1 - `share` of the cases.

    The ratio is uniform in 0..1, as where a teacher labels the blended pictures (arXiv
    2106.05237). A share of zero draws no random number.
    """
    if share == 0.0:
        return None
    chance, ratio = torch.rand(2, generator=generator).tolist()
    partners = torch.randperm(count, generator=generator)
    return Blend(partners, ratio) if chance < share else None
