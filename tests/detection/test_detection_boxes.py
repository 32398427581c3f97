"""Boxes against torchvision's, and soft-NMS against the loop of its paper."""

import math

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder

from featherweight.detection.boxes import (
    area,
    class_nms,
    clip,
    decode,
    encode,
    iou,
    nms,
    soft_nms,
)
from featherweight.errors import DataError, UsageError


def drawn(count, *, seed, dtype=np.float64, whole=False):
    """Return overlapping boxes and scores with ties; every tenth box has no width or no height."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(1, 40, (count, 2))], axis=1)
    boxes[::10, 2] = boxes[::10, 0]
    boxes[5::20, 3] = boxes[5::20, 1]
    if whole:
        boxes = boxes.round()
    scores = generator.random(count).round(2)  # about ten boxes a score
    return boxes.astype(dtype), scores.astype(dtype)


def test_areas_and_overlaps_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]])
    others = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
    assert area(boxes).tolist() == [100, 50]
    assert iou(boxes, others) == pytest.approx(np.array([[50 / 150, 0, 1], [25 / 125, 0, 0.5]]))


def test_overlaps_are_torchvisions():
    (boxes, _), (others, _) = drawn(200, seed=0), drawn(150, seed=1)
    full, full_others = boxes[area(boxes) > 0], others[area(others) > 0]
    expected = torchvision.ops.box_iou(torch.from_numpy(full), torch.from_numpy(full_others))
    assert iou(full, full_others) == pytest.approx(expected.numpy(), abs=1e-12)


def test_a_crowd_is_measured_by_the_detection():
    boxes = np.array([[0.0, 0, 10, 10], [90, 90, 110, 110]])
    crowd = np.array([[0.0, 0, 100, 100], [0, 0, 100, 100]])
    found = iou(boxes, crowd, crowd=np.array([True, False]))
    assert found == pytest.approx(np.array([[1.0, 0.01], [0.25, 100 / 10300]]))


def test_a_box_without_area_overlaps_nothing():
    line, point = [0.0, 0, 0, 10], [5.0, 5, 5, 5]
    boxes = np.array([line, point, [0, 0, 10, 10]])
    crowd = np.array([True, True, True])
    assert iou(boxes, boxes).tolist() == np.diag([0.0, 0, 1]).tolist()
    assert iou(boxes, boxes, crowd=crowd).tolist() == np.diag([0.0, 0, 1]).tolist()
    tiny = np.array([[0, 0, 1e-200, 1e-200]])  # its area is 0 in float64
    assert iou(tiny, tiny).tolist() == [[0.0]]
    assert np.isfinite(iou(*(2 * [drawn(300, seed=2)[0]]))).all()


def test_no_boxes_have_no_overlaps():
    none, one = np.empty((0, 4)), np.array([[0.0, 0, 1, 1]])
    assert iou(none, one).shape == (0, 1)
    assert iou(one, none).shape == (1, 0)
    assert area(none).shape == clip(none, width=1, height=1).shape[:1] == (0,)
    assert encode(none, none).shape == decode(none, none).shape == (0, 4)
    assert nms(none, np.empty(0), threshold=0.5).tolist() == []
    assert class_nms(none, np.empty(0), np.empty(0, dtype=int), threshold=0.5).tolist() == []
    assert [part.tolist() for part in soft_nms(none, np.empty(0))] == [[], []]


def test_areas_of_small_numbers_do_not_overflow():
    assert area(np.array([[0, 0, 200, 200]], dtype=np.uint8)).tolist() == [40_000]
    assert area(np.array([[0, 0, 300, 300]], dtype=np.float16)).tolist() == [90_000]


def test_clipping():
    boxes = np.array([[-5.0, -5, 5, 5], [90, 40, 130, 70], [200, 10, 220, 20]])
    expected = [[0, 0, 5, 5], [90, 40, 100, 50], [100, 10, 100, 20]]
    assert clip(boxes, width=100, height=50).tolist() == expected


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_offsets_are_undone_and_torchvisions(weights):
    boxes, anchors = (drawn(400, seed=seed)[0] for seed in (3, 4))
    full = (area(boxes) > 0) & (area(anchors) > 0)
    boxes, anchors = boxes[full], anchors[full]
    deltas = encode(boxes, anchors, weights=weights)
    assert decode(deltas, anchors, weights=weights) == pytest.approx(boxes, abs=1e-9)
    peer = BoxCoder(weights)
    expected = peer.encode_single(torch.from_numpy(boxes), torch.from_numpy(anchors))
    assert deltas == pytest.approx(expected.numpy(), abs=1e-12)
    wild = 20 * deltas
    expected = peer.decode_single(torch.from_numpy(wild), torch.from_numpy(anchors))
    assert decode(wild, anchors, weights=weights) == pytest.approx(expected.numpy(), rel=1e-12)


def test_growth_ends_at_1000_over_16():
    anchors = np.array([[0.0, 0, 16, 16]])
    found = decode(np.array([[0.0, 0, 800, math.log(2)]]), anchors)
    assert found == pytest.approx(np.array([[-492.0, -8, 508, 24]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_nms_is_torchvisions(dtype, whole, threshold):
    """Whole numbers have IoUs that are 0.5 exactly, or the float32 beside 0.3 and 0.7."""
    boxes, scores = drawn(1000, seed=5, dtype=dtype, whole=whole)
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    found = nms(boxes, scores, threshold=threshold)
    assert found.tolist() == expected.tolist()
    assert (len(found) < 900) == (threshold < 1)


def test_nms_compares_float32_overlaps_exactly():
    """3 / 10 as float32 is above 0.3, as torchvision sees it."""
    boxes = np.array([[0, 0, 13, 1], [7, 0, 20, 1]], dtype=np.float32)  # 6 / 20
    scores = np.array([0.5, 0.9], dtype=np.float32)
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3)
    assert nms(boxes, scores, threshold=0.3).tolist() == expected.tolist() == [1]
    assert nms(boxes.astype(np.float64), scores, threshold=0.3).tolist() == [1, 0]


def test_the_first_of_equal_scores_is_kept():
    boxes = np.array([[0.0, 0, 10, 10]] * 3)
    assert nms(boxes, np.array([0.5, 0.7, 0.7]), threshold=0.5).tolist() == [1]


def test_classes_do_not_compete():
    boxes, scores = drawn(1000, seed=6)
    labels = np.random.default_rng(6).integers(0, 5, 1000)
    found = class_nms(boxes, scores, labels, threshold=0.4)
    expected = set()
    for label in range(5):
        places = np.flatnonzero(labels == label)
        kept = torchvision.ops.nms(
            torch.from_numpy(boxes[places]), torch.from_numpy(scores[places]), 0.4
        )
        expected |= set(places[kept.numpy()].tolist())
    assert set(found.tolist()) == expected
    assert len(found) == len(expected)
    assert found.tolist() == sorted(found, key=lambda place: (-scores[place], place))


def paper_soft_nms(boxes, scores, *, decay, threshold, sigma, least):
    """Figure 2 of the paper, one pair after the other."""
    scores, left, kept = scores.tolist(), list(range(len(boxes))), []
    left = [i for i in left if scores[i] >= least]
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        kept.append((best, scores[best]))
        for i in left:
            overlap = float(iou(boxes[best : best + 1], boxes[i : i + 1])[0, 0])
            if decay == "gaussian":
                scores[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                scores[i] *= 1 - overlap
        left = [i for i in left if scores[i] >= least]
    return kept


@pytest.mark.parametrize("decay", ["linear", "gaussian"])
@pytest.mark.parametrize("least", [0.001, 0.2])
def test_soft_nms_is_the_papers(decay, least):
    boxes, scores = drawn(120, seed=7)
    settings = {"decay": decay, "threshold": 0.3, "sigma": 0.5, "least": least}
    before = scores.copy()
    places, new = soft_nms(boxes, scores, **settings)
    expected = paper_soft_nms(boxes, scores, **settings)
    assert places.tolist() == [place for place, _ in expected]
    assert new == pytest.approx([score for _, score in expected], rel=1e-12)
    assert (scores == before).all()
    assert (np.diff(new) <= 0).all()
    assert (new < scores[places] - 0.01).sum() > 5  # something was decayed and kept


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda boxes, scores: area(boxes[:, :3]), r"boxes of shape \(4, 3\)"),
        (lambda boxes, scores: iou(boxes, boxes, crowd=np.array([True])), "crowd of shape"),
        (lambda boxes, scores: nms(boxes, scores[:2], threshold=0.5), "scores of shape"),
        (lambda boxes, scores: nms(boxes, scores, threshold=1.5), "threshold 1.5"),
        (lambda boxes, scores: soft_nms(boxes, scores, threshold=-1), "threshold -1"),
        (lambda boxes, scores: soft_nms(boxes, scores, sigma=0), "sigma 0"),
        (lambda boxes, scores: soft_nms(boxes, scores, decay="hard"), "linear, gaussian"),
        (lambda boxes, scores: class_nms(boxes, scores, boxes, threshold=0.5), "labels of shape"),
        (lambda boxes, scores: encode(boxes, boxes[:2]), "4 boxes for 2 anchors"),
        (lambda boxes, scores: decode(boxes, boxes[:2]), "4 deltas for 2 anchors"),
        (lambda boxes, scores: encode(boxes, boxes), "box 2 has no area"),
        (lambda boxes, scores: encode(boxes[:2], boxes[1:3]), "anchor 1 has no area"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    boxes = np.array([[0.0, 0, 1, 1], [0, 0, 2, 2], [3, 3, 3, 4], [0, 0, 5, 5]])
    with pytest.raises((DataError, UsageError), match=message):
        call(boxes, np.array([0.1, 0.2, 0.3, 0.4]))
