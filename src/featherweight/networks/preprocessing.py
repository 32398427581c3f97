"""How a picture becomes the network's input: part of the weights' provenance."""

from __future__ import annotations

from typing import Literal

from featherweight.records import Record

__all__ = ["Preprocessing", "fine_tuning_preprocessing"]


class Preprocessing(Record):
    """Resize, crop and normalisation a network expects.

    The shorter side is resized to round(resolution / crop_fraction), the centre
    resolution x resolution is cut out (uint8), and (pixel / 255 - mean) / std enters the network.
    With `stretch` the whole picture is resized to resolution x resolution instead: places in it
    stay the same shares of its sides, as a detector needs it.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_fraction: float = 1.0
    stretch: bool = False


def fine_tuning_preprocessing(published: Preprocessing, *, small: bool) -> Preprocessing:
    """Return how weights take pictures of another task: as they were published with.

    That includes the centre crop. Random crops of a training show objects larger than whole
    pictures do (Touvron et al. 2019, arXiv 1906.06423, section 3), and a centre crop makes up for
    it: docs/adr/0015-whole-pictures.md.

    Args:
        published: of the weights.
        small: whether the pictures are thumbnails (CIFAR), which show their object and little else:
            all of it enters.
    """
    return published.model_copy(update={"crop_fraction": 1.0}) if small else published
