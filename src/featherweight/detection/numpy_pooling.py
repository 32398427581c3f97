"""Position-sensitive pooling without torch: see pooling.py."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["HALF_PIXEL", "SAMPLES", "Pool", "pool_regions_numpy"]

Pool = Literal["average", "max"]

SAMPLES = 2
"""In each direction of a bin."""
HALF_PIXEL = {"average": 0.5, "max": 0.0}


def pool_regions_numpy(
    features: NDArray[np.float32],
    regions: NDArray[np.float32],
    *,
    bins: int,
    stride: int,
    pool: Pool = "average",
) -> NDArray[np.float32]:
    """Return what each region of one picture holds, (R, alpha, bins, bins).

    Args:
        features: (alpha bins^2, H, W).
        regions: boxes inside the picture, in its pixels, (R, 4).
        bins: side of the grid.
        stride: pixels from cell to cell of the map.
        pool: how the samples of a bin become one value.
    """
    channels, height, width = features.shape
    alpha, places, many = channels // bins**2, SAMPLES * bins, len(regions)
    scaled = regions.astype(np.float32) / np.float32(stride) - np.float32(HALF_PIXEL[pool])
    steps = (np.arange(places, dtype=np.float32) + 0.5) / places
    axes = []
    for low, high, size in ((0, 2, width), (1, 3, height)):
        values = scaled[:, low, None] + steps * (scaled[:, high] - scaled[:, low])[:, None]
        values = np.clip(values, 0.0, size - 1.0)
        first = np.minimum(values.astype(np.int64), max(size - 2, 0))
        axes.append((first, np.minimum(first + 1, size - 1), values - first))
    (left, right, across), (top, bottom, down) = axes
    maps = features.reshape(alpha, bins * bins, height * width).transpose(1, 2, 0)
    bin_of = np.arange(places) // SAMPLES
    own = (bin_of[:, None] * bins + bin_of[None, :])[None]  # (1, places, places)

    def at(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        picked = maps[own, rows[:, :, None] * width + columns[:, None, :]]
        return np.asarray(picked)

    right_share, down_share = across[:, None, :, None], down[:, :, None, None]
    above = at(top, left) * (1.0 - right_share) + at(top, right) * right_share
    below = at(bottom, left) * (1.0 - right_share) + at(bottom, right) * right_share
    seen = above * (1.0 - down_share) + below * down_share  # (R, places, places, alpha)
    parts = seen.reshape(many, bins, SAMPLES, bins, SAMPLES, alpha)
    pooled = parts.mean((2, 4)) if pool == "average" else parts.max((2, 4))
    return np.asarray(pooled.transpose(0, 3, 1, 2), dtype=np.float32)
