"""Anchors for the objects that there are: sizes from the training boxes instead of COCO's.

An anchor is an object where it overlaps one by half. On blood cells the published sizes leave a
class of three without any such anchor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.detection.detector import Detector, ThunderNet
from featherweight.detection.table import NO_OBJECT

__all__ = ["object_sides", "suited_to"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LEAST_RATIO = 1.25
"""Of neighbouring sizes: closer ones overlap the same objects."""
_MUCH_SMALLER = 0.8
"""Than SSDLite's smallest anchors: such objects get anchors of their own."""


def object_sides(targets: NDArray[Any]) -> tuple[float, ...]:
    """Return five sizes of objects, rising, as the square root of their share of the picture.

    The 5, 25, 50, 75 and 95 % quantiles, with every class counting the same, spread so that each is
    at least 1.25 times the one before.

    Args:
        targets: of the training pictures, (N, M, 6) of detection/table.py, with at least one box.
    """
    rows = targets[(targets[..., 4] != NO_OBJECT) & (targets[..., 5] == 0)].astype(np.float64)
    sides = np.sqrt((rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1]))
    _, classes, counts = np.unique(rows[:, 4], return_inverse=True, return_counts=True)
    order = np.argsort(sides)
    reached = np.cumsum(1.0 / counts[classes[order]])
    places = np.searchsorted(reached, np.array(_QUANTILES) * reached[-1])
    found = sides[order][np.minimum(places, len(sides) - 1)].tolist()
    middle = len(found) // 2
    for place in range(middle + 1, len(found)):
        found[place] = max(found[place], _LEAST_RATIO * found[place - 1])
    for place in range(middle - 1, -1, -1):
        found[place] = min(found[place], found[place + 1] / _LEAST_RATIO)
    return tuple(round(side, 4) for side in found)


def suited_to(detector: Detector, sides: tuple[float, ...]) -> Detector:
    """Return a detector with anchors for objects of these sizes.

    ThunderNet's anchors have them; SSDLite's first map gets a square anchor more for each that is
    much smaller than what it has.

    Args:
        detector: of any head.
        sides: of `object_sides`.
    """
    head = detector.head
    if isinstance(head, ThunderNet):
        sizes = tuple(round(detector.resolution * side, 1) for side in sides)
        return detector.changed(head=head.model_copy(update={"anchor_sizes": sizes}))
    small = tuple(side for side in sides if side < _MUCH_SMALLER * head.least_scale)
    return detector.changed(head=head.model_copy(update={"fine_scales": small}))
