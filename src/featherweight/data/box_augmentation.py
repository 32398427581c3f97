"""Random changes of a batch of pictures with boxes: what happens to a picture happens to its boxes.

A picture that is learnt from is a canvas in the mean colour, on which one picture lies, or four
(mosaic). Each lies there as a part of it (crop), or smaller than the canvas (expand), mirrored or
not; its boxes follow by the same numbers, in whole pixels of the canvas.

Source: crops and expansion as in SSD, arXiv 1512.02325, section 3.6; four pictures in one as in
YOLOv4, arXiv 2004.10934, section 3.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from featherweight.data.augmentation import Augmentation, augment_batch
from featherweight.records import Record

__all__ = ["HARDLY_SEEN", "NO_BOX", "BoxAugmentation", "Boxed", "augment_boxed"]

NO_BOX = -1
"""Label of a row without a box: pictures have different numbers of them."""
HARDLY_SEEN = -2
"""Label of a box of which a cut left little: it is neither an object nor background."""
_TRIES = 10
_ASPECTS = (math.log(3 / 4), math.log(4 / 3))


class BoxAugmentation(Record):
    """What may happen to a training picture with boxes; the defaults change nothing.

    Attributes:
        flip: mirror left and right with probability 1/2.
        crop: probability that a part of the picture fills the canvas.
        crop_scale: range of the share of the area that such a part has.
        expand: probability that the picture is smaller than the canvas.
        most_expand: largest multiple of its sides that the canvas then has.
        mosaic: probability that four pictures share the canvas.
        brightness, contrast, saturation: each factor is uniform in 1 - x .. 1 + x.
        least_seen: share of a box that must be left for it to stay an object.
    """

    flip: bool = False
    crop: float = Field(default=0.0, ge=0.0, le=1.0)
    crop_scale: tuple[float, float] = (0.3, 1.0)
    expand: float = Field(default=0.0, ge=0.0, le=1.0)
    most_expand: float = Field(default=2.0, ge=1.0)
    mosaic: float = Field(default=0.0, ge=0.0, le=1.0)
    brightness: float = Field(default=0.0, ge=0.0, le=1.0)
    contrast: float = Field(default=0.0, ge=0.0, le=1.0)
    saturation: float = Field(default=0.0, ge=0.0, le=1.0)
    least_seen: float = Field(default=0.4, ge=0.0, le=1.0)


class Boxed(NamedTuple):
    """A batch of pictures with boxes.

    Attributes:
        pixels: float32 (N, C, size, size), normalised.
        boxes: x1, y1, x2, y2 in pixels, float32 (N, M, 4).
        labels: class of each box, `NO_BOX` or `HARDLY_SEEN`, int64 (N, M).
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor


class _Window(NamedTuple):
    """A part of a picture's plane, in shares of its sides; it may reach beyond the picture."""

    left: float
    top: float
    width: float
    height: float


class _Place(NamedTuple):
    """A rectangle of the canvas, in pixels."""

    left: int
    top: int
    width: int
    height: int


def augment_boxed(
    images: Tensor,
    boxes: Tensor,
    labels: Tensor,
    *,
    size: int,
    augmentation: BoxAugmentation,
    generator: torch.Generator,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Boxed:
    """Return changed pictures with their boxes.

    Args:
        images: uint8 (N, S, S, C), whole pictures that were stretched to squares.
        boxes: float32 (N, M, 4), in shares of the sides.
        labels: int64 (N, M); `NO_BOX` where there is none.
        size: side of the canvas in pixels.
        augmentation: what may happen.
        generator: where all random numbers come from (on the CPU).
        mean: of pixel / 255, one per channel.
        std: standard deviation of pixel / 255, one per channel.

    Raises:
        DataError: the pictures are not uint8 (N, S, S, C).
    """
    count, rows = len(images), []
    filling = torch.tensor([round(255.0 * one) for one in mean], dtype=torch.uint8)
    canvases = filling.expand(count, size, size, -1).clone()
    for index in range(count):
        tiles = _tiles(index, count, size, augmentation, generator)
        parts = []
        for source, place in tiles:
            window = _window(boxes[source], labels[source], augmentation, generator)
            mirrored = augmentation.flip and float(torch.rand((), generator=generator)) < 0.5
            parts.append(
                _lay(canvases[index], images[source], place, window, mirrored=mirrored).boxes(
                    boxes[source], labels[source], least_seen=augmentation.least_seen
                )
            )
        rows.append((torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])))
    most = max(len(own) for own, _ in rows)
    placed = torch.zeros(count, most, 4)
    named = torch.full((count, most), NO_BOX)
    for index, (own, names) in enumerate(rows):
        placed[index, : len(own)], named[index, : len(names)] = own, names
    colours = Augmentation(
        brightness=augmentation.brightness,
        contrast=augmentation.contrast,
        saturation=augmentation.saturation,
    )
    pixels = augment_batch(
        canvases, size=size, augmentation=colours, generator=generator, mean=mean, std=std
    )
    return Boxed(pixels, placed, named)


def _tiles(
    index: int,
    count: int,
    size: int,
    augmentation: BoxAugmentation,
    generator: torch.Generator,
) -> list[tuple[int, _Place]]:
    """Return which pictures lie where: the own one, or with three others around a drawn point."""
    if float(torch.rand((), generator=generator)) >= augmentation.mosaic:
        return [(index, _Place(0, 0, size, size))]
    shares = 0.3 + 0.4 * torch.rand(2, generator=generator)
    x, y = (int(share * size) for share in shares.tolist())
    others = torch.randint(count, (3,), generator=generator).tolist()
    places = [
        _Place(0, 0, x, y),
        _Place(x, 0, size - x, y),
        _Place(0, y, x, size - y),
        _Place(x, y, size - x, size - y),
    ]
    return list(zip([index, *others], places, strict=True))


def _window(
    boxes: Tensor, labels: Tensor, augmentation: BoxAugmentation, generator: torch.Generator
) -> _Window:
    """Draw a part that shows enough of an object, more than the picture, or all of it."""
    chance = float(torch.rand((), generator=generator))
    if chance < augmentation.expand:
        side = 1.0 + (augmentation.most_expand - 1.0) * float(torch.rand((), generator=generator))
        left, top = ((1.0 - side) * torch.rand(2, generator=generator)).tolist()
        return _Window(left, top, side, side)
    if chance < augmentation.expand + augmentation.crop:
        own = boxes[labels >= 0]
        low, high = augmentation.crop_scale
        for _ in range(_TRIES):
            area, aspect, x, y = torch.rand(4, generator=generator).tolist()
            area = low + (high - low) * area
            aspect = math.exp(_ASPECTS[0] + (_ASPECTS[1] - _ASPECTS[0]) * aspect)
            width = min(1.0, math.sqrt(area * aspect))
            height = min(1.0, math.sqrt(area / aspect))
            window = _Window(x * (1.0 - width), y * (1.0 - height), width, height)
            if not len(own) or (_shares_seen(own, window) >= augmentation.least_seen).any():
                return window
    return _Window(0.0, 0.0, 1.0, 1.0)


def _shares_seen(boxes: Tensor, window: _Window) -> Tensor:
    """Return the share of each of the boxes (M, 4) that a window shows, (M,)."""
    low = torch.tensor([window.left, window.top])
    high = low + torch.tensor([window.width, window.height])
    sides = torch.minimum(boxes[:, 2:], high) - torch.maximum(boxes[:, :2], low)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp(min=1e-12)
    return sides.clamp(min=0.0).prod(1) / whole


class _Laid(NamedTuple):
    """A picture on the canvas: pixels of the canvas = share of the picture * scale + shift."""

    scale: Tensor
    shift: Tensor
    place: _Place
    mirrored: bool

    def boxes(self, boxes: Tensor, labels: Tensor, *, least_seen: float) -> tuple[Tensor, Tensor]:
        """Return the boxes that are seen, in pixels of the canvas, and their labels."""
        own, names = boxes[labels != NO_BOX], labels[labels != NO_BOX]
        moved = own * self.scale.repeat(2) + self.shift.repeat(2)
        left, top, width, height = self.place
        if self.mirrored:
            moved[:, [0, 2]] = 2 * left + width - moved[:, [2, 0]]
        low, high = torch.tensor([left, top]), torch.tensor([left + width, top + height])
        cut = torch.minimum(torch.maximum(moved, low.repeat(2)), high.repeat(2))
        whole = (moved[:, 2:] - moved[:, :2]).prod(1).clamp(min=1e-6)
        sides = cut[:, 2:] - cut[:, :2]
        names = torch.where(sides.prod(1) / whole < least_seen, HARDLY_SEEN, names)
        seen = (sides >= 1.0).all(1)
        return cut[seen], names[seen]


def _lay(canvas: Tensor, image: Tensor, place: _Place, window: _Window, *, mirrored: bool) -> _Laid:
    """Put a window of a picture (S, S, C) on its place of the canvas, in place."""
    side = image.shape[0]
    first = [max(0.0, window.left), max(0.0, window.top)]
    last = [
        min(1.0, window.left + window.width),
        min(1.0, window.top + window.height),
    ]
    low = [math.floor(share * side) for share in first]
    high = [max(one + 1, math.ceil(share * side)) for one, share in zip(low, last, strict=True)]
    sizes = (place.width, place.height)
    starts, spans = (window.left, window.top), (window.width, window.height)
    corner = [
        round((one / side - start) / span * size)
        for one, start, span, size in zip(low, starts, spans, sizes, strict=True)
    ]
    far = [
        round((one / side - start) / span * size)
        for one, start, span, size in zip(high, starts, spans, sizes, strict=True)
    ]
    corner = [min(max(0, one), size - 1) for one, size in zip(corner, sizes, strict=True)]
    far = [min(max(c + 1, f), size) for c, f, size in zip(corner, far, sizes, strict=True)]
    part = image[low[1] : high[1], low[0] : high[0]].permute(2, 0, 1)[None]
    shown = functional.interpolate(
        part, (far[1] - corner[1], far[0] - corner[0]), mode="bilinear", antialias=True
    )[0].permute(1, 2, 0)
    area = canvas[place.top : place.top + place.height, place.left : place.left + place.width]
    tile = area.clone()
    tile[corner[1] : far[1], corner[0] : far[0]] = shown
    area.copy_(tile.flip(1) if mirrored else tile)
    begin = torch.tensor(corner, dtype=torch.float32)
    lengths = torch.tensor(far, dtype=torch.float32) - begin
    shares = torch.tensor(high, dtype=torch.float32) - torch.tensor(low, dtype=torch.float32)
    scale = lengths * side / shares
    offset = torch.tensor([place.left, place.top], dtype=torch.float32)
    shift = offset + begin - torch.tensor(low, dtype=torch.float32) / side * scale
    return _Laid(scale, shift, place, mirrored)
