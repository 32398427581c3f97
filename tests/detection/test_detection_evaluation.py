"""Intervals, curves, thresholds, confusion and scores of pictures, against slower ways to them."""

import numpy as np
import pytest

from featherweight.detection import evaluation
from featherweight.detection.average_precision import (
    RECALLS,
    Detections,
    Truth,
    evaluate_detections,
    match_detections,
)
from featherweight.detection.evaluation import (
    ap_interval,
    best_threshold,
    confusion,
    picture_scores,
    precision_recall,
)
from featherweight.errors import UsageError

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")

CLASSES = 3


def found(*rows):
    """Return detections of (box, score, label)."""
    return Detections(
        np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.float64),
        np.array([row[2] for row in rows], dtype=np.int64),
    )


def real(*rows, crowd=()):
    """Return the truth of (box, label); `crowd` has the places of crowds."""
    return Truth(
        np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.isin(np.arange(len(rows)), list(crowd)),
    )


def draw(pictures, *, seed, digits=12, absent=False):
    """Return detections near drawn objects of CLASSES classes, some of them wrong."""
    generator = np.random.default_rng(seed)
    detections, truths = [], []
    for _ in range(pictures):
        count = int(generator.integers(0, 6))
        corners = generator.uniform(0, 200, (count, 2))
        sides = generator.uniform(10, 150, (count, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        labels = generator.integers(0, CLASSES - absent, count)
        near = np.repeat(np.arange(count), generator.integers(0, 4, count))
        guesses = boxes[near] + np.tile(sides[near], 2) * generator.normal(0, 0.1, (len(near), 4))
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2])
        answers = labels[near]
        strays = generator.random(len(near)) < 0.2
        answers[strays] = generator.integers(0, CLASSES, strays.sum())
        scores = generator.random(len(near)).round(digits)
        detections.append(Detections(guesses, scores, answers))
        truths.append(Truth(boxes, labels, generator.random(count) < 0.1))
    return detections, truths


def from_score(detections, score):
    """Return the detections from a score on."""
    kept = [one.scores >= score for one in detections]
    return [
        Detections(one.boxes[k], one.scores[k], one.labels[k])
        for one, k in zip(detections, kept, strict=True)
    ]


@pytest.mark.parametrize("seed", range(15))
def test_a_draw_is_the_evaluation_of_drawn_pictures(seed):
    """An interval of one draw ends at that draw and at the figure itself.

    Scores that tie within a picture are another order in the evaluation of its copies.
    """
    detections, truths = draw(2 + seed, seed=seed, absent=seed % 2 == 1)
    weights = np.random.default_rng([seed, 95]).multinomial(
        len(truths), np.full(len(truths), 1 / len(truths)), size=1
    )[0]
    picked = np.repeat(np.arange(len(truths)), weights)
    whole = evaluate_detections(detections, truths, classes=CLASSES)
    drawn = evaluate_detections(
        [detections[i] for i in picked], [truths[i] for i in picked], classes=CLASSES
    )
    interval = ap_interval(detections, truths, classes=CLASSES, seed=seed, resamples=1)
    for name in ("ap", "ap50"):
        ends = [
            value for value in (getattr(whole, name), getattr(drawn, name)) if value is not None
        ]
        assert getattr(interval, name) == pytest.approx((min(ends), max(ends)), abs=1e-12)
    assert whole.ap != drawn.ap


@pytest.mark.parametrize("seed", range(40))
def test_the_figure_of_an_interval_is_the_librarys(seed):
    """Ties too: without a draw that differs, both ends are the figure."""
    (detections,), (truths,) = draw(1, seed=100 + seed, digits=1)
    figures = evaluate_detections([detections], [truths], classes=CLASSES)
    interval = ap_interval([detections], [truths], classes=CLASSES, seed=0, resamples=3)
    expected = None if figures.ap is None else pytest.approx((figures.ap,) * 2, abs=1e-12)
    assert interval.ap == expected
    expected = None if figures.ap50 is None else pytest.approx((figures.ap50,) * 2, abs=1e-12)
    assert interval.ap50 == expected


def test_intervals_hold_the_figure_and_shrink_with_more_pictures():
    widths = []
    for pictures in (12, 48, 192):
        detections, truths = draw(pictures, seed=1)
        figures = evaluate_detections(detections, truths, classes=CLASSES)
        interval = ap_interval(detections, truths, classes=CLASSES, seed=1)
        assert 0 <= interval.ap[0] < figures.ap < interval.ap[1] <= 1
        assert 0 <= interval.ap50[0] < figures.ap50 < interval.ap50[1] <= 1
        widths.append(interval.ap[1] - interval.ap[0])
    assert widths[0] > 1.4 * widths[1] > 2 * widths[2]


def test_intervals_are_drawn_by_their_seed():
    detections, truths = draw(10, seed=2)
    once, again, other = (
        ap_interval(detections, truths, classes=CLASSES, seed=seed) for seed in (0, 0, 1)
    )
    assert once == again != other


def test_intervals_do_not_depend_on_the_memory_they_may_use(monkeypatch):
    detections, truths = draw(20, seed=3)
    at_once = ap_interval(detections, truths, classes=CLASSES, seed=0, resamples=50)
    monkeypatch.setattr(evaluation, "_BLOCK", 300)
    assert ap_interval(detections, truths, classes=CLASSES, seed=0, resamples=50) == at_once


def test_draws_without_objects_are_left_out():
    """A quarter of the draws of these two pictures is the empty one twice."""
    detections = [found(([0, 0, 9, 9], 0.5, 0)), found()]
    truths = [real(([0, 0, 9, 9], 0)), real()]
    interval = ap_interval(detections, truths, classes=CLASSES, seed=0)
    assert interval.ap == interval.ap50 == (1.0, 1.0)
    alone = ap_interval(detections[1:], truths[1:], classes=CLASSES, seed=0)
    assert alone.ap is alone.ap50 is None
    empty = ap_interval([], [], classes=CLASSES, seed=0)
    assert empty.ap is empty.ap50 is None
    missed = ap_interval([found()], truths[:1], classes=CLASSES, seed=0)
    assert missed.ap == (0.0, 0.0)
    with pytest.raises(UsageError, match="resamples 0"):
        ap_interval(detections, truths, classes=CLASSES, seed=0, resamples=0)


@pytest.mark.parametrize("digits", [1, 12])
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_curves_are_counted_from_each_score_on(digits, iou):
    detections, truths = draw(12, seed=4, digits=digits)
    curves = precision_recall(detections, truths, classes=CLASSES, iou=iou)
    (every,) = match_detections(detections, truths, classes=CLASSES, ious=[iou])
    for label, curve in enumerate(curves):
        mine = (every.labels == label) & ~every.ignored
        assert curve.scores.tolist() == sorted(set(every.scores[mine]), reverse=True)
        assert len(curve.scores) >= 5
        for score, precision, recall in zip(
            curve.scores, curve.precision, curve.recall, strict=True
        ):
            kept = from_score(detections, score)
            (matches,) = match_detections(kept, truths, classes=CLASSES, ious=[iou])
            counted = (matches.labels == label) & ~matches.ignored
            assert precision == matches.right[counted].sum() / counted.sum()
            assert recall == matches.right[counted].sum() / matches.objects[:, label].sum()


def test_the_area_under_a_curve_is_the_average_precision():
    detections, truths = draw(30, seed=5)
    curves = precision_recall(detections, truths, classes=CLASSES)
    areas = [
        np.mean([curve.precision[curve.recall >= recall].max(initial=0) for recall in RECALLS])
        for curve in curves
    ]
    figures = evaluate_detections(detections, truths, classes=CLASSES)
    assert np.mean(areas) == pytest.approx(figures.ap50, abs=1e-12)


def test_curves_of_little():
    detections = [found(([0, 0, 9, 9], 0.5, 0), ([0, 0, 9, 9], 0.4, 1))]
    none, wrong, missed = precision_recall(
        detections, [real(([50, 50, 59, 59], 1), ([0, 0, 9, 9], 2))], classes=CLASSES
    )
    assert none is None
    assert (wrong.precision.tolist(), wrong.recall.tolist()) == ([0], [0])
    assert missed.scores.shape == missed.precision.shape == missed.recall.shape == (0,)
    assert precision_recall([], [], classes=2) == (None, None)


@pytest.mark.parametrize("digits", [1, 12])
def test_no_threshold_is_better_than_the_best(digits):
    detections, truths = draw(15, seed=6, digits=digits)
    best = best_threshold(detections, truths, classes=CLASSES)
    tried = {}
    for score in sorted({score for one in detections for score in one.scores}, reverse=True):
        kept = from_score(detections, score)
        (matches,) = match_detections(kept, truths, classes=CLASSES, ious=[0.5])
        for label in (None, 0, 1, 2):
            mine = ~matches.ignored & ((matches.labels == label) | (label is None))
            objects = matches.objects[:, slice(None) if label is None else label].sum()
            hits = matches.right[mine].sum()
            tried.setdefault(label, []).append((2 * hits / (mine.sum() + objects), score))
    for label, answer in zip((None, 0, 1, 2), (best.overall, *best.per_class), strict=True):
        highest = max(f1 for f1, _ in tried[label])
        assert answer.f1 == pytest.approx(highest, abs=1e-12)
        reached = [score for f1, score in tried[label] if f1 == pytest.approx(highest, abs=1e-12)]
        assert answer.score == reached[0]
        harmonic = 2 / (1 / answer.precision + 1 / answer.recall)
        assert answer.f1 == pytest.approx(harmonic)


def test_without_a_right_detection_there_is_no_threshold():
    truths = [real(([0, 0, 9, 9], 0), ([50, 50, 59, 59], 1))]
    detections = [found(([0, 0, 9, 9], 0.25, 0), ([0, 0, 9, 9], 0.75, 1), ([0, 0, 9, 9], 0.5, 2))]
    best = best_threshold(detections, truths, classes=CLASSES)
    assert best.per_class[1:] == (None, None)
    assert best.per_class[0].model_dump() == {"score": 0.25, "f1": 1, "precision": 1, "recall": 1}
    assert best.overall.f1 == pytest.approx(2 / 5)
    assert best_threshold([], [], classes=1).overall is None


HERE, THERE, FAR, CROWD = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 50, 90, 90]


def test_confusion_by_hand():
    truths = [
        real((HERE, 0), (THERE, 1), (FAR, 1), (CROWD, 2), crowd=[3]),
        real((HERE, 2), (THERE, 2)),
        real(),
    ]
    detections = [
        found(
            (HERE, 0.9, 0),  # right
            (HERE, 0.8, 0),  # once more: nothing is left there
            (THERE, 0.7, 0),  # a 1 taken for a 0
            (FAR, 0.2, 1),  # below the score: missed
            ([5, 60, 15, 70], 0.9, 2),  # in a crowd of its class: not counted
            ([5, 60, 15, 70], 0.9, 1),  # in a crowd of another class: nothing of its class there
        ),
        found(
            (HERE, 0.9, 1),  # taken for a 1, but the next is right: nothing is left there
            (HERE, 0.4, 2),
            ([24, 0, 34, 10], 0.6, 0),  # IoU 6 / 14
        ),
        found((FAR, 0.3, 2)),  # the score itself is kept
    ]
    table = confusion(detections, truths, classes=3)
    assert table.tolist() == [
        [1, 0, 0, 0],
        [1, 0, 0, 1],
        [0, 0, 1, 1],
        [2, 2, 1, 0],
    ]
    looser = confusion(detections, truths, classes=3, iou=0.4, score=0.1)
    assert looser.tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 2, 1, 0],
    ]


def test_confusion_counts_everything_once():
    detections, truths = draw(25, seed=7)
    table = confusion(detections, truths, classes=CLASSES, score=0.2)
    (matches,) = match_detections(from_score(detections, 0.2), truths, classes=CLASSES, ious=[0.5])
    counted = ~matches.ignored
    answers = np.bincount(matches.labels[counted], minlength=CLASSES)
    assert table[:-1].sum(axis=1).tolist() == matches.objects.sum(axis=0).tolist()
    assert table[:, :-1].sum(axis=0).tolist() == answers.tolist()
    right = np.bincount(matches.labels[matches.right], minlength=CLASSES)
    assert np.diag(table)[:-1].tolist() == right.tolist()
    assert (table[:-1, -1] > 0).all()
    assert (table[-1, :-1] > 0).all()
    assert table[:-1, :-1].sum() > right.sum()
    assert (table >= 0).all()
    assert confusion([], [], classes=2).tolist() == np.zeros((3, 3)).tolist()


def test_scores_of_pictures_by_hand():
    half = [0, 0, 10, 6]  # IoU 0.6 with HERE
    truth = real((HERE, 0), (THERE, 1))
    cases = {
        "all": (found((HERE, 0.9, 0), (THERE, 0.9, 1)), truth, 1.0),
        "one badly, one missed, one false": (
            found((half, 0.9, 0), (FAR, 0.9, 1)),
            truth,
            0.6 / (1 + 0.5 + 0.5),
        ),
        "the other class": (found((HERE, 0.9, 1)), truth, 0.0),
        "below the score": (found((HERE, 0.29, 0)), real((HERE, 0)), 0.0),
        "nothing, nothing": (found(), real(), 1.0),
        "nothing, something": (found((HERE, 0.9, 0)), real(), 0.0),
        "nothing found": (found(), truth, 0.0),
        "only a crowd": (found((HERE, 0.9, 0)), real((HERE, 0), crowd=[0]), 1.0),
    }
    scores = picture_scores(
        [case[0] for case in cases.values()], [case[1] for case in cases.values()], classes=2
    )
    assert dict(zip(cases, scores.tolist(), strict=True)) == {
        name: pytest.approx(case[2]) for name, case in cases.items()
    }
    assert picture_scores([], [], classes=2).shape == (0,)


def test_scores_of_pictures_are_f1_times_overlap():
    detections, truths = draw(40, seed=8)
    scores = picture_scores(detections, truths, classes=CLASSES, score=0.3)
    assert ((scores >= 0) & (scores <= 1)).all()
    for one, truth, score in zip(detections, truths, scores, strict=True):
        (alone,) = match_detections(from_score([one], 0.3), [truth], classes=CLASSES, ious=[0.5])
        hits, kept = alone.right.sum(), (~alone.ignored).sum()
        if kept + alone.objects.sum() == 0:
            assert score == 1
            continue
        f1 = 2 * hits / (kept + alone.objects.sum())
        overlap = alone.overlaps[alone.right].mean() if hits else 0.0
        assert score == pytest.approx(f1 * overlap, abs=1e-12)
