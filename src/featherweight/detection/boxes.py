"""Boxes as arrays: overlaps, offsets from anchors, and which of many overlapping boxes to keep.

A box is x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, in pixels or any other unit; there is no pixel
added to widths. A box without area overlaps nothing: its IoU is 0, never NaN. What is computed from
float32 is float32, as in torchvision: a float64 copy might keep another box.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featherweight.detection.answering import LARGEST_GROWTH
from featherweight.errors import DataError, UsageError

__all__ = ["area", "class_nms", "clip", "decode", "encode", "iou", "nms", "soft_nms"]

Decay = Literal["linear", "gaussian"]


def area(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return the area of each of the boxes (N, 4), (N,), in the square of their unit.

    Raises:
        DataError: the boxes are not (N, 4).
    """
    sides = _sides(_floating(boxes, name="boxes"))
    return np.asarray(sides[:, 0] * sides[:, 1])


def iou(
    boxes: NDArray[Any], others: NDArray[Any], *, crowd: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Return the intersection over union of each box with each of the others, (N, M) in 0..1.

    Args:
        boxes: (N, 4).
        others: (M, 4), in the same unit.
        crowd: which of the others are a crowd of objects in one box, (M,); with them it is the
            intersection over the area of the one of `boxes`.

    Raises:
        DataError: boxes are not (N, 4), or `crowd` is not (M,).

    Source: crowds as in COCO's `maskApi.c`, `bbIou`.
    """
    first, second = _floating(boxes, name="boxes"), _floating(others, name="others")
    if crowd is not None and crowd.shape != (len(second),):
        raise DataError(f"crowd of shape {crowd.shape}", allowed=f"({len(second)},)")
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    whole = area(first)[:, None] + area(second)[None, :] - common
    if crowd is not None:
        whole = np.where(crowd[None, :], area(first)[:, None], whole)
    # Two boxes without area have no union; so small a one that its area is 0 has no intersection.
    return np.asarray(np.divide(common, whole, out=np.zeros_like(common), where=common > 0))


def clip(boxes: NDArray[Any], *, width: float, height: float) -> NDArray[Any]:
    """Return the parts of the boxes (N, 4) inside a picture of this width and height, (N, 4).

    A box outside of the picture becomes one without area on its edge.

    Raises:
        DataError: the boxes are not (N, 4).
    """
    values = _floating(boxes, name="boxes")
    limits = np.asarray([width, height, width, height], dtype=values.dtype)
    return np.asarray(np.clip(values, 0, limits))


def encode(
    boxes: NDArray[Any],
    anchors: NDArray[Any],
    *,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> NDArray[Any]:
    """Return the offsets dx, dy, dw, dh that make each anchor its box, (N, 4).

    Args:
        boxes: (N, 4).
        anchors: (N, 4), one for each box, in the same unit.
        weights: what dx, dy, dw and dh are multiplied by.

    Raises:
        DataError: shapes differ, or a box or an anchor has no area.

    Source: Ren et al., Faster R-CNN, arXiv 1506.01497, equation 2.
    """
    target, start = _floating(boxes, name="boxes"), _floating(anchors, name="anchors")
    _check_pairs(target, start, name="boxes")
    for name, values in (("box", target), ("anchor", start)):
        empty = np.flatnonzero(_sides(values).min(axis=1, initial=np.inf) <= 0)
        if empty.size:
            raise DataError(
                f"{name} {empty[0]} has no area: {values[empty[0]].tolist()}",
                hint="leave boxes without area out before they are encoded",
            )
    sides = _sides(start)
    shift = (_centres(target) - _centres(start)) / sides
    growth = np.log(_sides(target) / sides)
    scaled = np.concatenate([shift, growth], axis=1) * np.asarray(weights, dtype=shift.dtype)
    return np.asarray(scaled)


def decode(
    deltas: NDArray[Any],
    anchors: NDArray[Any],
    *,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> NDArray[Any]:
    """Return the boxes that offsets make of anchors, (N, 4); what `encode` did is undone.

    Growths dw and dh end at log(1000 / 16): what an untrained network answers must not overflow.

    Args:
        deltas: dx, dy, dw, dh, (N, 4).
        anchors: (N, 4).
        weights: those that the offsets were encoded with.

    Raises:
        DataError: shapes differ.

    Source: Ren et al., Faster R-CNN, arXiv 1506.01497, equation 2.
    """
    offsets, start = _floating(deltas, name="deltas"), _floating(anchors, name="anchors")
    _check_pairs(offsets, start, name="deltas")
    offsets = offsets / np.asarray(weights, dtype=offsets.dtype)
    sides = _sides(start)
    centres = _centres(start) + offsets[:, :2] * sides
    half = 0.5 * sides * np.exp(np.minimum(offsets[:, 2:], LARGEST_GROWTH))
    return np.concatenate([centres - half, centres + half], axis=1)


def nms(boxes: NDArray[Any], scores: NDArray[Any], *, threshold: float) -> NDArray[np.int64]:
    """Return which boxes to keep, best first: none overlaps a better kept one by more.

    Of equal scores the one that comes first is better. Equal to `torchvision.ops.nms`.

    Args:
        boxes: (N, 4).
        scores: (N,).
        threshold: largest IoU of two boxes that are both kept, in 0..1.

    Returns:
        int64 (K,), indices into `boxes`.

    Raises:
        DataError: shapes differ.
        UsageError: the threshold is not in 0..1.
    """
    values = _scored(boxes, scores)
    # As float64: float32 overlaps are compared with 0.3, not with the float32 beside it.
    limit = np.float64(_share(threshold, name="threshold"))
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[iou(values[best : best + 1], values[order])[0] <= limit]
    return np.asarray(kept, dtype=np.int64)


def class_nms(
    boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], *, threshold: float
) -> NDArray[np.int64]:
    """Return which boxes to keep, best first, where only boxes of one class compete: see `nms`.

    Args:
        boxes: (N, 4).
        scores: (N,).
        labels: class of each box, (N,).
        threshold: largest IoU of two boxes of a class that are both kept, in 0..1.

    Raises:
        DataError: shapes differ.
        UsageError: the threshold is not in 0..1.
    """
    if labels.shape != scores.shape:
        raise DataError(f"labels of shape {labels.shape}", allowed=f"{scores.shape}, as the scores")
    kept = [
        places[nms(boxes[places], scores[places], threshold=threshold)]
        for places in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    chosen = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *kept]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def soft_nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    *,
    decay: Decay = "gaussian",
    threshold: float = 0.3,
    sigma: float = 0.5,
    least: float = 0.001,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Lower the scores of boxes that overlap better ones, instead of removing the boxes.

    The best box is taken, the others' scores are multiplied by 1 - IoU where the IoU with it is
    at least `threshold` (linear), or by exp(-IoU^2 / sigma) (gaussian), and again.

    Args:
        boxes: (N, 4).
        scores: (N,), in 0..1.
        decay: which of the two functions.
        threshold: of the linear one, in 0..1.
        sigma: of the gaussian one, above 0.
        least: a box is dropped once its score is lower.

    Returns:
        Indices int64 (K,) of the boxes that are left, best first, and their new scores (K,).

    Raises:
        DataError: shapes differ.
        UsageError: an unknown decay, or a parameter outside of its range.

    Source: Bodla et al., Soft-NMS, arXiv 1704.04503, figure 2 and section 3.
    """
    values = _scored(boxes, scores)
    limit = np.float64(_share(threshold, name="threshold"))
    if decay not in get_args(Decay):
        raise UsageError(f"decay {decay!r}", allowed=", ".join(get_args(Decay)))
    if not sigma > 0:
        raise UsageError(f"sigma {sigma}", allowed="above 0")
    left = np.flatnonzero(scores >= least)
    new = scores.astype(np.result_type(scores.dtype, values.dtype))
    kept = []
    while left.size:
        place = int(new[left].argmax())  # the first of equal ones
        best, left = left[place], np.delete(left, place)
        kept.append(best)
        overlaps = iou(values[best : best + 1], values[left])[0]
        if decay == "linear":
            new[left] *= np.where(overlaps >= limit, 1 - overlaps, 1)
        else:
            new[left] *= np.exp(-(overlaps**2) / sigma)
        left = left[new[left] >= least]
    chosen = np.asarray(kept, dtype=np.int64)
    return chosen, new[chosen]


def _floating(values: NDArray[Any], *, name: str) -> NDArray[Any]:
    """Return (N, 4) values with which areas can be computed: integers and halves overflow."""
    if values.ndim != 2 or values.shape[1] != 4:
        raise DataError(f"{name} of shape {values.shape}", allowed="(N, 4)")
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def _scored(boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
    values = _floating(boxes, name="boxes")
    if scores.shape != (len(values),):
        raise DataError(f"scores of shape {scores.shape}", allowed=f"({len(values)},)")
    return values


def _share(value: float, *, name: str) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value}", allowed="0 to 1")
    return value


def _check_pairs(values: NDArray[Any], anchors: NDArray[Any], *, name: str) -> None:
    if len(values) != len(anchors):
        raise DataError(f"{len(values)} {name} for {len(anchors)} anchors")


def _sides(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return widths and heights, (N, 2)."""
    return np.asarray(boxes[:, 2:] - boxes[:, :2])


def _centres(boxes: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(boxes[:, :2] + 0.5 * _sides(boxes))
