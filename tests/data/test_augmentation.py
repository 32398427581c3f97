"""Augmentation against direct computation, PIL's formulas and its own CPU path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional

from featherweight.data import augmentation as module
from featherweight.data.augmentation import Augmentation, augment_batch, normalise_batch
from featherweight.errors import DataError

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # pixels come back as 0..255


def _pictures(count: int = 6, size: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (count, 3, 4, 4), generator=generator).float()
    smooth = torch.nn.functional.interpolate(small, (size, size), mode="bilinear")
    return smooth.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _augment(images: torch.Tensor, seed: int = 0, size: int | None = None, **what) -> torch.Tensor:
    return augment_batch(
        images,
        size=size or images.shape[1],
        augmentation=Augmentation(**what),
        generator=torch.Generator().manual_seed(seed),
        **UNIT,
    )


def test_neutral_augmentation_only_normalises():
    images = _pictures()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    result = augment_batch(
        images,
        size=12,
        augmentation=Augmentation(),
        generator=torch.Generator(),
        mean=mean,
        std=std,
    )
    expected = (images.numpy() / 255.0 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(result.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    torch.testing.assert_close(result, normalise_batch(images, mean=mean, std=std))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_the_source_is_not_changed_and_the_seed_decides():
    images = _pictures()
    before = images.clone()
    what = {
        "flip": True,
        "translate_px": 2,
        "crop_scale": (0.4, 1.0),
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "erase": 0.5,
    }
    first, again, other = (_augment(images, seed=seed, **what) for seed in (1, 1, 2))
    assert torch.equal(images, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flip_mirrors_about_half_of_the_pictures():
    images = _pictures(count=200)
    result = _augment(images, flip=True).permute(0, 2, 3, 1).to(torch.uint8)
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(2)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 70 < int(mirrored.sum()) < 130


def test_translation_equals_a_slice_of_the_reflected_picture():
    images = _pictures(count=60)
    result = _augment(images, translate_px=2).to(torch.uint8)
    padded = torch.nn.functional.pad(
        images.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect"
    ).to(torch.uint8)
    shifts = set()
    for picture, wide in zip(result, padded, strict=True):
        found = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(picture, wide[:, dy : dy + 12, dx : dx + 12])
        ]
        assert found, "no slice of the reflected picture equals the result"
        shifts.update(found)
    assert len(shifts) > 15  # of 25


def test_crops_stay_inside_and_keep_the_asked_area():
    generator = torch.Generator().manual_seed(0)
    images, squares = torch.zeros(500, 100, 100, 3), torch.ones(500)
    boxes = module._draw_boxes(images, squares, (0.35, 0.7), generator)
    top, left, rows, columns = boxes.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= 100).all()
    assert (left + columns <= 100).all()
    area = (rows * columns).float() / 1e4
    assert 0.33 < area.min() < 0.38
    assert 0.67 < area.max() < 0.72
    aspect = columns / rows
    assert 0.72 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.37


@pytest.mark.parametrize("aspect", [0.5, 0.75, 1.0, 1.6])
def test_crops_undo_that_a_picture_was_squeezed(aspect: float):
    """Their shape in the picture as it was is the one drawn, however large they are."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(500, 200, 200, 3)
    boxes = module._draw_boxes(images, torch.full((500,), aspect), (0.35, 1.0), generator)
    top, left, rows, columns = boxes.unbind(1)
    assert ((top >= 0) & (left >= 0)).all()
    assert ((top + rows <= 200) & (left + columns <= 200)).all()
    shapes = aspect * columns / rows
    assert 0.72 < shapes.min() < 0.8
    assert 1.25 < shapes.max() < 1.37
    assert top.min() == left.min() == 0, "all of the picture is reached"
    assert (top + rows).max() == (left + columns).max() == 200


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64), (96, 96)])
def test_what_is_not_cropped_shows_the_centre_square(height: int, width: int):
    picture = torch.rand((3, 4, 4), generator=torch.Generator().manual_seed(0))
    picture = functional.interpolate(255 * picture[None], (height, width), mode="bilinear")
    squeezed = functional.interpolate(picture, (96, 96), mode="bilinear", antialias=True)
    result = augment_batch(
        squeezed.permute(0, 2, 3, 1).round().to(torch.uint8),
        size=32,
        augmentation=Augmentation(),
        generator=torch.Generator(),
        aspects=torch.tensor([width / height]),
        **UNIT,
    )
    side, top, left = min(height, width), max(0, height - width) // 2, max(0, width - height) // 2
    square = picture[:, :, top : top + side, left : left + side]
    expected = functional.interpolate(square, (32, 32), mode="bilinear", antialias=True)
    assert (result - expected).abs().mean() < 3.0  # of 255
    assert (result.flip(3) - expected).abs().mean() > 10.0


def test_both_crops_see_the_same_picture():
    images = _pictures(count=4, size=48)
    generator = torch.Generator().manual_seed(0)
    boxes = module._draw_boxes(images, torch.ones(4), (0.5, 1.0), generator)
    exact = module._crop_each(images, boxes, 48).float()
    sampled = module._crop_sampled(images, boxes, 48).float()
    assert (exact - sampled).abs().mean() < 1.5  # of 255; borders of a crop differ
    wrong = module._crop_sampled(images, boxes.flip(0), 48).float()
    assert (exact - wrong).abs().mean() > 10


def test_other_sizes_are_resized():
    images = _pictures(count=3, size=32)
    result = _augment(images, size=16)
    assert result.shape == (3, 3, 16, 16)
    halves = images.float().view(3, 16, 2, 16, 2, 3).mean((2, 4)).permute(0, 3, 1, 2)
    assert (result - halves).abs().mean() < 4


@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_colour_changes_are_those_of_pil(name, enhance, monkeypatch):
    images = _pictures(count=1, size=24)
    draws = {"brightness": 0, "contrast": 1, "saturation": 2}
    drawn = iter([1.3 if index == draws[name] else 1.0 for index in range(3)])
    monkeypatch.setattr(module, "_uniform", lambda *_: torch.full((1, 1, 1, 1), next(drawn)))
    result = _augment(images, **{name: 0.3})[0].permute(1, 2, 0).numpy()
    expected = np.asarray(enhance(Image.fromarray(images[0].numpy())).enhance(1.3))
    assert np.abs(result - expected).max() <= 2.0


def test_erasing_leaves_the_mean_in_a_rectangle():
    images = _pictures(count=100, size=32)
    result = augment_batch(
        images,
        size=32,
        augmentation=Augmentation(erase=0.5),
        generator=torch.Generator().manual_seed(0),
        mean=(0.123, 0.123, 0.123),
        std=(1.0, 1.0, 1.0),
    )
    erased = (result == 0).all(1)
    share = erased.float().mean((1, 2))
    touched = share > 0
    assert 35 < int(touched.sum()) < 65
    assert share[touched].min() > 0.01
    assert share.max() < 0.36
    for mask in erased[touched]:
        assert mask.sum() == mask.any(0).sum() * mask.any(1).sum()


def test_wrong_pictures_are_named():
    with pytest.raises(DataError, match="uint8"):
        normalise_batch(torch.zeros(1, 4, 4, 3), mean=(0.5,), std=(0.5,))
    with pytest.raises(DataError, match="shift of 12"):
        _augment(_pictures(size=12), translate_px=12)
