"""Pictures with boxes drawn on them; a bundle has a copy of this file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from featherweight.data.pictures import open_picture, to_eight_bit

__all__ = ["draw_objects", "drawing_places", "upright"]

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
_WHOLE = 1 << 30


def upright(content: bytes) -> Image.Image:
    """Decode a picture at its full size, as it is shown, in RGB.

    Raises:
        ValueError: it cannot be decoded.
    """
    with open_picture(content, short=_WHOLE) as (opened, _):
        return to_eight_bit(opened).convert("RGB")


def drawing_places(
    files: Sequence[Path], folder: Path, *, films: Collection[str] = ()
) -> dict[Path, Path]:
    """Return the file in a folder that each picture (PNG) or film (MP4) is drawn to.

    Args:
        files: pictures and films; one given twice counts once.
        folder: for what is drawn.
        films: endings of films, in small letters.

    Raises:
        ValueError: that is one of the files themselves, or one place for two of them.
    """
    places: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    given = {file.resolve() for file in files}
    for file in files:
        place = folder / f"{file.stem}{'.mp4' if file.suffix.lower() in films else '.png'}"
        if place.resolve() in given:
            raise ValueError(f"{place} would be drawn over, and is one of the files given")
        if taken.setdefault(place, file).resolve() != file.resolve():
            raise ValueError(f"{taken[place]} and {file} would both be drawn to {place}")
        places[file] = place
    return places


def draw_objects(
    image: Image.Image, objects: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> Image.Image:
    """Return a copy with a box around each object, and what it is and how sure.

    Args:
        image: in RGB.
        objects: each with `label`, `score` and `box` (x1, y1, x2, y2 in pixels).
        labels: all classes: the place of one gives its colour.
    """
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(min(image.size) / 240))
    font = ImageFont.load_default(size=max(9, min(image.size) // 32))
    for one in reversed(objects):  # the surest on top
        colour = _COLOURS[list(labels).index(one["label"]) % len(_COLOURS)]
        x, y, right, bottom = one["box"]
        pen.rectangle((x, y, max(x, right), max(y, bottom)), outline=colour, width=width)
        text = f"{one['label']} {one['score']:.2f}".encode("latin-1", "replace").decode("latin-1")
        left, top, far, low = pen.textbbox((0, 0), text, font=font)
        corner = (max(0.0, min(x, image.width - (far - left))), max(0.0, y - (low - top) - 3))
        pen.rectangle((*corner, corner[0] + far - left + 2, corner[1] + low - top + 3), fill=colour)
        pen.text((corner[0] + 1 - left, corner[1] + 1 - top), text, fill="white", font=font)
    return drawn
