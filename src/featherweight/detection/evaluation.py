"""What a report says of a detector beside its average precision.

How sure that figure is, where to put the threshold of the score, what is taken for what, and which
pictures are answered best and worst. All of it is counted on the matches of average_precision.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherweight.detection.average_precision import (
    IOUS,
    MOST,
    RECALLS,
    Detections,
    Matches,
    Truth,
    match_detections,
)
from featherweight.errors import UsageError
from featherweight.records import Record

__all__ = [
    "BestThresholds",
    "Curve",
    "Intervals",
    "Threshold",
    "ap_interval",
    "best_threshold",
    "confusion",
    "picture_scores",
    "precision_recall",
]

_BLOCK = 2**23
"""Detections times resamples that are held at once: 32 MB."""


class Intervals(Record):
    """95 % intervals of average precision; None where there is no box to be found.

    Attributes:
        ap: of the mean over IoU 0.50 to 0.95.
        ap50: of that at IoU 0.5.
    """

    ap: tuple[float, float] | None
    ap50: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of one class, if detections from a score on are kept.

    Attributes:
        scores: the distinct scores, falling, (D,).
        precision: share of the kept detections that are right, (D,).
        recall: share of the objects that are found, rising, (D,).
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


class Threshold(Record):
    """The score with the highest F1.

    Attributes:
        score: detections from this score on are kept.
        f1: harmonic mean of precision and recall, in 0..1.
        precision: share of the kept detections that are right.
        recall: share of the objects that are found.
    """

    score: float
    f1: float
    precision: float
    recall: float


class BestThresholds(Record):
    """Best thresholds; None where no detection is right.

    Attributes:
        overall: one score for all classes, whose detections and objects are counted together.
        per_class: one score for each class.
    """

    overall: Threshold | None
    per_class: tuple[Threshold | None, ...]


def ap_interval(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    *,
    classes: int,
    seed: int,
    most: int = MOST,
    resamples: int = 1000,
) -> Intervals:
    """Return 95 % bootstrap intervals of average precision over pictures.

    Pictures are drawn with replacement; a detection stays right or wrong in each of them, so that
    matching happens once. Of equal scores those of one picture come together. A draw without any
    object has no average precision and is left out. The figure itself is always inside.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes.
        seed: of the pictures that are drawn.
        most: detections of a class in a picture that count.
        resamples: how often as many pictures are drawn as there are.

    Raises:
        DataError: not as many detections as truths, or a label outside of the classes.
        UsageError: `classes`, `most` or `resamples` is below 1.
        MissingDependencyError: faster-coco-eval is not installed.

    Source: percentile bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap (1993),
        chapter 13.
    """
    if resamples < 1:
        raise UsageError(f"resamples {resamples}", allowed="1 or more")
    count = len(truths)
    matches = match_detections(detections, truths, classes=classes, ious=IOUS, most=most)
    if not matches[0].objects.any():
        return Intervals(ap=None, ap50=None)
    generator = np.random.default_rng([seed, 95])
    draws = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    # How often each picture is there, (P, R): the first column is the pictures themselves.
    weights = np.concatenate([np.ones((1, count)), draws]).T.astype(np.int32)
    values = np.stack([_weighted_precision(one, weights) for one in matches])  # (IoU, R)
    return Intervals(ap=_interval(values.mean(axis=0)), ap50=_interval(values[0]))


def precision_recall(
    detections: Sequence[Detections], truths: Sequence[Truth], *, classes: int, iou: float = 0.5
) -> tuple[Curve | None, ...]:
    """Return the curve of each class, as it is (COCO's is never rising); None without an object.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes.
        iou: from which a detection is right, in (0, 1].

    Raises:
        DataError, UsageError, MissingDependencyError: see `match_detections`.
    """
    (matches,) = match_detections(detections, truths, classes=classes, ious=[iou])
    curves: list[Curve | None] = []
    for label, objects in enumerate(matches.objects.sum(axis=0)):
        scores, hits, kept = _counts(matches, matches.labels == label)
        curves.append(Curve(scores, hits / kept, hits / objects) if objects else None)
    return tuple(curves)


def best_threshold(
    detections: Sequence[Detections], truths: Sequence[Truth], *, classes: int, iou: float = 0.5
) -> BestThresholds:
    """Return the scores from which on keeping detections gives the highest F1.

    Of several that give the same, the highest.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes.
        iou: from which a detection is right, in (0, 1].

    Raises:
        DataError, UsageError, MissingDependencyError: see `match_detections`.
    """
    (matches,) = match_detections(detections, truths, classes=classes, ious=[iou])
    objects = matches.objects.sum(axis=0)
    every = np.ones(len(matches.labels), dtype=np.bool_)
    return BestThresholds(
        overall=_highest(matches, every, objects=objects.sum()),
        per_class=tuple(
            _highest(matches, matches.labels == label, objects=objects[label])
            for label in range(classes)
        ),
    )


def confusion(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    *,
    classes: int,
    iou: float = 0.5,
    score: float = 0.3,
) -> NDArray[np.int64]:
    """Count what is taken for what: row = true class, column = class of the detection.

    The last row is background (nothing is there), the last column missed objects. First every
    class is matched alone, so that the diagonal has the right detections that `precision_recall`
    counts; then what is left is matched whatever its class. Detections in crowds are not counted.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes K.
        iou: least overlap of a detection with its object, in (0, 1].
        score: detections below it are left out.

    Returns:
        int64 (K + 1, K + 1). A row but the last sums up to the objects of its class, a column but
        the last to the detections.

    Raises:
        DataError, UsageError, MissingDependencyError: see `match_detections`.
    """
    (matches,) = match_detections(detections, truths, classes=classes, ious=[iou])
    kept = (matches.scores >= score) & ~matches.ignored
    table = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    right = matches.labels[kept & matches.right]
    np.add.at(table, (right, right), 1)
    wrong_places, missed_places = [], []
    for picture, truth in enumerate(truths):
        here = kept & (matches.pictures == picture)
        missed = ~truth.crowd
        missed[matches.found[here & matches.right]] = False
        wrong_places.append(matches.places[here & ~matches.right])
        missed_places.append(np.flatnonzero(missed))
    (rest,) = match_detections(
        [
            Detections(one.boxes[places], one.scores[places], np.zeros_like(places))
            for one, places in zip(detections, wrong_places, strict=True)
        ],
        [
            Truth(one.boxes[places], np.zeros_like(places), one.crowd[places])
            for one, places in zip(truths, missed_places, strict=True)
        ],
        classes=1,
        ious=[iou],
        most=max(1, len(kept)),
    )
    for row in np.flatnonzero(rest.right):
        picture = rest.pictures[row]
        true = truths[picture].labels[missed_places[picture][rest.found[row]]]
        answered = detections[picture].labels[wrong_places[picture][rest.places[row]]]
        table[true, answered] += 1
    table[:-1, -1] = matches.objects.sum(axis=0) - table[:-1].sum(axis=1)
    answers = np.bincount(matches.labels[kept], minlength=classes)
    table[-1, :-1] = answers - table[:, :-1].sum(axis=0)
    return table


def picture_scores(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    *,
    classes: int,
    iou: float = 0.5,
    score: float = 0.3,
) -> NDArray[np.float64]:
    """Return how well each picture is answered, (P,) in 0..1: its panoptic quality.

    That is the F1 of its detections, of all classes together, times the mean IoU of the right
    ones. A picture with nothing to find and nothing found has 1.

    Args:
        detections: of each picture.
        truths: of the same pictures.
        classes: number of classes.
        iou: from which a detection is right, in (0, 1].
        score: detections below it are left out.

    Raises:
        DataError, UsageError, MissingDependencyError: see `match_detections`.

    Source: Kirillov et al., Panoptic Segmentation, arXiv 1801.00868, equation 1, with boxes for
        segments, COCO's matching and one class for all.
    """
    (matches,) = match_detections(detections, truths, classes=classes, ious=[iou])
    kept = (matches.scores >= score) & ~matches.ignored
    count = len(truths)
    overlap = np.bincount(matches.pictures[kept], matches.overlaps[kept], minlength=count)
    # Matched, half of the false and half of the missed ones: half of both sides together.
    size = (np.bincount(matches.pictures[kept], minlength=count) + matches.objects.sum(axis=1)) / 2
    return np.asarray(np.divide(overlap, size, out=np.ones(count), where=size > 0))


def _weighted_precision(matches: Matches, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the mean average precision with pictures counted `weights` (P, R) times, (R,).

    NaN where there is no object.
    """
    total, known = np.zeros(weights.shape[1]), np.zeros(weights.shape[1], dtype=np.int64)
    for label in range(matches.objects.shape[1]):
        objects = matches.objects[:, label] @ weights  # (R,)
        rows = _order(matches, matches.labels == label)
        precision = _class_precision(
            matches.pictures[rows], matches.right[rows], weights=weights, objects=objects
        )
        total += precision  # 0 without objects: nothing is right then
        known += objects > 0
    return np.asarray(np.divide(total, known, out=np.full(len(total), np.nan), where=known > 0))


def _class_precision(
    pictures: NDArray[np.int64],
    right: NDArray[np.bool_],
    *,
    weights: NDArray[np.int32],
    objects: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return COCO's 101-point average precision of one class in each resample, (R,).

    Detections are given best first, (D,), `objects` are those of each resample, (R,). Only right
    detections are looked at: at others recall does not rise and precision falls, so that neither
    the first place of a recall nor the highest precision after it is there.
    """
    right_places = np.flatnonzero(right)
    found = np.zeros(len(objects))
    if not right_places.size:
        return found
    starts = np.r_[0, right_places[:-1] + 1]
    upto = pictures[: right_places[-1] + 1]
    width = max(1, _BLOCK // len(upto))
    for begin in range(0, len(objects), width):
        part = slice(begin, begin + width)
        counts = np.add.reduceat(weights[upto, part], starts, axis=0).cumsum(axis=0)  # (T, R)
        hits = weights[pictures[right_places], part].cumsum(axis=0)
        precision = hits / np.maximum(counts, 1)
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        found[part] = _sampled(best, hits=hits, objects=objects[part]).mean(axis=1)
    return found


def _sampled(
    precision: NDArray[np.float64], *, hits: NDArray[np.int64], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the precision (T, R) where the hits (T, R) first reach each recall, (R, 101).

    It is 0 where they never do.
    """
    length, resamples = hits.shape
    counts, which = np.unique(objects, return_inverse=True)
    # The fewest hits whose recall, rounded as COCO rounds it, is enough.
    fewest = [np.searchsorted(np.arange(n + 1) / max(n, 1), RECALLS) for n in counts]
    needed = np.stack(fewest)[which]  # (R, 101)
    # All columns in one rising row: each begins where the one before cannot end.
    step = int(max(hits.max(), needed.max())) + 1
    begins = step * np.arange(resamples, dtype=np.int64)
    row = (hits.T + begins[:, None]).ravel()
    places = np.searchsorted(row, (needed + begins[:, None]).ravel()).reshape(needed.shape)
    places -= length * np.arange(resamples)[:, None]
    padded = np.concatenate([precision, np.zeros((1, resamples))]).T  # (R, T + 1)
    return np.take_along_axis(padded, places, axis=1)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle 95 % of the values but the first, widened to have the first inside."""
    estimate, drawn = float(values[0]), values[1:]
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return estimate, estimate
    low, high = np.quantile(drawn, [0.025, 0.975])
    return min(float(low), estimate), max(float(high), estimate)


def _order(matches: Matches, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the chosen detections that are not ignored, best first, as COCO orders them."""
    rows = np.flatnonzero(chosen & ~matches.ignored)
    return rows[np.argsort(-matches.scores[rows], kind="stable")]


def _counts(
    matches: Matches, chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct scores, falling, and how many from each on are right and there at all."""
    rows = _order(matches, chosen)
    scores = matches.scores[rows]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], len(rows) > 0)[: len(rows)])
    return scores[ends], matches.right[rows].cumsum()[ends], ends + 1


def _highest(matches: Matches, chosen: NDArray[np.bool_], *, objects: int) -> Threshold | None:
    scores, hits, kept = _counts(matches, chosen)
    if not hits.any():
        return None
    f1 = 2 * hits / (kept + objects)
    place = int(f1.argmax())  # the first is the highest score
    return Threshold(
        score=float(scores[place]),
        f1=float(f1[place]),
        precision=float(hits[place] / kept[place]),
        recall=float(hits[place] / objects),
    )
