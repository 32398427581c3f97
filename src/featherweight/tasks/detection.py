"""Which objects a picture shows, and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.annotated_images import load_annotated_images
from featherweight.data.annotations import recognises_annotations
from featherweight.data.dataset import ImageData
from featherweight.detection.average_precision import (
    AveragePrecision,
    Detections,
    evaluate_detections,
)
from featherweight.detection.boxes import iou
from featherweight.detection.evaluation import ap_interval, picture_scores
from featherweight.detection.table import DETECTION, DETECTIONS, NO_OBJECT, detections_of, truths_of
from featherweight.errors import DataError, UsageError
from featherweight.tasks.task import TASKS, Answers

__all__ = ["SURE", "Detection"]

SURE = 0.3
"""Score from which on an answer is shown, and compared with another network's."""
_SAME_IOU = 0.5
_RESAMPLES = 1000
_QUANTILE = 0.99
_NEXT_TO_NOTHING = 0.01


class Detection:
    """Targets are boxes, float32 (N, M, 6); answers are `detections`, (N, 100, 6).

    Both as detection/table.py has them. A picture's score is its panoptic quality, its loss what is
    missing to 1.
    """

    kind = DETECTION
    metric = "ap"
    linear = False
    counts_right = False
    tolerance = 0.5 / 320
    """Half a pixel of 320, as a share of the picture's side."""

    def recognises(self, source: str | Path) -> bool:
        """Whether `source` holds pictures with boxes."""
        return recognises_annotations(source)

    def load(self, source: str | Path, *, seed: int, quiet: bool) -> ImageData:
        """Read a data set; see `load_annotated_images`."""
        return load_annotated_images(source, seed=seed, quiet=quiet)

    def check(self, targets: NDArray[Any], *, outputs: int) -> None:
        """Raise DataError unless there are boxes, all of classes that the network knows."""
        labels = np.concatenate([one.labels[~one.crowd] for one in truths_of(targets)])
        if not labels.size:
            raise DataError("no boxes in a whole split", allowed="at least one object to find")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= outputs:
            raise DataError(f"labels from {low} to {high}", allowed=f"0 to {outputs - 1}")

    def counts(self, targets: NDArray[Any], *, classes: int) -> NDArray[np.int64]:
        """Return how many objects of each class there are, (classes,)."""
        labels = targets[..., 4][targets[..., 4] != NO_OBJECT].astype(np.int64)
        return np.bincount(labels, minlength=classes).astype(np.int64)

    def losses(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return what is missing to 1 in the score of each picture, (N,)."""
        return 1.0 - self.scores(answers, targets)

    def scores(self, answers: Answers, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return the panoptic quality of each picture's answers above a score of 0.3, (N,)."""
        found, truths = detections_of(answers[DETECTIONS]), truths_of(targets)
        return picture_scores(found, truths, classes=_classes(answers, targets), score=SURE)

    def score(
        self,
        answers: Answers,
        targets: NDArray[Any],
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> float:
        """Return average precision, IoU 0.50 to 0.95, in 0..1.

        Raises:
            UsageError: pictures that count differently: average precision knows no weights.
        """
        if weights is not None and not (weights == 1.0).all():
            raise UsageError("average precision of weighted pictures", allowed="no weights")
        classes = _classes(answers, targets)
        return _figure(self._evaluated(answers, targets, classes=classes).ap)

    def interval(self, answers: Answers, targets: NDArray[Any]) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of average precision over pictures."""
        found = ap_interval(
            detections_of(answers[DETECTIONS]),
            truths_of(targets),
            classes=_classes(answers, targets),
            seed=0,
            resamples=_RESAMPLES,
        )
        return (0.0, 0.0) if found.ap is None else found.ap

    def details(self, answers: Answers, targets: NDArray[Any], *, classes: int) -> dict[str, Any]:
        """Return `ap50`, `ap75` and `per_class`, the average precision of each class."""
        found = self._evaluated(answers, targets, classes=classes)
        return {
            "ap50": _figure(found.ap50),
            "ap75": _figure(found.ap75),
            "per_class": list(found.per_class),
        }

    def _evaluated(
        self, answers: Answers, targets: NDArray[Any], *, classes: int
    ) -> AveragePrecision:
        found, truths = detections_of(answers[DETECTIONS]), truths_of(targets)
        return evaluate_detections(found, truths, classes=classes)

    def agreement(self, found: Answers, expected: Answers) -> float:
        """Return the share of sure answers that both have: of one class, at IoU 0.5 or more.

        Where neither is sure of anything, of each picture's surest answer.
        """
        same = total = 0
        for one, other, mine, wanted in _compared(found, expected):
            same += len(_partners(mine, other)[0]) + len(_partners(wanted, one)[0])
            total += len(mine.labels) + len(wanted.labels)
        return same / total if total else 1.0

    def error(self, found: Answers, expected: Answers) -> tuple[float, float]:
        """Return how far sure answers lie from those expected: at most, and 99 % of them.

        In shares of the picture's sides, and of a score of 1. What has no partner, on either side,
        is 1 away. Where neither is sure of anything, each picture's surest answer is compared.
        """
        errors = [0.0]
        for one, other, mine, wanted in _compared(found, expected):
            for sure, others in ((wanted, one), (mine, other)):
                rows, places = _partners(sure, others)
                errors += [1.0] * (len(sure.labels) - len(rows))
                errors += np.maximum(
                    np.abs(sure.boxes[rows] - others.boxes[places]).max(axis=1, initial=0.0),
                    np.abs(sure.scores[rows] - others.scores[places]),
                ).tolist()
        return max(errors), float(np.quantile(errors, _QUANTILE))

    def chance(self, targets: NDArray[Any]) -> float:  # noqa: ARG002
        """Return the average precision of what finds next to nothing: boxes here and there."""
        return _NEXT_TO_NOTHING

    def balance(self, targets: NDArray[Any]) -> NDArray[np.float64]:  # noqa: ARG002
        """Raise UsageError: pictures have no one class each."""
        raise UsageError(
            "the classes of objects cannot be balanced: a picture shows several", allowed="no"
        )

    def indicators(self, targets: NDArray[Any], *, outputs: int) -> NDArray[np.float64]:
        """Raise UsageError: no linear layer answers boxes."""
        raise UsageError(f"{len(targets)} pictures with boxes of {outputs} classes as a regression")

    def describe(
        self, answers: Answers, labels: tuple[str, ...], *, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Return `objects` of each picture: `label`, `score` and `box` in its pixels.

        Those with a score of 0.3 or more, the surest first.
        """
        return [
            {
                "objects": [
                    {"label": labels[label], "score": float(score), "box": box.tolist()}
                    for box, score, label in zip(
                        sure.boxes.astype(np.float64) * np.array([*size, *size]),
                        sure.scores,
                        sure.labels,
                        strict=True,
                    )
                ]
            }
            for size, sure in zip(
                sizes, map(_sure, detections_of(answers[DETECTIONS])), strict=True
            )
        ]


def _figure(value: float | None) -> float:
    return 0.0 if value is None else value


def _classes(answers: Answers, targets: NDArray[Any]) -> int:
    """Return one more than the highest class that occurs."""
    return int(max(answers[DETECTIONS][..., 5].max(), targets[..., 4].max())) + 1


def _pairs(found: Answers, expected: Answers) -> list[tuple[Detections, Detections]]:
    return list(
        zip(detections_of(found[DETECTIONS]), detections_of(expected[DETECTIONS]), strict=True)
    )


def _compared(
    found: Answers, expected: Answers
) -> list[tuple[Detections, Detections, Detections, Detections]]:
    """Return all answers of each picture, found and expected, and those of both that count."""
    pairs = _pairs(found, expected)
    if any((one.scores >= SURE).any() for pair in pairs for one in pair):
        return [(one, other, _sure(one), _sure(other)) for one, other in pairs]
    return [(one, other, _surest(one), _surest(other)) for one, other in pairs]


def _surest(one: Detections) -> Detections:
    return Detections(one.boxes[:1], one.scores[:1], one.labels[:1])


def _sure(one: Detections) -> Detections:
    kept = one.scores >= SURE
    return Detections(one.boxes[kept], one.scores[kept], one.labels[kept])


def _partners(
    wanted: Detections, others: Detections
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of `wanted` with a partner of the same class, and its place, (K,) each."""
    overlaps = iou(wanted.boxes, others.boxes)
    overlaps[wanted.labels[:, None] != others.labels[None, :]] = 0.0
    if not overlaps.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.flatnonzero(overlaps.max(axis=1) >= _SAME_IOU)
    return rows, overlaps[rows].argmax(axis=1)


TASKS.add(Detection.kind, Detection())
