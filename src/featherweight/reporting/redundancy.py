"""What the maps of a network repeat, as a page: a row a layer, similar maps as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featherweight.reporting.language import ENGLISH
from featherweight.reporting.render import template_environment

if TYPE_CHECKING:
    from featherweight.advising.redundancy import PairOfMaps, Seen

__all__ = ["render_redundancy"]

_LAYERS = 8
"""Layers whose maps are shown, spread over the network."""
_SIDE = 96
"""Pixels of a map on the page."""


class _Shown(NamedTuple):
    layer: str
    pairs: tuple[tuple[str, str, str], ...]


def render_redundancy(seen: Seen) -> str:
    """Return one HTML page that needs nothing but a browser."""
    return (
        template_environment(ENGLISH)
        .get_template("redundancy.html.j2")
        .render(found=seen.found, picture=_as_data(seen.picture), shown=_shown(seen.maps))
    )


def _shown(maps: Sequence[PairOfMaps]) -> list[_Shown]:
    """Return the maps of some layers, from the first to the last."""
    names = list(dict.fromkeys(one.layer for one in maps))
    places = np.linspace(0, len(names) - 1, min(_LAYERS, len(names))).round().astype(int)
    chosen = [names[place] for place in dict.fromkeys(places.tolist())]
    return [
        _Shown(
            name,
            tuple(
                (
                    f"{one.pair.first} and {one.pair.second}: {one.pair.correlation:+.3f}",
                    _as_data(_grey(one.maps[0])),
                    _as_data(_grey(one.maps[1])),
                )
                for one in maps
                if one.layer == name
            ),
        )
        for name in chosen
    ]


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray((255 * values).round(), dtype=np.uint8)


def _as_data(pixels: NDArray[np.uint8]) -> str:
    """Return a picture as a data URL, maps with their pixels as squares."""
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    image = Image.fromarray(flat)
    if image.width < _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
