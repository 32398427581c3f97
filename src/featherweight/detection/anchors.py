"""Anchors: the boxes that a head's offsets start from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featherweight.detection.detector import Detector, SsdLite, ThunderNet
from featherweight.detection.parts import DELTAS, dense_part
from featherweight.layers import graph

__all__ = ["anchors_of", "cell_anchors"]


def anchors_of(detector: Detector) -> tuple[NDArray[np.float32], ...]:
    """Return the anchors of each map as boxes in pixels of the input, (H W A, 4) each.

    Cells row by row, the anchors of a cell after one another, as the outputs of the dense part
    have them. Anchors reach over the edge of the picture.

    Source: ThunderNet, arXiv 1903.11752, section 3.2 (25 anchors); SSD, arXiv 1512.02325, section
    2.2, with the scales of SSDLite. Cells are counted from their middles: of ThunderNet's 10,000
    anchors at 320 pixels 3,580 lie inside the picture.
    """
    height, width = detector.input_shape[1:]
    outputs = graph(dense_part(detector)).outputs
    cells = [one.shape[1:] for one in outputs if one.name.partition(".")[0] == DELTAS]
    head = detector.head
    if isinstance(head, ThunderNet):
        shapes = [_thundernet_shapes(head)]
    else:
        sides = (width, height)
        shapes = [
            share * np.array(sides, dtype=np.float64) for share in _ssdlite_shapes(head, len(cells))
        ]
    return tuple(
        cell_anchors(shape, rows=rows, columns=columns, size=(width, height))
        for shape, (rows, columns) in zip(shapes, cells, strict=True)
    )


def cell_anchors(
    shapes: NDArray[np.float64], *, rows: int, columns: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return boxes around the middle of every cell of a map, (rows columns A, 4).

    Args:
        shapes: width and height of each anchor in pixels, (A, 2).
        rows: of the map.
        columns: of the map.
        size: width and height of the input in pixels.
    """
    width, height = size
    x = (np.arange(columns) + 0.5) * width / columns
    y = (np.arange(rows) + 0.5) * height / rows
    centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
    half = shapes[None] / 2.0
    boxes = np.concatenate([centres - half, centres + half], axis=2)
    return np.asarray(boxes.reshape(-1, 4), dtype=np.float32)


def _thundernet_shapes(head: ThunderNet) -> NDArray[np.float64]:
    """Return (A, 2): every size at every ratio, with the same area."""
    return np.array(
        [
            (size / math.sqrt(ratio), size * math.sqrt(ratio))
            for size in head.anchor_sizes
            for ratio in head.anchor_ratios
        ]
    )


def _ssdlite_shapes(head: SsdLite, maps: int) -> Sequence[NDArray[np.float64]]:
    """Return shares of the picture, (A, 2) for each map: squares, one between maps, and ratios."""
    fine = list(head.fine_anchors)
    found: list[NDArray[np.float64]] = []
    if head.fine_channels:
        found, fine, maps = [np.array(fine)], [], maps - 1
    scales = np.linspace(head.least_scale, head.most_scale, maps).tolist()
    for scale, following in zip(scales, [*scales[1:], 1.0], strict=True):
        between = math.sqrt(scale * following)
        shapes = [(scale, scale), (between, between)]
        for ratio in head.ratios:
            wide = (scale * math.sqrt(ratio), scale / math.sqrt(ratio))
            shapes += [wide, wide[::-1]]
        found.append(np.array(shapes + fine))
        fine = []
    return found
