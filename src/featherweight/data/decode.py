"""The pictures of a data set: read, inspected and decoded, by threads where that is faster."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from featherweight.data.dataset import Inspection, PictureSource
from featherweight.data.pictures import (
    FILTERS,
    MAX_FILE_BYTES,
    REDUCING_GAP,
    SharedMemory,
    cut_ends,
    open_picture,
    read_picture_file,
    readable_suffixes,
    square_pixels,
    to_eight_bit,
)
from featherweight.errors import FailedError
from featherweight.networks.preprocessing import Preprocessing

__all__ = [
    "IMAGE_SUFFIXES",
    "WHOLE_ASPECT",
    "content_digest",
    "decode_square",
    "inspect_picture",
    "inspect_pictures",
    "map_decoding",
    "read_picture",
]

T = TypeVar("T")

IMAGE_SUFFIXES = readable_suffixes()
"""File names that count as pictures, in any case."""

# Modes that `to_eight_bit` converts without looking at the values.
PLAIN_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA"})
WHOLE_ASPECT = 2
BLOCK = 256
SMALL_BYTES = 16 << 10
_FILE_MEMORY = SharedMemory(MAX_FILE_BYTES)


def read_picture(source: PictureSource) -> bytes:
    """Return the encoded bytes of a picture.

    Raises:
        OSError: the file cannot be read, is too large, or no regular file.
    """
    return source if isinstance(source, bytes) else read_picture_file(source)


def content_digest(content: bytes) -> str:
    """Return the SHA-256 of encoded bytes, hexadecimal: equal for exact duplicates."""
    return hashlib.sha256(content).hexdigest()


def inspect_picture(source: PictureSource) -> Inspection:
    """Decode a picture as cheaply as finds every defect (JPEG: whole stream, 1/8 scale).

    Raises:
        FailedError: there is not enough memory.
    """
    try:
        content = read_picture(source)
    except OSError as error:
        return Inspection("", 0, 0, "", f"cannot be read: {error.strerror or error}")
    digest = content_digest(content)
    try:
        with open_picture(content, short=0) as (image, (width, height)):
            seen, lies = Inspection(digest, width, height, image.mode, None), _lies(image)
            if image.mode not in PLAIN_MODES or "exif" in image.info:
                to_eight_bit(image)
                seen = seen._replace(turned=_lies(image) != lies)
    except ValueError as error:
        return Inspection(digest, 0, 0, "", str(error))
    except MemoryError as error:
        raise _no_memory() from error
    return seen


def _lies(image: Image.Image) -> bool:
    return image.width > image.height


def inspect_pictures(sources: Sequence[PictureSource]) -> Iterator[Inspection]:
    """Yield the inspection of every picture, in order, decoded by a few threads."""
    return map_decoding(lambda index: inspect_picture(sources[index]), sources)


def map_decoding(function: Callable[[int], T], sources: Sequence[PictureSource]) -> Iterator[T]:
    """Yield function(i) for every picture i, in order, in threads where that is faster.

    Works block by block, so that results never pile up before a slow consumer. Files that would
    together take more than MAX_FILE_BYTES wait for each other.

    Args:
        function: decodes picture i.
        sources: the pictures; their sizes decide about threads.
    """
    threads = _threads(sources)
    if threads == 1:
        yield from map(function, range(len(sources)))
        return

    def decode(index: int) -> T:
        source = sources[index]
        with _FILE_MEMORY.hold(0 if isinstance(source, bytes) else _encoded_bytes(source)):
            return function(index)

    with ThreadPool(threads) as pool:
        for start in range(0, len(sources), BLOCK):
            yield from pool.map(decode, range(start, min(start + BLOCK, len(sources))))


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
    # A file that is gone, or too large, is reported by the decode itself.
    return min(source.stat().st_size, MAX_FILE_BYTES) if source.exists() else 0


def decode_square(
    content: bytes,
    *,
    size: int,
    preprocessing: Preprocessing | None = None,
    whole: bool = False,
) -> npt.NDArray[np.uint8]:
    """Decode one picture into the square a network sees: what the cache, predict and export share.

    Args:
        content: the encoded picture.
        size: side of the square, pixels.
        preprocessing: interpolation and crop fraction; None = bilinear, nothing cropped.
        whole: all of the picture, squeezed, instead of its centre: what crops of a training are cut
            from. Only the ends of one more than WHOLE_ASPECT times longer than wide are cut off.

    Returns:
        uint8 (size, size, 3).

    Raises:
        ValueError: the picture cannot be decoded.
        FailedError: there is not enough memory.
    """
    preprocessing = preprocessing or Preprocessing()
    try:
        if whole:
            # A crop is no sharper than the square: twice its size only costs time.
            with open_picture(content, short=-(-size // REDUCING_GAP)) as (opened, _):
                image = cut_ends(to_eight_bit(opened), most=WHOLE_ASPECT)
                image = image.resize((size, size), FILTERS[preprocessing.interpolation])
            return np.asarray(image.convert("RGB"))
        return square_pixels(
            content,
            size=size,
            interpolation=preprocessing.interpolation,
            crop_fraction=preprocessing.crop_fraction,
            stretch=preprocessing.stretch,
        )
    except MemoryError as error:
        raise _no_memory() from error


def _no_memory() -> FailedError:
    """Say that memory is short: the picture may be a good one, so it is not a broken one."""
    return FailedError("not enough memory to decode a picture", hint="end other programs")
