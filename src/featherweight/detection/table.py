"""Boxes of many pictures as one array: what is right for them, and what a detector answers.

Boxes are x1, y1, x2, y2 in shares of the picture's sides, so that neither depends on the size at
which a picture is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.detection.average_precision import MOST, Detections, Truth
from featherweight.errors import DataError

__all__ = [
    "ANSWER_COLUMNS",
    "DETECTION",
    "DETECTIONS",
    "NO_OBJECT",
    "TARGET_COLUMNS",
    "check_truths",
    "detections_of",
    "pack_detections",
    "pack_truths",
    "truths_of",
]

DETECTION = "detection"
"""The task of pictures with boxes, and of what answers them."""
DETECTIONS = "detections"
"""Name of a detector's only output, float32 (N, 100, 6): box, score, class; the surest first."""
NO_OBJECT = -1
"""Class of the rows that fill an array up."""
TARGET_COLUMNS = 6
"""Box, class, and 1 for a box that is neither to be learnt nor to be found (a crowd)."""
ANSWER_COLUMNS = 6


def pack_truths(pictures: Sequence[Truth]) -> NDArray[np.float32]:
    """Return the objects of each picture, in shares of its sides, as float32 (N, M, 6)."""
    most = max([1, *(len(one.labels) for one in pictures)])
    table = np.zeros((len(pictures), most, TARGET_COLUMNS), dtype=np.float32)
    table[..., 4] = NO_OBJECT
    for row, one in zip(table, pictures, strict=True):
        count = len(one.labels)
        row[:count, :4], row[:count, 4], row[:count, 5] = one.boxes, one.labels, one.crowd
    return table


def truths_of(table: NDArray[Any]) -> list[Truth]:
    """Return what `pack_truths` packed.

    Raises:
        DataError: no such array.
    """
    check_truths(table)
    found = []
    for row in table:
        own = row[row[:, 4] != NO_OBJECT]
        found.append(Truth(own[:, :4], own[:, 4].astype(np.int64), own[:, 5] > 0))
    return found


def check_truths(table: NDArray[Any]) -> None:
    """Raise DataError unless an array has the form of `pack_truths`."""
    if table.ndim != 3 or table.shape[2] != TARGET_COLUMNS or table.dtype.kind != "f":
        raise DataError(
            f"boxes of type {table.dtype} and shape {table.shape}",
            allowed=f"float32 (pictures, most boxes, {TARGET_COLUMNS})",
        )


def pack_detections(pictures: Sequence[Detections]) -> NDArray[np.float32]:
    """Return the answers to each picture as float32 (N, 100, 6)."""
    table = np.zeros((len(pictures), MOST, ANSWER_COLUMNS), dtype=np.float32)
    table[..., 5] = NO_OBJECT
    for row, one in zip(table, pictures, strict=True):
        count = min(MOST, len(one.labels))
        row[:count, :4] = one.boxes[:count]
        row[:count, 4], row[:count, 5] = one.scores[:count], one.labels[:count]
    return table


def detections_of(table: NDArray[Any]) -> list[Detections]:
    """Return what `pack_detections` packed."""
    found = []
    for row in table:
        own = row[row[:, 5] != NO_OBJECT]
        found.append(Detections(own[:, :4], own[:, 4], own[:, 5].astype(np.int64)))
    return found
