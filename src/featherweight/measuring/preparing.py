"""How long a picture takes before the network sees it: decode, resize, crop."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from featherweight.data.decode import decode_square, read_picture
from featherweight.errors import UsageError
from featherweight.measuring.measurement import median_interval
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import Record

__all__ = ["Preparation", "time_preparation"]

_SAMPLES, _WARM_UP = 40, 3


class Preparation(Record):
    """What `bundle/run.py` does with a picture file before the network runs.

    Attributes:
        picture: the file.
        resolution: what it becomes, pixels.
        median_ms, interval_ms: of reading it so, on this machine, with its 95 % interval.
    """

    picture: str
    resolution: int
    median_ms: float
    interval_ms: tuple[float, float]


def time_preparation(
    picture: Path, *, resolution: int, preprocessing: Preprocessing | None = None
) -> Preparation:
    """Time decoding and resizing of one file, as the exported bundle does it, on this machine.

    Args:
        picture: a file in the formats that Pillow reads.
        resolution: of the network, in pixels.
        preprocessing: interpolation and crop; `None` = bilinear, no crop.

    Raises:
        UsageError: the file is absent or no picture.
    """
    samples = []
    for turn in range(_WARM_UP + _SAMPLES):
        start = time.perf_counter()
        try:
            decode_square(read_picture(picture), size=resolution, preprocessing=preprocessing)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot read the picture {picture}: {error}", allowed="a JPEG or PNG file"
            ) from error
        if turn >= _WARM_UP:
            samples.append((time.perf_counter() - start) * 1e3)
    return Preparation(
        picture=str(picture),
        resolution=resolution,
        median_ms=float(np.median(samples)),
        interval_ms=median_interval(tuple(samples)),
    )
