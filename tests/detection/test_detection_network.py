"""A detector learns drawn pictures, and its losses do what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_objects import HEADS, detector_of, drawn_pictures, learnt

from featherweight.detection.average_precision import Truth, evaluate_detections
from featherweight.detection.boxes import decode, encode
from featherweight.detection.losses import Objects, assign, detection_loss
from featherweight.detection.network import (
    DetectorNetwork,
    build_detector,
    decode_boxes,
    encode_boxes,
)


def ap50(network: DetectorNetwork, pictures: torch.Tensor, objects: list[Objects]) -> float:
    truths = [Truth(one.boxes.numpy(), one.labels.numpy(), one.crowd.numpy()) for one in objects]
    found = evaluate_detections(network.eval().detect(pictures), truths, classes=2)
    assert found.ap50 is not None
    return found.ap50


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ssdlite", pytest.param("thundernet", marks=pytest.mark.slow)])
def test_it_learns_eight_pictures_by_heart(kind: str) -> None:
    pictures, objects = drawn_pictures(8)
    network = learnt(detector_of(HEADS[kind]), pictures, objects, steps=100)
    assert ap50(network, pictures, objects) > 0.95


def test_offsets_are_those_of_the_arrays() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, 2, generator=generator) * 50
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 1.0], 1)
    anchors = boxes.flip(0)
    weights = (10.0, 10.0, 5.0, 5.0)
    offsets = encode_boxes(boxes, anchors, weights=weights)
    expected = encode(boxes.numpy(), anchors.numpy(), weights=weights)
    assert np.abs(offsets.numpy() - expected).max() < 1e-4
    again = decode_boxes(offsets, anchors, weights=weights)
    assert (again - boxes).abs().max() < 1e-3
    assert np.abs(again.numpy() - decode(expected, anchors.numpy(), weights=weights)).max() < 1e-3


def test_anchors_are_assigned_as_the_papers_say() -> None:
    objects = Objects(
        torch.tensor([[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 44.0, 44.0], [60.0, 60.0, 90.0, 90.0]]),
        torch.tensor([1, 0, 0]),
        torch.tensor([False, False, True]),
    )
    candidates = torch.tensor(
        [
            [0.0, 0.0, 10.0, 9.0],  # IoU 0.9
            [0.0, 0.0, 10.0, 5.0],  # 0.5
            [0.0, 0.0, 10.0, 2.0],  # 0.2
            [38.0, 38.0, 48.0, 48.0],  # 0.16, the most that the second object has
            [62.0, 62.0, 80.0, 80.0],  # in the crowd
            [20.0, 20.0, 30.0, 30.0],
        ]
    )
    found = assign(candidates, objects, least=0.3, best=1)
    assert found.state.tolist() == [1, -1, 0, 1, -1, 0], "0.5 is neither"
    assert found.place[[0, 3]].tolist() == [0, 1]
    several = assign(candidates, objects, least=0.3, best=3)
    assert several.state.tolist() == [1, 1, 1, 1, -1, 0], "0.16 has no second"
    all_of_them = assign(candidates, objects, least=0.5, best=None)
    assert all_of_them.state.tolist() == [1, 1, 0, 0, -1, 0]
    empty = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
    assert assign(candidates, empty, least=0.3, best=1).state.tolist() == [0] * 6


@pytest.mark.parametrize("kind", HEADS)
def test_a_picture_without_objects_teaches_background(kind: str) -> None:
    pictures, objects = drawn_pictures(2)
    empty = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
    network = build_detector(detector_of(HEADS[kind]), seed=0)
    generator = torch.Generator().manual_seed(0)
    for batch in ([objects[0], empty], [empty, empty]):
        losses = detection_loss(network.train(), pictures, batch, generator=generator)
        assert all(torch.isfinite(value) for value in losses.values())
        sum(losses.values(), torch.zeros(())).backward()
    assert len(network.eval().detect(pictures)) == 2


def test_every_anchor_begins_as_background() -> None:
    network = build_detector(detector_of(HEADS["ssdlite"]), seed=0).eval()
    found = network.raw(torch.zeros(1, 3, 96, 96)).logits.softmax(2)[..., 0]
    assert (found - 0.99).abs().max() < 0.005
