"""The boxes in one picture from what its dense part answered, in numpy alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from featherweight.detection.anchors import anchors_of
from featherweight.detection.answering import (
    ANCHOR_WEIGHTS,
    BOX_WEIGHTS,
    COMPARED,
    IOU,
    LEAST_SCORE,
    LEAST_SIDE,
    PROPOSAL_IOU,
    PROPOSED,
)
from featherweight.detection.average_precision import MOST, Detections
from featherweight.detection.boxes import class_nms, clip, decode, nms
from featherweight.detection.detector import Detector, ThunderNet
from featherweight.detection.numpy_pooling import pool_regions_numpy
from featherweight.detection.parts import BOX_DELTAS, BOX_SCORES, DELTAS, FEATURES, SCORES
from featherweight.detection.table import pack_detections

__all__ = ["answer_picture"]

Maps = Mapping[str, NDArray[np.float32]]


def answer_picture(detector: Detector, maps: Maps, weights: Maps) -> NDArray[np.float32]:
    """Return `detections` of one picture, float32 (100, 6), as detection/table.py has it.

    Args:
        detector: whose dense part answered.
        maps: its outputs by name, each without the batch axis.
        weights: of the box head, by the names of torch's state dict; of a detector without one
            nothing is read.
    """
    anchors = _anchors(detector)
    logits, deltas = _of_anchors(maps, SCORES), _of_anchors(maps, DELTAS)
    height, width = detector.input_shape[1:]
    if isinstance(detector.head, ThunderNet):
        boxes = clip(decode(deltas, anchors, weights=ANCHOR_WEIGHTS), width=width, height=height)
        regions = _proposals(boxes, logits[:, 1] - logits[:, 0], most=detector.head.regions)
        logits, deltas = _box_head(detector, maps[FEATURES], regions, weights)
        anchors = regions
    boxes = clip(decode(deltas, anchors, weights=BOX_WEIGHTS), width=width, height=height)
    scores = _softmax(logits)[:, 1:]
    places, labels = np.nonzero(scores > LEAST_SCORE)
    sure = scores[places, labels]
    surest = np.argsort(-sure, kind="stable")[:COMPARED]
    places, labels, sure = places[surest], labels[surest], sure[surest]
    kept = class_nms(boxes[places], sure, labels, threshold=IOU)[:MOST]
    sides = np.array([width, height, width, height], dtype=np.float32)
    found = Detections(boxes[places][kept] / sides, sure[kept], labels[kept])
    return np.asarray(pack_detections([found])[0])


@functools.lru_cache(maxsize=8)
def _anchors(detector: Detector) -> NDArray[np.float32]:
    return np.concatenate(anchors_of(detector))


def _of_anchors(maps: Maps, name: str) -> NDArray[np.float32]:
    """Return (K, values) of all maps with a name, cells row by row, the anchors of each in turn."""
    found = []
    for key in sorted(key for key in maps if key.startswith(name)):
        anchors = maps[DELTAS + key.removeprefix(name)].shape[0] // 4
        values = maps[key].shape[0] // anchors
        rows, columns = maps[key].shape[1:]
        apart = maps[key].reshape(anchors, values, rows, columns)
        found.append(apart.transpose(2, 3, 0, 1).reshape(-1, values))
    return np.concatenate(found)


def _proposals(
    boxes: NDArray[np.float32], surplus: NDArray[np.float32], *, most: int
) -> NDArray[np.float32]:
    """Return the boxes (R, 4) that are likely objects and no duplicates, best first."""
    order = np.argsort(-surplus, kind="stable")[:PROPOSED]
    chosen = boxes[order]
    large = (chosen[:, 2:] - chosen[:, :2] >= LEAST_SIDE).all(axis=1)
    chosen, best = chosen[large], surplus[order][large]
    return np.asarray(chosen[nms(chosen, best, threshold=PROPOSAL_IOU)[:most]])


def _box_head(
    detector: Detector,
    features: NDArray[np.float32],
    regions: NDArray[np.float32],
    weights: Maps,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return logits (R, classes + 1) and offsets (R, 4) of regions."""
    head = detector.head
    assert isinstance(head, ThunderNet)
    stride = detector.resolution // features.shape[1]
    pooled = pool_regions_numpy(features, regions, bins=head.bins, stride=stride)
    flat = pooled.reshape(len(regions), -1)

    def linear(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    hidden = np.maximum(linear(flat, "connected"), 0.0)
    return linear(hidden, BOX_SCORES), linear(hidden, BOX_DELTAS)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
