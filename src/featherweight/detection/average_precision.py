"""Average precision of detections, by COCO's protocol.

faster-coco-eval matches, accumulates and defines what equal scores mean: it needs only numpy and is
COCO's protocol in C++ (Apache-2.0), so that there is nothing to write again. It is an optional
dependency, imported at the first use. What it lacks is in evaluation.py, on its matches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import DataError, MissingDependencyError, UsageError
from featherweight.records import Record

__all__ = [
    "IOUS",
    "MOST",
    "RECALLS",
    "AveragePrecision",
    "Detections",
    "Matches",
    "Truth",
    "evaluate_detections",
    "match_detections",
]

IOUS = np.linspace(0.5, 0.95, 10)
"""IoU from which a detection is right: `ap` is the mean over all of them."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Where the precision is read."""
MOST = 100
"""Detections of a class in a picture that count: the best."""

_AREAS = ((0, math.inf), (0, 32**2), (32**2, 96**2), (96**2, math.inf))
"""All, small, medium and large, in square pixels; both ends belong to them."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one picture.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels, (N, 4).
        scores: the higher, the surer, (N,); of equal ones the first is the better.
        labels: class of each box, integers (N,).

    Raises:
        DataError: shapes do not fit together, a number is not finite, or a box ends before it
            begins.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]

    def __post_init__(self) -> None:
        _check_boxes(self.boxes, self.labels)
        if self.scores.shape != self.labels.shape:
            raise DataError(f"scores of shape {self.scores.shape} for {len(self.boxes)} boxes")
        if not np.isfinite(self.scores).all():
            raise DataError("a score is not finite", hint="did the training diverge?")


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects in one picture.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels, (M, 4).
        labels: class of each box, integers (M,).
        crowd: whether a box holds several objects, bool (M,): detections there are neither right
            nor wrong, and such a box need not be found.

    Raises:
        DataError: as Detections, or `crowd` is not bool (M,).
    """

    boxes: NDArray[Any]
    labels: NDArray[Any]
    crowd: NDArray[np.bool_]

    def __post_init__(self) -> None:
        _check_boxes(self.boxes, self.labels)
        if self.crowd.shape != self.labels.shape or self.crowd.dtype != np.bool_:
            raise DataError(
                f"crowd of type {self.crowd.dtype} and shape {self.crowd.shape}",
                allowed=f"bool ({len(self.boxes)},)",
            )


class AveragePrecision(Record):
    """Average precision in 0..1; None where there is no box to be found.

    Attributes:
        ap: mean over the IoUs 0.50, 0.55, ... 0.95 and the classes that occur.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ap_small: of boxes up to 32 x 32 pixels in area.
        ap_medium: of boxes up to 96 x 96 pixels.
        ap_large: of larger ones.
        per_class: `ap` of each class.
        pictures: how many there were.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    per_class: tuple[float | None, ...]
    pictures: int


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detections are right at one IoU: the best `most` of each class in each picture.

    Position i of the fields of length D is the same detection; they are in the order of the
    pictures, and in that of `Detections` within one.

    Attributes:
        pictures: index of its picture, int64 (D,).
        places: its index in that picture's Detections, int64 (D,).
        labels: its class, int64 (D,).
        scores: its score, float64 (D,).
        found: index in that picture's Truth of the box it is matched with, int64 (D,); -1 if none.
        overlaps: IoU with that box, float64 (D,); 0 if none.
        ignored: whether that box is a crowd, bool (D,).
        objects: boxes to be found (no crowds) in each picture of each class, int64 (P, K).
    """

    pictures: NDArray[np.int64]
    places: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    found: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which detections are of an object that no better one found, (D,)."""
        return (self.found >= 0) & ~self.ignored


def evaluate_detections(
    detections: Sequence[Detections], truths: Sequence[Truth], *, classes: int, most: int = MOST
) -> AveragePrecision:
    """Return COCO's average precision of detections.

    Boxes of equal score are in the order of the pictures, then in that of the Detections. The
    size of an object is the area of its box: COCO's own figures use that of its outline.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes K.
        most: detections of a class in a picture that count.

    Raises:
        DataError: not as many detections as truths, or a label is not in 0..K-1.
        UsageError: `classes` or `most` is below 1.
        MissingDependencyError: faster-coco-eval is not installed.

    Source: Lin et al., Microsoft COCO, arXiv 1405.0312; cocodataset.org/#detection-eval.
    """
    _check(detections, truths, classes=classes, most=most)
    pair = _datasets(detections, truths, classes=classes)
    evaluation = _evaluation(pair, ious=IOUS, areas=_AREAS, most=most)
    precision = evaluation["precision"][..., 0]  # (IoU, recall, class, area); -1: no such box
    return AveragePrecision(
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[np.isclose(IOUS, 0.5), ..., 0]),
        ap75=_mean(precision[np.isclose(IOUS, 0.75), ..., 0]),
        ap_small=_mean(precision[..., 1]),
        ap_medium=_mean(precision[..., 2]),
        ap_large=_mean(precision[..., 3]),
        per_class=tuple(_mean(precision[:, :, label, 0]) for label in range(classes)),
        pictures=len(truths),
    )


def match_detections(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    *,
    classes: int,
    ious: Sequence[float] | NDArray[np.float64],
    most: int = MOST,
) -> tuple[Matches, ...]:
    """Return which detections are right at each of several IoUs.

    The best detection of a class chooses first, the box of its class that it overlaps most. What
    it finds does not depend on worse ones, so that those below a score can be left out afterwards.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes K.
        ious: least overlaps with which a detection is right, in (0, 1].
        most: detections of a class in a picture that count.

    Raises:
        DataError: not as many detections as truths, or a label is not in 0..K-1.
        UsageError: `classes` or `most` is below 1, or an IoU is not in (0, 1].
        MissingDependencyError: faster-coco-eval is not installed.
    """
    _check(detections, truths, classes=classes, most=most)
    for value in ious:
        if not 0 < value <= 1:
            raise UsageError(f"IoU {value}", allowed="above 0, up to 1")
    pair = _datasets(detections, truths, classes=classes)
    pictures, places = _places([len(one.labels) for one in detections])
    _, truth_places = _places([len(one.labels) for one in truths])
    labels = _joined([one.labels for one in detections], dtype=np.int64)
    scores = _joined([one.scores for one in detections], dtype=np.float64)
    crowd = _joined([one.crowd for one in truths], dtype=np.bool_)
    counted = _among_best(pictures, labels, scores, most=most)
    objects = np.zeros((len(truths), classes), dtype=np.int64)
    for picture, truth in enumerate(truths):
        np.add.at(objects[picture], truth.labels[~truth.crowd], 1)
    matches = []
    for value in ious:
        evaluation = _evaluation(pair, ious=[value], areas=_AREAS[:1], most=most)
        found, overlaps = np.full(len(labels), -1), np.zeros(len(labels))
        ignored = np.zeros(len(labels), dtype=np.bool_)
        for key, overlap in evaluation["matched"].items():
            detection, box = (int(number) - 1 for number in key.split("_"))
            found[detection] = truth_places[box]
            overlaps[detection] = min(overlap, 1.0)  # the library rounds some to 1 + 4e-16
            ignored[detection] = crowd[box]
        matches.append(
            Matches(
                pictures=pictures[counted],
                places=places[counted],
                labels=labels[counted],
                scores=scores[counted],
                found=found[counted],
                overlaps=overlaps[counted],
                ignored=ignored[counted],
                objects=objects,
            )
        )
    return tuple(matches)


def _library() -> Any:
    try:
        import faster_coco_eval
    except ImportError as error:
        raise MissingDependencyError(
            "faster-coco-eval is not installed", hint='pip install "featherweight[detection]"'
        ) from error
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it tells every step
    return faster_coco_eval


def _datasets(
    detections: Sequence[Detections], truths: Sequence[Truth], *, classes: int
) -> tuple[Any, Any]:
    """Return truths and detections as the library has them; ids are positions, from 1 on."""
    return (
        _dataset(truths, {"iscrowd": [int(flag) for one in truths for flag in one.crowd]}, classes),
        _dataset(
            detections,
            {"score": [float(score) for one in detections for score in one.scores]},
            classes,
        ),
    )


def _dataset(
    pictures: Sequence[Detections | Truth], columns: dict[str, list[Any]], classes: int
) -> Any:
    annotations: list[dict[str, Any]] = []
    for picture, one in enumerate(pictures):
        corners = one.boxes.astype(np.float64)
        sides = corners[:, 2:] - corners[:, :2]
        rows = zip(corners.tolist(), sides.tolist(), one.labels.tolist(), strict=True)
        annotations += [
            {
                "image_id": picture,
                "category_id": label,
                "bbox": [corner[0], corner[1], width, height],
                "area": width * height,
            }
            for corner, (width, height), label in rows
        ]
    for position, annotation in enumerate(annotations):
        annotation["id"] = position + 1  # 0 would be "not matched"
        annotation |= {name: values[position] for name, values in columns.items()}
    plain = {
        "images": [{"id": picture} for picture in range(len(pictures))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": annotations,
    }
    return _library().COCO(plain)


def _evaluation(
    pair: tuple[Any, Any],
    *,
    ious: Sequence[float] | NDArray[np.float64],
    areas: Sequence[tuple[float, float]],
    most: int,
) -> dict[str, Any]:
    """Return the library's `precision` (IoU, recall, class, area, 1) and `matched` pairs of ids."""
    evaluator = _library().COCOeval_faster(*pair, iouType="bbox")
    evaluator.params.iouThrs = np.asarray(ious, dtype=np.float64)
    evaluator.params.recThrs = RECALLS
    evaluator.params.maxDets = [most]
    evaluator.params.areaRng = [list(limits) for limits in areas]
    evaluator.params.areaRngLbl = [str(number) for number in range(len(areas))]
    evaluator.evaluate()
    evaluator.accumulate()
    found: dict[str, Any] = evaluator.eval
    return found


def _mean(precision: NDArray[np.float64]) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _places(counts: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the picture of each box, and its index in that picture."""
    pictures = np.repeat(np.arange(len(counts)), counts)
    places = [np.arange(count) for count in counts]
    return pictures, _joined(places, dtype=np.int64)


def _joined(parts: Sequence[NDArray[Any]], *, dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *(part.astype(dtype) for part in parts)])


def _among_best(
    pictures: NDArray[np.int64],
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    *,
    most: int,
) -> NDArray[np.bool_]:
    """Return which detections are among the best of their class in their picture, (D,)."""
    order = np.lexsort((-scores, labels, pictures))  # stable
    group = np.stack([pictures[order], labels[order]])
    starts = np.flatnonzero(np.r_[True, (group[:, 1:] != group[:, :-1]).any(axis=0)])
    sizes = np.diff(np.r_[starts, len(order)])
    ranks = np.arange(len(order)) - np.repeat(starts, sizes)
    counted = np.zeros(len(order), dtype=np.bool_)
    counted[order] = ranks < most
    return counted


def _check_boxes(boxes: NDArray[Any], labels: NDArray[Any]) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise DataError(
            f"boxes of shape {boxes.shape} with labels of shape {labels.shape}",
            allowed="(N, 4) with (N,)",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels of type {labels.dtype}", allowed="integers")
    bad = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(1)))
    if bad.size:
        raise DataError(
            f"box {bad[0]} is {boxes[bad[0]].tolist()}",
            allowed="finite x1, y1, x2, y2 with x1 <= x2 and y1 <= y2",
        )


def _check(
    detections: Sequence[Detections], truths: Sequence[Truth], *, classes: int, most: int
) -> None:
    if classes < 1 or most < 1:
        raise UsageError(f"classes {classes}, most {most}", allowed="1 or more of both")
    if len(detections) != len(truths):
        raise DataError(f"detections of {len(detections)} pictures for {len(truths)} truths")
    for picture, pair in enumerate(zip(detections, truths, strict=True)):
        labels = np.concatenate([one.labels for one in pair])
        outside = labels[(labels < 0) | (labels >= classes)]
        if outside.size:
            raise DataError(
                f"picture {picture} has a box of class {outside[0]}", allowed=f"0 to {classes - 1}"
            )
