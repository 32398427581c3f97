"""Encoded picture in, correct 8-bit RGB out: the only place that calls Pillow's decoders."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import statistics
import struct
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from featherweight.data.dataset import Inspection, PictureSource
from featherweight.data.pictures import readable_suffixes
from featherweight.networks.preprocessing import Preprocessing

__all__ = [
    "IMAGE_SUFFIXES",
    "content_digest",
    "decode_square",
    "inspect_picture",
    "inspect_pictures",
    "map_decoding",
    "read_picture",
    "to_rgb",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

IMAGE_SUFFIXES = readable_suffixes()
"""File names that count as pictures, in any case."""

# Beyond this ratio of the sides the ends of a picture are cut off before it is resized: they lie
# outside the centre crop anyway, and a 1 x 10000 strip would become gigabytes.
MAX_ASPECT = 8
# Twice the final size is what Pillow itself decodes for a thumbnail: 12-megapixel JPEGs decode
# several times faster, and the antialiased resize that follows hides the difference.
REDUCING_GAP = 2
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
# Modes that `to_rgb` converts without looking at the values.
PLAIN_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA"})
BLOCK = 256
SMALL_BYTES = 16 << 10


def read_picture(source: PictureSource) -> bytes:
    """Return the encoded bytes of a picture.

    Raises:
        OSError: the file cannot be read.
    """
    return source if isinstance(source, bytes) else source.read_bytes()


def content_digest(content: bytes) -> str:
    """Return the SHA-256 of encoded bytes, hexadecimal: equal for exact duplicates."""
    return hashlib.sha256(content).hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded picture as upright 8-bit RGB.

    EXIF rotation is applied; transparency is laid over white; 16-bit grey is scaled, not clipped;
    of an animation only the first frame is used.

    Raises:
        ValueError: integer or floating-point values whose white is unknown.
    """
    _turn_upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in TRANSPARENT or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    if image.mode.startswith("I"):
        return _wide_grey(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known white; convert to 8 or 16 bit")
    return image.convert("RGB")


def _turn_upright(image: Image.Image) -> None:
    """Apply the EXIF orientation in place; one that cannot be read is none, as in any viewer."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error) as error:
        logger.debug("EXIF orientation not readable: %s", error)


def _wide_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (65535 = white) to 8 bit; Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels have no known white; convert to 8 or 16 bit")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def inspect_picture(source: PictureSource) -> Inspection:
    """Decode a picture as cheaply as finds every defect (JPEG: whole stream, 1/8 scale)."""
    try:
        content = read_picture(source)
    except OSError as error:
        return Inspection("", 0, 0, "", f"cannot be read: {error.strerror or error}")
    digest = content_digest(content)
    try:
        with Image.open(io.BytesIO(content)) as image:
            (width, height), mode = image.size, image.mode
            image.draft(None, (1, 1))
            image.load()
            if mode not in PLAIN_MODES or "exif" in image.info:
                to_rgb(image)
    # Pillow's decoders raise nearly anything on hostile bytes (OSError, SyntaxError, ValueError,
    # struct.error, IndexError, DecompressionBombError): each means this picture is unusable.
    except Exception as error:  # noqa: BLE001
        return Inspection(digest, 0, 0, "", _reason(error, content))
    return Inspection(digest, width, height, mode, None)


def _reason(error: Exception, content: bytes) -> str:
    """Say in one line why a decode failed, without memory addresses."""
    if not content:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture Pillow knows"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def inspect_pictures(sources: Sequence[PictureSource]) -> Iterator[Inspection]:
    """Yield the inspection of every picture, in order, decoded by a few threads."""
    return map_decoding(lambda index: inspect_picture(sources[index]), sources)


def map_decoding(function: Callable[[int], T], sources: Sequence[PictureSource]) -> Iterator[T]:
    """Yield function(i) for every picture i, in order, in threads where that is faster.

    Works block by block, so that results never pile up before a slow consumer.

    Args:
        function: decodes picture i.
        sources: the pictures; their sizes decide about threads.
    """
    threads = _threads(sources)
    if threads == 1:
        yield from map(function, range(len(sources)))
        return
    with ThreadPool(threads) as pool:
        for start in range(0, len(sources), BLOCK):
            yield from pool.map(function, range(start, min(start + BLOCK, len(sources))))


def _threads(sources: Sequence[PictureSource]) -> int:
    """Return how many threads decode: Pillow's decoders release the GIL, its parsers do not.

    For thumbnails nearly all the time is parsing, and threads only get into each other's way
    (CIFAR-10: 1.2 to 1.5 times slower with two).
    """
    sample = sources[:: max(1, len(sources) // 64)]
    if not sample or statistics.fmean(map(_encoded_bytes, sample)) < SMALL_BYTES:
        return 1
    return min(8, os.cpu_count() or 1)


def _encoded_bytes(source: PictureSource) -> int:
    if isinstance(source, bytes):
        return len(source)
    # A file that is gone is reported by the decode itself.
    return source.stat().st_size if source.exists() else 0


def decode_square(
    content: bytes, *, size: int, preprocessing: Preprocessing | None = None
) -> npt.NDArray[np.uint8]:
    """Decode one picture into the square a network sees: what the cache, predict and export share.

    The shorter side becomes round(size / crop_fraction) (antialiased), the centre is cut out;
    rounding as in torchvision's Resize and CenterCrop.

    Args:
        content: the encoded picture.
        size: side of the square, pixels.
        preprocessing: interpolation and crop fraction; None = bilinear, nothing cropped.

    Returns:
        uint8 (size, size, 3).

    Raises:
        OSError, ValueError: the picture cannot be decoded.
    """
    preprocessing = preprocessing or Preprocessing()
    short = max(size, round(size / preprocessing.crop_fraction))
    image = _open_near(content, short=short)
    width, height = image.size
    if width <= height:
        target = (short, int(short * height / width))
    else:
        target = (int(short * width / height), short)
    if target != image.size:
        image = image.resize(target, FILTERS[preprocessing.interpolation])
    left, top = round((target[0] - size) / 2), round((target[1] - size) / 2)
    if image.size != (size, size):
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def _open_near(content: bytes, *, short: int) -> Image.Image:
    """Decode to upright RGB, a JPEG no finer than a shorter side of `short` needs.

    Raises:
        OSError, ValueError: Pillow's many ways to fail, as these two.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            scale = REDUCING_GAP * short / min(opened.size)
            if scale < 1:
                wanted = (max(1, int(opened.width * scale)), max(1, int(opened.height * scale)))
                opened.draft(None, wanted)
            return _cut_ends(to_rgb(opened))
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(_reason(error, content)) from error


def _cut_ends(image: Image.Image) -> Image.Image:
    """Cut the ends off a picture more than MAX_ASPECT times longer than wide."""
    limit = MAX_ASPECT * min(image.size)
    if max(image.size) <= limit:
        return image
    width, height = min(image.width, limit), min(image.height, limit)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
