"""Anchors for the objects that there are: shapes from the training boxes instead of COCO's.

An anchor is an object where it overlaps one by half. On blood cells the published sizes leave a
class of three without any such anchor, in aquaria most fish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from featherweight.detection.detector import Detector, SsdLite, ThunderNet
from featherweight.detection.table import NO_OBJECT
from featherweight.records import Record

__all__ = ["ObjectShapes", "object_shapes", "suited_to"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LEAST_RATIO = 1.25
"""Of neighbouring sizes: closer ones overlap the same objects."""
_SMALL = 0.16
"""Side of an object, as a share of the picture, below which SSDLite's own anchors, from 0.2 on, are
too large for it."""
_FINE_ANCHORS = 6
"""As many as SSDLite has in other cells."""
_FINE_PIXELS = 40.0
"""Side below which an object lies between the cells of 16 pixels as often as in one of them: then
there are cells of 8 pixels."""
_FINE_CHANNELS = 64


class ObjectShapes(Record):
    """How large the objects of a data set are, with every class counting the same.

    Attributes:
        sides: five, rising, as the square root of the share of the picture: the 5, 25, 50, 75 and
            95 % quantiles, spread so that each is at least 1.25 times the one before.
        small: width and height of up to six typical objects whose side is below 0.16, as shares of
            the picture, by area.
    """

    sides: tuple[float, ...] = Field(min_length=1)
    small: tuple[tuple[float, float], ...] = ()


def object_shapes(targets: NDArray[Any]) -> ObjectShapes:
    """Return how large the objects of the training pictures are.

    Args:
        targets: of the training pictures, (N, M, 6) of detection/table.py, with at least one box.
    """
    rows = targets[(targets[..., 4] != NO_OBJECT) & (targets[..., 5] == 0)].astype(np.float64)
    shapes = rows[:, 2:4] - rows[:, :2]
    _, classes, counts = np.unique(rows[:, 4], return_inverse=True, return_counts=True)
    weights = 1.0 / counts[classes]
    sides = np.sqrt(shapes.prod(1))
    return ObjectShapes(
        sides=_typical_sides(sides, weights),
        small=_typical_shapes(shapes[sides < _SMALL], weights[sides < _SMALL]),
    )


def _typical_sides(sides: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, ...]:
    order = np.argsort(sides)
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.array(_QUANTILES) * reached[-1])
    found = sides[order][np.minimum(places, len(sides) - 1)].tolist()
    middle = len(found) // 2
    for place in range(middle + 1, len(found)):
        found[place] = max(found[place], _LEAST_RATIO * found[place - 1])
    for place in range(middle - 1, -1, -1):
        found[place] = min(found[place], found[place + 1] / _LEAST_RATIO)
    return tuple(round(side, 4) for side in found)


def _typical_shapes(
    shapes: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """Return the middles of clusters of shapes, by area; distances are those of logarithms."""
    shapes, places = np.unique(shapes.round(3), axis=0, return_inverse=True)
    shapes = shapes.clip(min=0.001)
    counts = np.bincount(places.ravel(), weights=weights).astype(np.float64)
    if len(shapes) > _FINE_ANCHORS:
        from sklearn.cluster import KMeans  # takes a second to import

        clusters = KMeans(_FINE_ANCHORS, n_init=4, random_state=0)
        clusters.fit(np.log(shapes), sample_weight=counts)
        shapes = np.exp(clusters.cluster_centers_)
    by_area = sorted(shapes.round(3).tolist(), key=lambda shape: (shape[0] * shape[1], shape))
    return tuple((width, height) for width, height in by_area)


def suited_to(detector: Detector, objects: ObjectShapes) -> Detector:
    """Return a detector with anchors for objects of these sizes.

    ThunderNet's anchors have their sides; SSDLite gets further anchors with the shapes of small
    objects, and where these are below 40 pixels also a map with cells of 8 pixels for them.

    Args:
        detector: of any head.
        objects: of the training pictures.
    """
    head: ThunderNet | SsdLite = detector.head
    if isinstance(head, ThunderNet):
        sizes = tuple(round(detector.resolution * side, 1) for side in objects.sides)
        return detector.changed(head=head.model_copy(update={"anchor_sizes": sizes}))
    pixels = [detector.resolution * (width * height) ** 0.5 for width, height in objects.small]
    is_fine = bool(pixels) and min(pixels) < _FINE_PIXELS
    changes = {"fine_anchors": objects.small, "fine_channels": _FINE_CHANNELS if is_fine else 0}
    return detector.changed(head=head.model_copy(update=changes))
