"""How a picture becomes the network's input: part of the weights' provenance."""

from __future__ import annotations

from typing import Literal

from featherweight.records import Record

__all__ = ["Preprocessing"]


class Preprocessing(Record):
    """Resize, crop and normalisation a network expects.

    The shorter side is resized to round(resolution / crop_fraction), the centre
    resolution x resolution is cut out (uint8), and (pixel / 255 - mean) / std enters the network.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_fraction: float = 1.0
