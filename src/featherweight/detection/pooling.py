"""Position-sensitive pooling: each bin of a region is read from channels of its own.

Of a map with C = alpha bins^2 channels, channel (c bins + row) bins + column belongs to bin (row,
column) of output c. Every bin is the mean of 2 x 2 samples between the pixels, which lie half a
pixel from the corners of the map: what `torchvision.ops.ps_roi_align` computes with
`sampling_ratio=2`. The authors' own kernel takes the largest of the four samples, without that half
pixel (`pool="max"`): weights trained with one do not suit the other.

Source: Li et al., Light-Head R-CNN, arXiv 1711.07264, section 3.2, with the samples of RoIAlign,
arXiv 1703.06870, section 3.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["Pool", "pool_regions", "pool_regions_numpy"]

Pool = Literal["average", "max"]

_SAMPLES = 2
"""In each direction of a bin."""
_HALF_PIXEL = {"average": 0.5, "max": 0.0}


def pool_regions(
    features: Tensor, regions: Tensor, *, bins: int, stride: int, pool: Pool = "average"
) -> Tensor:
    """Return what each region holds, (N, R, alpha, bins, bins); gradients reach the features.

    Args:
        features: (N, alpha bins^2, H, W).
        regions: boxes inside the picture, in its pixels, (N, R, 4): of every picture equally many.
        bins: side of the grid.
        stride: pixels from cell to cell of the map.
        pool: how the samples of a bin become one value.
    """
    count, channels, height, width = features.shape
    alpha, places = channels // bins**2, _SAMPLES * bins
    maps = features.reshape(count, alpha, bins * bins, height, width).transpose(1, 2)
    scaled = regions / stride - _HALF_PIXEL[pool]
    steps = (torch.arange(places, dtype=features.dtype, device=features.device) + 0.5) / places
    x = scaled[..., 0:1] + steps * (scaled[..., 2:3] - scaled[..., 0:1])  # (N, R, places)
    y = scaled[..., 1:2] + steps * (scaled[..., 3:4] - scaled[..., 1:2])
    x, y = (2.0 * x / max(width - 1, 1) - 1.0, 2.0 * y / max(height - 1, 1) - 1.0)
    many = regions.shape[1]
    shape = (count, many, bins, _SAMPLES, bins, _SAMPLES)
    across = x.reshape(count, many, 1, 1, bins, _SAMPLES).expand(shape)
    down = y.reshape(count, many, bins, _SAMPLES, 1, 1).expand(shape)
    # (N, R, row, sample, column, sample, xy) -> a grid for the map of each bin
    grid = torch.stack([across, down], dim=-1).permute(0, 2, 4, 1, 3, 5, 6)
    seen = functional.grid_sample(
        maps.reshape(count * bins * bins, alpha, height, width),
        grid.reshape(count * bins * bins, many, _SAMPLES**2, 2),
        padding_mode="border",
        align_corners=True,
    )
    pooled = seen.mean(-1) if pool == "average" else seen.amax(-1)
    return pooled.reshape(count, bins, bins, alpha, many).permute(0, 4, 3, 1, 2)


def pool_regions_numpy(
    features: NDArray[np.float32],
    regions: NDArray[np.float32],
    *,
    bins: int,
    stride: int,
    pool: Pool = "average",
) -> NDArray[np.float32]:
    """Return the same of one picture, without torch, (R, alpha, bins, bins).

    Args:
        features: (alpha bins^2, H, W).
        regions: boxes inside the picture, in its pixels, (R, 4).
        bins: side of the grid.
        stride: pixels from cell to cell of the map.
        pool: how the samples of a bin become one value.
    """
    channels, height, width = features.shape
    alpha, places, many = channels // bins**2, _SAMPLES * bins, len(regions)
    scaled = regions.astype(np.float32) / np.float32(stride) - np.float32(_HALF_PIXEL[pool])
    steps = (np.arange(places, dtype=np.float32) + 0.5) / places
    axes = []
    for low, high, size in ((0, 2, width), (1, 3, height)):
        values = scaled[:, low, None] + steps * (scaled[:, high] - scaled[:, low])[:, None]
        values = np.clip(values, 0.0, size - 1.0)
        first = np.minimum(values.astype(np.int64), max(size - 2, 0))
        axes.append((first, np.minimum(first + 1, size - 1), values - first))
    (left, right, across), (top, bottom, down) = axes
    maps = features.reshape(alpha, bins * bins, height * width).transpose(1, 2, 0)
    bin_of = np.arange(places) // _SAMPLES
    own = (bin_of[:, None] * bins + bin_of[None, :])[None]  # (1, places, places)

    def at(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        picked = maps[own, rows[:, :, None] * width + columns[:, None, :]]
        return np.asarray(picked)

    right_share, down_share = across[:, None, :, None], down[:, :, None, None]
    above = at(top, left) * (1.0 - right_share) + at(top, right) * right_share
    below = at(bottom, left) * (1.0 - right_share) + at(bottom, right) * right_share
    seen = above * (1.0 - down_share) + below * down_share  # (R, places, places, alpha)
    parts = seen.reshape(many, bins, _SAMPLES, bins, _SAMPLES, alpha)
    pooled = parts.mean((2, 4)) if pool == "average" else parts.max((2, 4))
    return np.asarray(pooled.transpose(0, 3, 1, 2), dtype=np.float32)
