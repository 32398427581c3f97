"""Position-sensitive pooling against torchvision's, and anchors against what is published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import ps_roi_align

from featherweight.detection.anchors import anchors_of
from featherweight.detection.detector import Detector, SsdLite, ThunderNet, backbone_of
from featherweight.detection.numpy_pooling import pool_regions_numpy
from featherweight.detection.pooling import pool_regions
from featherweight.networks.resolve import create_architecture

BINS, STRIDE = 7, 16


def drawn(
    *, count: int = 2, regions: int = 40, size: int = 20
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps and boxes inside the picture, one of them all of it and one without area."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, 5 * BINS**2, size, size, generator=generator)
    corners = torch.rand(count, regions, 2, 2, generator=generator) * size * STRIDE
    boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=2)
    boxes[:, 0] = torch.tensor([0.0, 0.0, size * STRIDE, size * STRIDE])
    boxes[:, 1] = size * STRIDE * torch.tensor([0.1, 0.2, 0.1, 0.4])
    return features, boxes


@pytest.mark.parametrize("size", [20, 7, 1])
def test_the_average_is_torchvisions(size: int) -> None:
    features, boxes = drawn(size=size)
    expected = ps_roi_align(features, list(boxes), BINS, 1.0 / STRIDE, sampling_ratio=2)
    found = pool_regions(features, boxes, bins=BINS, stride=STRIDE)
    assert found.shape == (2, 40, 5, BINS, BINS)
    assert (found.flatten(0, 1) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("pool", ["average", "max"])
def test_numpy_computes_the_same(pool: str) -> None:
    features, boxes = drawn()
    whole = pool_regions(features, boxes, bins=BINS, stride=STRIDE, pool=pool)
    for one, own, expected in zip(features, boxes, whole, strict=True):
        found = pool_regions_numpy(one.numpy(), own.numpy(), bins=BINS, stride=STRIDE, pool=pool)
        assert np.abs(found - expected.numpy()).max() < 1e-5


def test_the_largest_sample_is_another_rule() -> None:
    """The mean and the authors' maximum are no approximation of each other."""
    features, boxes = drawn()
    mean, largest = (
        pool_regions(features, boxes, bins=BINS, stride=STRIDE, pool=pool).flatten()
        for pool in ("average", "max")
    )
    assert torch.corrcoef(torch.stack([mean, largest]))[0, 1] < 0.7


def test_gradients_are_torchvisions() -> None:
    features, boxes = drawn(regions=8)
    weight = torch.randn(2, 8, 5, BINS, BINS, generator=torch.Generator().manual_seed(1))
    found = []
    for pool in (
        lambda x: pool_regions(x, boxes, bins=BINS, stride=STRIDE),
        lambda x: ps_roi_align(x, list(boxes), BINS, 1.0 / STRIDE, 2).view_as(weight),
    ):
        x = features.clone().requires_grad_()
        (pool(x) * weight).sum().backward()
        found.append(x.grad)
    assert found[0] is not None
    assert (found[0] - found[1]).abs().max() < 1e-5


def detector(head: ThunderNet | SsdLite, resolution: int = 320) -> Detector:
    whole = create_architecture("snet49", resolution=resolution, form="standard")
    return Detector(name="x", backbone=backbone_of(whole), head=head, num_classes=3)


def test_thundernet_has_twenty_five_anchors_a_cell() -> None:
    (boxes,) = anchors_of(detector(ThunderNet()))
    assert boxes.shape == (20 * 20 * 25, 4)
    inside = ((boxes >= 0) & (boxes <= 320)).all(1)
    assert inside.sum() == 3580
    sides = boxes[:25, 2:] - boxes[:25, :2]
    areas = np.repeat([32, 64, 128, 256, 512], 5) ** 2
    assert sides.prod(1) == pytest.approx(areas, rel=1e-4)
    assert sides[:5, 1] / sides[:5, 0] == pytest.approx([0.5, 0.75, 1, 4 / 3, 2], rel=1e-4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres[0] == pytest.approx([8, 8])
    assert centres[25] == pytest.approx([24, 8]), "cells row by row"


def test_ssdlite_has_six_anchors_a_cell_on_every_map() -> None:
    maps = anchors_of(detector(SsdLite()))
    assert [len(boxes) // 6 for boxes in maps] == [400, 100, 25, 9, 4, 1]
    shares = [boxes[0, 2] - boxes[0, 0] for boxes in maps]
    assert shares == pytest.approx(320 * np.linspace(0.2, 0.95, 6), rel=1e-4)
