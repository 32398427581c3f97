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

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.detection.numpy_pooling import HALF_PIXEL, SAMPLES, Pool

__all__ = ["pool_regions"]


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
    alpha, places = channels // bins**2, SAMPLES * bins
    maps = features.reshape(count, alpha, bins * bins, height, width).transpose(1, 2)
    scaled = regions / stride - HALF_PIXEL[pool]
    steps = (torch.arange(places, dtype=features.dtype, device=features.device) + 0.5) / places
    x = scaled[..., 0:1] + steps * (scaled[..., 2:3] - scaled[..., 0:1])  # (N, R, places)
    y = scaled[..., 1:2] + steps * (scaled[..., 3:4] - scaled[..., 1:2])
    x, y = (2.0 * x / max(width - 1, 1) - 1.0, 2.0 * y / max(height - 1, 1) - 1.0)
    many = regions.shape[1]
    shape = (count, many, bins, SAMPLES, bins, SAMPLES)
    across = x.reshape(count, many, 1, 1, bins, SAMPLES).expand(shape)
    down = y.reshape(count, many, bins, SAMPLES, 1, 1).expand(shape)
    # (N, R, row, sample, column, sample, xy) -> a grid for the map of each bin
    grid = torch.stack([across, down], dim=-1).permute(0, 2, 4, 1, 3, 5, 6)
    seen = functional.grid_sample(
        maps.reshape(count * bins * bins, alpha, height, width),
        grid.reshape(count * bins * bins, many, SAMPLES**2, 2),
        padding_mode="border",
        align_corners=True,
    )
    pooled = seen.mean(-1) if pool == "average" else seen.amax(-1)
    return pooled.reshape(count, bins, bins, alpha, many).permute(0, 4, 3, 1, 2)
