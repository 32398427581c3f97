"""What happens to a picture happens to its boxes."""

from __future__ import annotations

import pytest
import torch

from featherweight.data.box_augmentation import (
    HARDLY_SEEN,
    NO_BOX,
    BoxAugmentation,
    augment_boxed,
)

SIDE, PLAIN = 64, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
CHANGES = {
    "nothing": BoxAugmentation(),
    "mirrored": BoxAugmentation(flip=True),
    "a part": BoxAugmentation(crop=1.0),
    "smaller": BoxAugmentation(expand=1.0, most_expand=3.0),
    "four in one": BoxAugmentation(mosaic=1.0),
    "everything": BoxAugmentation(flip=True, crop=0.4, expand=0.4, mosaic=0.5),
}


def pictures(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return grey pictures with a red box (class 0) and, in every other one, a green one (1)."""
    generator = torch.Generator().manual_seed(1)
    images = torch.full((count, SIDE, SIDE, 3), 60, dtype=torch.uint8)
    boxes, labels = torch.zeros(count, 2, 4), torch.full((count, 2), NO_BOX)
    for index in range(count):
        for label in range(1 + index % 2):
            x, y = torch.randint(0, 12, (2,), generator=generator).tolist()
            x, y = x + 28 * label, y + 28 * label
            images[index, y : y + 24, x : x + 20] = 0
            images[index, y : y + 24, x : x + 20, label] = 250
            boxes[index, label] = torch.tensor([x, y, x + 20, y + 24]) / SIDE
            labels[index, label] = label
    return images, boxes, labels


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("size", [64, 96])
def test_boxes_stay_on_what_they_are_of(name: str, size: int) -> None:
    images, boxes, labels = pictures()
    found = augment_boxed(
        images,
        boxes,
        labels,
        size=size,
        augmentation=CHANGES[name],
        generator=torch.Generator().manual_seed(0),
        **PLAIN,
    )
    assert found.pixels.shape == (12, 3, size, size)
    seen = 0
    for pixels, own, names in zip(found.pixels, found.boxes, found.labels, strict=True):
        inside = torch.zeros(2, size, size, dtype=torch.bool)
        for box, label in zip(own.tolist(), names.tolist(), strict=True):
            x1, y1, x2, y2 = (round(one) for one in box)
            if label < 0:
                inside[:, y1:y2, x1:x2] |= label == HARDLY_SEEN
                continue
            seen += 1
            inside[label, y1:y2, x1:x2] = True
            middle = pixels[:, (y1 + y2) // 2, (x1 + x2) // 2]
            assert middle[label] > 0.9, "its colour in its middle"
            assert middle[1 - label] < 0.1
        for label in (0, 1):
            coloured = (pixels[label] > 0.6) & (pixels[1 - label] < 0.2)
            outside = coloured & ~inside[label]
            around = 2 * (own[:, 2:] - own[:, :2]).sum()
            assert outside.sum() <= around, "at most a pixel's breadth beside its boxes"
    assert seen >= 10


def test_nothing_changes_where_nothing_may() -> None:
    images, boxes, labels = pictures()
    found = augment_boxed(
        images,
        boxes,
        labels,
        size=SIDE,
        augmentation=BoxAugmentation(),
        generator=torch.Generator().manual_seed(0),
        **PLAIN,
    )
    assert torch.equal(found.pixels, images.permute(0, 3, 1, 2) / 255.0)
    kept = labels != NO_BOX
    assert torch.allclose(found.boxes[kept], SIDE * boxes[kept])
    assert torch.equal(found.labels, labels)


def test_a_box_that_is_nearly_gone_is_neither_object_nor_background() -> None:
    """A window over the left half leaves a fifth of this box."""
    images = torch.full((60, SIDE, SIDE, 3), 60, dtype=torch.uint8)
    boxes = torch.tensor([[[0.1, 0.1, 0.3, 0.3], [0.5, 0.2, 1.0, 0.8]]]).repeat(60, 1, 1)
    labels = torch.tensor([[0, 1]]).repeat(60, 1)
    found = augment_boxed(
        images,
        boxes,
        labels,
        size=SIDE,
        augmentation=BoxAugmentation(crop=1.0, crop_scale=(0.2, 0.4)),
        generator=torch.Generator().manual_seed(0),
        **PLAIN,
    )
    assert (found.labels == HARDLY_SEEN).any()
    assert (found.labels >= 0).any(1).float().mean() > 0.95, "nearly every part holds an object"
    widths = found.boxes[..., 2] - found.boxes[..., 0]
    assert (widths[found.labels != NO_BOX] >= 1).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= SIDE).all()


def test_the_same_seed_draws_the_same() -> None:
    images, boxes, labels = pictures()
    one, other = (
        augment_boxed(
            images,
            boxes,
            labels,
            size=SIDE,
            augmentation=CHANGES["everything"],
            generator=torch.Generator().manual_seed(seed),
            **PLAIN,
        )
        for seed in (3, 3)
    )
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.boxes, other.boxes)


def test_pictures_without_boxes_are_taken() -> None:
    images, boxes, labels = pictures(4)
    found = augment_boxed(
        images,
        boxes[:, :0],
        labels[:, :0],
        size=32,
        augmentation=CHANGES["everything"],
        generator=torch.Generator().manual_seed(0),
        **PLAIN,
    )
    assert found.boxes.shape == (4, 0, 4)
