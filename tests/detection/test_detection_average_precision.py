"""Average precision against COCO's protocol, written out, and against faster-coco-eval."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featherweight.detection.average_precision import (
    IOUS,
    RECALLS,
    Detections,
    Truth,
    evaluate_detections,
    match_detections,
)
from featherweight.errors import DataError, MissingDependencyError, UsageError

TINY_COCO = Path(__file__).parents[3] / "shared" / "data" / "tiny_coco"
LARGEST = 1e5**2
AREAS = {"all": (0, LARGEST), "small": (0, 1024), "medium": (1024, 9216), "large": (9216, LARGEST)}

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("faster_coco_eval") is None,
    reason="faster-coco-eval is not installed",
)


def found(boxes=(), scores=(), labels=()):
    return Detections(
        np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        np.asarray(scores, dtype=np.float64),
        np.asarray(labels, dtype=np.int64),
    )


def real(boxes=(), labels=(), crowd=None):
    return Truth(
        np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        np.asarray(labels, dtype=np.int64),
        np.asarray([False] * len(labels) if crowd is None else crowd, dtype=np.bool_),
    )


def draw(seed):
    """Return detections, truths and classes: crowds, ties, empty pictures, absent classes."""
    generator = np.random.default_rng(seed)
    classes = int(generator.integers(1, 5))
    detections, truths = [], []
    for _ in range(generator.integers(1, 8)):
        count = int(generator.integers(0, 7))
        sides = np.exp(generator.uniform(np.log(2), np.log(400), (count, 2)))  # 4 to 160,000 px^2
        corners = generator.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        labels = generator.integers(0, max(1, classes - 1), count)  # the last class is often absent
        near = np.repeat(np.arange(count), generator.integers(0, 5, count))
        if seed % 10 == 0:
            near = np.repeat(near, 40)  # more than 100 of a class in a picture
        size = np.tile(sides[near], 2)
        guesses = boxes[near] + size * generator.normal(0, 0.12, (len(near), 4))
        wild = generator.uniform(0, 300, (generator.integers(0, 4), 2))
        wild = np.concatenate([wild, wild + generator.uniform(0, 200, wild.shape)], axis=1)
        guesses = np.concatenate([guesses, wild])
        if seed % 2:  # IoUs that tie, or are a threshold exactly
            boxes, guesses = boxes.round(), (guesses / 4).round() * 4
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2])
        answers = np.concatenate([labels[near], generator.integers(0, classes, len(wild))])
        strays = generator.random(len(answers)) < 0.1
        answers[strays] = generator.integers(0, classes, strays.sum())
        scores = generator.random(len(answers)).round(1 if seed % 3 else 12)
        detections.append(found(guesses, scores, answers))
        truths.append(real(boxes, labels, generator.random(count) < 0.15))
    return detections, truths, classes


def plain(picture):
    """Return x, y, width, height of each box."""
    return np.concatenate([picture.boxes[:, :2], picture.boxes[:, 2:] - picture.boxes[:, :2]], 1)


def library_figures(detections, truths, classes):
    """What faster-coco-eval says of a COCO file and a file of results, as its manual has it."""
    from faster_coco_eval import COCO, COCOeval_faster

    annotations, results = [], []
    for picture, (one, truth) in enumerate(zip(detections, truths, strict=True)):
        for box, label, crowd in zip(plain(truth), truth.labels, truth.crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture + 1,
                    "category_id": int(label) + 1,
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(crowd),
                }
            )
        for box, label, score in zip(plain(one), one.labels, one.scores, strict=True):
            results.append(
                {
                    "image_id": picture + 1,
                    "category_id": int(label) + 1,
                    "bbox": box.tolist(),
                    "score": float(score),
                }
            )
    file = {
        "images": [{"id": 1 + picture} for picture in range(len(truths))],
        "categories": [{"id": 1 + label} for label in range(classes)],
        "annotations": annotations,
    }
    coco = COCO(file)
    evaluator = COCOeval_faster(coco, coco.loadRes(results), iouType="bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    figures = dict(zip(names, evaluator.stats[:6], strict=True))
    return {name: None if value == -1 else float(value) for name, value in figures.items()}


def overlap(one, other, crowd):
    """IoU of x, y, width, height."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    whole = one[2] * one[3] if crowd else one[2] * one[3] + other[2] * other[3] - common
    return common / whole


def match_picture(boxes, truths, ignored, crowd, iou):
    """Return index of the truth of each box (-1: none); boxes best first, ignored truths last."""
    taken, answer = set(), []
    for box in boxes:
        best, match = min(iou, 1 - 1e-10), -1
        for place, truth in enumerate(truths):
            if place in taken and not crowd[place]:
                continue
            if match > -1 and not ignored[match] and ignored[place]:
                break
            value = overlap(box, truth, crowd[place])
            if value >= best:
                best, match = value, place
        taken.add(match)
        answer.append(match)
    return answer


def written_out(detections, truths, label, *, iou, area, most=100):
    """COCO's protocol for one class, one IoU, one range of areas: pycocotools, step by step."""
    rows, objects = [], 0
    for one, truth in zip(detections, truths, strict=True):
        places = np.flatnonzero(one.labels == label)
        places = places[np.argsort(-one.scores[places], kind="mergesort")][:most]
        boxes = plain(one)[places]
        mine = np.flatnonzero(truth.labels == label)
        real_boxes, crowd = plain(truth)[mine], truth.crowd[mine]
        size = real_boxes[:, 2] * real_boxes[:, 3]
        ignored = crowd | (size < area[0]) | (size > area[1])
        order = np.argsort(ignored, kind="mergesort")
        real_boxes, crowd, ignored = real_boxes[order], crowd[order], ignored[order]
        objects += int((~ignored).sum())
        matched = match_picture(boxes, real_boxes, ignored, crowd, iou)
        for place, box, match in zip(places, boxes, matched, strict=True):
            outside = not area[0] <= box[2] * box[3] <= area[1]
            out = ignored[match] if match > -1 else outside
            rows.append((one.scores[place], match > -1 and not out, match == -1 and not out))
    if objects == 0:
        return None
    rows = [rows[i] for i in np.argsort([-row[0] for row in rows], kind="mergesort")]
    hits = np.cumsum([row[1] for row in rows])
    misses = np.cumsum([row[2] for row in rows])
    recall, precision = hits / objects, hits / np.maximum(hits + misses, 1)
    for place in range(len(rows) - 1, 0, -1):
        precision[place - 1] = max(precision[place - 1], precision[place])
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.mean([precision[p] if p < len(rows) else 0.0 for p in places])


def mean(values):
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


@needs_library
@pytest.mark.parametrize("block", range(10))
def test_figures_are_the_librarys(block):
    """200 cases; the sums are the library's, so that they agree to the last bits."""
    seen = set()
    for seed in range(20 * block, 20 * block + 20):
        detections, truths, classes = draw(seed)
        figures = evaluate_detections(detections, truths, classes=classes)
        expected = library_figures(detections, truths, classes)
        assert {name: getattr(figures, name) for name in expected} == {
            name: None if value is None else pytest.approx(value, abs=1e-12)
            for name, value in expected.items()
        }, seed
        assert figures.pictures == len(truths)
        seen |= {name for name, value in expected.items() if value}
    assert len(seen) == 6


@needs_library
@pytest.mark.parametrize("seed", [*range(24), 30, 40])
def test_figures_are_the_protocol_written_out(seed):
    detections, truths, classes = draw(seed)
    figures = evaluate_detections(detections, truths, classes=classes)
    for name, area in AREAS.items():
        values = [
            [written_out(detections, truths, label, iou=iou, area=area) for iou in IOUS]
            for label in range(classes)
        ]
        if name == "all":
            assert figures.per_class == pytest.approx([mean(row) for row in values], abs=1e-12)
            assert figures.ap50 == pytest.approx(mean([row[0] for row in values]), abs=1e-12)
            assert figures.ap75 == pytest.approx(mean([row[5] for row in values]), abs=1e-12)
        figure = figures.ap if name == "all" else getattr(figures, f"ap_{name}")
        assert figure == pytest.approx(mean([v for row in values for v in row]), abs=1e-12), name


@needs_library
@pytest.mark.parametrize("most", [1, 3])
def test_only_the_best_of_a_class_count(most):
    for seed in range(12):
        detections, truths, classes = draw(seed)
        expected = [
            written_out(detections, truths, label, iou=0.5, area=AREAS["all"], most=most)
            for label in range(classes)
        ]
        figures = evaluate_detections(detections, truths, classes=classes, most=most)
        assert figures.ap50 == pytest.approx(mean(expected), abs=1e-12)
        (matches,) = match_detections(detections, truths, classes=classes, ious=[0.5], most=most)
        groups = np.unique(np.stack([matches.pictures, matches.labels]), axis=1, return_counts=True)
        assert groups[1].max(initial=0) <= most


@needs_library
@pytest.mark.parametrize("seed", [*range(12), 20])
def test_matches_are_the_protocol_written_out(seed):
    detections, truths, classes = draw(seed)
    for iou, matches in zip(
        (0.5, 0.8),
        match_detections(detections, truths, classes=classes, ious=[0.5, 0.8]),
        strict=True,
    ):
        answers = {}
        for picture, (one, truth) in enumerate(zip(detections, truths, strict=True)):
            for label in range(classes):
                places = np.flatnonzero(one.labels == label)
                places = places[np.argsort(-one.scores[places], kind="stable")][:100]
                mine = np.flatnonzero(truth.labels == label)
                mine = mine[np.argsort(truth.crowd[mine], kind="stable")]
                crowd = truth.crowd[mine]
                pairs = match_picture(plain(one)[places], plain(truth)[mine], crowd, crowd, iou)
                for place, match in zip(places, pairs, strict=True):
                    answers[picture, int(place)] = -1 if match < 0 else int(mine[match])
                assert matches.objects[picture, label] == (~crowd).sum()
        keys = list(zip(matches.pictures.tolist(), matches.places.tolist(), strict=True))
        assert dict(zip(keys, matches.found.tolist(), strict=True)) == answers
        assert keys == sorted(keys)
        for row, (picture, place) in enumerate(keys):
            one, truth, match = detections[picture], truths[picture], matches.found[row]
            assert matches.labels[row] == one.labels[place]
            assert matches.scores[row] == one.scores[place]
            assert matches.ignored[row] == (match >= 0 and truth.crowd[match])
            expected = 0.0
            if match >= 0:
                expected = overlap(plain(one)[place], plain(truth)[match], truth.crowd[match])
            assert matches.overlaps[row] == pytest.approx(expected, abs=1e-12)


@pytest.mark.data
@needs_library
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_figures_of_photographs_are_the_librarys(noise):
    file = TINY_COCO / "annotations" / "instances_val2017.json"
    if not file.exists():
        pytest.skip("no ../shared/data/tiny_coco")
    content = json.loads(file.read_text())
    numbers = {one["id"]: place for place, one in enumerate(content["categories"])}
    generator = np.random.default_rng(0)
    detections, truths = [], []
    for picture in content["images"]:
        objects = [one for one in content["annotations"] if one["image_id"] == picture["id"]]
        boxes = np.array([one["bbox"] for one in objects], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([numbers[one["category_id"]] for one in objects], dtype=np.int64)
        crowd = np.array([one["iscrowd"] for one in objects], dtype=np.bool_)
        truths.append(Truth(boxes, labels, crowd))
        near = np.repeat(np.arange(len(boxes)), 3)
        sides = np.tile(boxes[near, 2:] - boxes[near, :2], 2)
        guesses = boxes[near] + sides * generator.normal(0, noise, sides.shape)
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2])
        answers = np.where(
            generator.random(len(near)) < 0.1, generator.integers(0, 80, len(near)), labels[near]
        )
        detections.append(found(guesses, generator.random(len(near)).round(2), answers))
    assert sum(truth.crowd.sum() for truth in truths) == 5
    figures = evaluate_detections(detections, truths, classes=len(numbers))
    expected = library_figures(detections, truths, len(numbers))
    assert {name: getattr(figures, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    assert 0.05 < figures.ap < 0.9
    assert None in figures.per_class  # 50 photographs do not show all 80 classes


@needs_library
def test_by_hand():
    """Two objects, found at the first and the third place: 51 of 101 recalls at 1, 50 at 2/3."""
    boxes = [[0, 0, 10, 10], [50, 50, 90, 90]]
    guesses = [[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 90, 90]]
    figures = evaluate_detections(
        [found(guesses, [0.9, 0.8, 0.7], [1, 1, 1])], [real(boxes, [1, 1])], classes=3
    )
    expected = (51 + 50 * 2 / 3) / 101
    assert figures.per_class == (None, pytest.approx(expected), None)
    assert [figures.ap, figures.ap50, figures.ap75] == pytest.approx([expected] * 3)
    assert (figures.ap_small, figures.ap_large) == (1.0, None)
    assert figures.ap_medium == pytest.approx(1.0)


@needs_library
def test_equal_scores_are_in_the_order_of_pictures():
    right, wrong = found([[0, 0, 9, 9]], [0.5], [0]), found([[50, 50, 59, 59]], [0.5], [0])
    truths = [real([[0, 0, 9, 9]], [0])] * 2
    assert evaluate_detections([right, wrong], truths, classes=1).ap == pytest.approx(51 / 101)
    assert evaluate_detections([wrong, right], truths, classes=1).ap == pytest.approx(51 / 202)


@needs_library
def test_where_nothing_is_there_is_no_figure():
    nothing = {
        "pictures without boxes": ([found()] * 2, [real()] * 2),
        "no pictures": ([], []),
        "only a crowd": ([found([[0, 0, 5, 5]], [0.5], [0])], [real([[0, 0, 9, 9]], [0], [True])]),
        "only detections": ([found([[0, 0, 5, 5]], [0.5], [1])], [real()]),
    }
    for name, (detections, truths) in nothing.items():
        figures = evaluate_detections(detections, truths, classes=2)
        assert figures.model_dump() == {
            **dict.fromkeys(("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")),
            "per_class": (None, None),
            "pictures": len(truths),
        }, name
        (matches,) = match_detections(detections, truths, classes=2, ious=[0.5])
        assert matches.objects.shape == (len(truths), 2)
        assert not matches.right.any()
    missed = evaluate_detections([found()], [real([[0, 0, 9, 9]], [0])], classes=1)
    assert (missed.ap, missed.ap_small, missed.ap_large) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: found([[0, 0, 1, 1]], [], [0]), r"scores of shape \(0,\) for 1 boxes"),
        (lambda: found([[0, 0, 1, 1]], [np.nan], [0]), "a score is not finite"),
        (lambda: found([[0, 0, 1, 1], [5, 0, 4, 1]], [1, 1], [0, 0]), "box 1 is .5.0, 0.0, 4.0"),
        (lambda: found([[0, 0, np.inf, 1]], [1], [0]), "box 0 is"),
        (lambda: Detections(np.zeros((1, 5)), np.zeros(1), np.zeros(1, dtype=int)), "shape .1, 5."),
        (lambda: Detections(np.zeros((1, 4)), np.zeros(1), np.zeros(1)), "labels of type float64"),
        (lambda: Truth(np.zeros((1, 4)), np.zeros(1, dtype=int), np.zeros(1)), "crowd of type"),
        (lambda: real([[0, 0, 1, 1]], [0], []), "allowed: bool .1,."),
        (lambda: evaluate_detections([], [real()], classes=1), "0 pictures for 1 truths"),
        (lambda: evaluate_detections([], [], classes=0), "classes 0"),
        (lambda: evaluate_detections([], [], classes=1, most=0), "most 0"),
        (lambda: match_detections([], [], classes=1, ious=[0.0]), "IoU 0.0; allowed: above 0"),
        (
            lambda: evaluate_detections([found()], [real([[0, 0, 1, 1]], [2])], classes=2),
            "picture 0 has a box of class 2; allowed: 0 to 1",
        ),
        (
            lambda: match_detections(
                [found([[0, 0, 1, 1]], [0.5], [-1])], [real()], classes=2, ious=[0.5]
            ),
            "class -1",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(call, message):
    with pytest.raises((DataError, UsageError), match=message):
        call()


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "featherweight\[detection\]"'):
        evaluate_detections([found()], [real()], classes=1)


def test_importing_needs_neither_the_library_nor_torch():
    program = (
        "import sys; sys.modules['faster_coco_eval'] = sys.modules['torch'] = None;"
        "import featherweight.detection.boxes, featherweight.detection.evaluation"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
