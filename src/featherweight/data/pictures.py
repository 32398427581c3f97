"""Picture file in, upright 8-bit RGB square out: the only place that calls Pillow's decoders.

Training, `predict` and the bundle's `run.py` share this file: it is copied beside `run.py` as it
is, so it needs numpy and Pillow and nothing of featherweight.
"""

from __future__ import annotations

import io
import logging
import math
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, features

__all__ = [
    "FILTERS",
    "MAX_FILE_BYTES",
    "MAX_PIXEL_BYTES",
    "REDUCING_GAP",
    "SharedMemory",
    "cut_ends",
    "missing_libraries",
    "open_picture",
    "read_picture_file",
    "readable_suffixes",
    "square_pixels",
    "to_eight_bit",
]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 512 << 20
"""Larger files are refused before a byte of them is read."""
MAX_PIXEL_BYTES = 1 << 30
"""What the decoders of all threads may hold at one time; a picture that needs more is refused."""

# Pillow knows dozens more, one of which hands PostScript to Ghostscript.
_SUFFIXES = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
_AVIF_IS_READ = "avif" in features.modules and features.check("avif")
_FORMATS = tuple(form for form in _SUFFIXES if form != "HEIF" and (form != "AVIF" or _AVIF_IS_READ))
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

# Beyond this ratio of the sides the ends of a picture are cut off before it is resized: they lie
# outside the centre crop anyway, and a 1 x 10000 strip would become gigabytes.
_MAX_ASPECT = 8
# Twice the final size is what Pillow itself decodes for a thumbnail: 12-megapixel JPEGs decode
# several times faster, and the antialiased resize that follows hides the difference.
REDUCING_GAP = 2
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
# Bytes a pixel takes until it is 8-bit L or RGB, its turned or converted copy included.
_PIXEL_BYTES = {"1": 2, "L": 2, "I;16": 4, "I;16B": 4, "P": 5}
_COLOUR_BYTES = 8
# What decoders hold for each pixel beside Pillow's picture, measured on 20 megapixels (7 to 13).
_DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "HEIF": 12}
# These are loops in Python, about a microsecond a pixel, and hold their output twice.
_SLOW_DECODERS = frozenset({"bmp_rle", "ppm", "ppm_plain"})
_MAX_SLOW_PIXELS = 10_000_000
_MAX_READS = 10_000_000
# Each scan of a JPEG goes over all pixels again (about a second for 10^9); cameras write ten.
_MAX_SCANNED_PIXELS = 4_000_000_000
_STRIP_PIXELS = 1 << 20


class SharedMemory:
    """So many bytes that threads share; who wants more than is left waits.

    Args:
        limit_bytes: one alone may hold more.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, wanted_bytes: int) -> Iterator[None]:
        """Hold so many bytes; waits until the others have left enough, or all are done."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._held_bytes or self._held_bytes + wanted_bytes <= self._limit_bytes
            )
            self._held_bytes += wanted_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held_bytes -= wanted_bytes
                self._changed.notify_all()


_PIXEL_MEMORY = SharedMemory(MAX_PIXEL_BYTES)


class _Stream(io.BytesIO):
    """Encoded bytes; a header of junk, which Pillow reads byte by byte, ends in an error."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise ValueError("more parts than any picture has")
        return super().read(size)


def readable_suffixes() -> frozenset[str]:
    """Return the endings (".jpg", lower case) of the picture files that can be read here."""
    missing = missing_libraries()
    known = {suffix for suffixes in _SUFFIXES.values() for suffix in suffixes}
    return frozenset(known - missing.keys())


def missing_libraries() -> dict[str, str]:
    """Return the endings that cannot be read here, and what would: {".heic": "pillow-heif"}."""
    missing = {}
    if find_spec("pillow_heif") is None:
        missing["HEIF"] = "pillow-heif"
    if not _AVIF_IS_READ:
        missing["AVIF"] = "pillow>=11.3"
    return {suffix: package for form, package in missing.items() for suffix in _SUFFIXES[form]}


def read_picture_file(path: str | Path) -> bytes:
    """Return the encoded bytes of a picture file.

    Raises:
        OSError: no regular file (a pipe or a device may never end), too large, or not readable.
    """
    seen = os.stat(path)  # noqa: PTH116 (str or Path)
    if not stat.S_ISREG(seen.st_mode):
        raise OSError("not a regular file")
    if seen.st_size > MAX_FILE_BYTES:
        raise OSError(f"{seen.st_size / 1e9:.1f} GB; allowed: {MAX_FILE_BYTES / 1e9:.2f} GB")
    with open(path, "rb") as stream:  # noqa: PTH123
        # No more than was announced: files of the kernel announce 0 and may never end.
        return stream.read(seen.st_size)


def square_pixels(
    content: bytes,
    *,
    size: int,
    interpolation: str = "bilinear",
    crop_fraction: float = 1.0,
    stretch: bool = False,
) -> npt.NDArray[np.uint8]:
    """Decode one picture into the square a network sees, uint8 (size, size, 3).

    The shorter side becomes round(size / crop_fraction) (antialiased), the centre is cut out;
    rounding as in torchvision's Resize and CenterCrop.

    Args:
        content: the encoded picture.
        size: side of the square, pixels.
        interpolation: "bilinear" or "bicubic".
        crop_fraction: share of the shorter side that is kept.
        stretch: resize both sides to `size`; nothing is cut off.

    Raises:
        ValueError: the picture cannot be decoded, or not within MAX_PIXEL_BYTES.
        MemoryError: there is less memory than that.
    """
    short = size if stretch else max(size, round(size / crop_fraction))
    with open_picture(content, short=short) as (opened, _):
        image = cut_ends(to_eight_bit(opened), most=math.inf if stretch else _MAX_ASPECT)
        width, height = (1, 1) if stretch else image.size
        target = (int(short * width / min(width, height)), int(short * height / min(width, height)))
        if target != image.size:
            image = image.resize(target, FILTERS[interpolation])
    left, top = round((target[0] - size) / 2), round((target[1] - size) / 2)
    if image.size != (size, size):
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image.convert("RGB"))


@contextmanager
def open_picture(content: bytes, *, short: int) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """Decode a picture, a JPEG no finer than a shorter side of `short` needs.

    Every failure, of the decoder or of what is done with the picture, is one line.

    Yields:
        The picture, and its width and height as stored.

    Raises:
        ValueError: not one of the formats that are read, broken, or too large.
        MemoryError: there is less memory than MAX_PIXEL_BYTES.
    """
    try:
        # Each read takes a byte or more: what is smaller than the limit cannot reach it.
        stream = io.BytesIO(content) if len(content) < _MAX_READS else _Stream(content)
        with Image.open(stream, formats=_formats(content)) as image:
            if min(image.size) < 1:
                raise ValueError(f"{image.width}x{image.height} pixels")
            stored_size = image.size
            _scale_transparency(image)
            decoder_bytes = _decoder_bytes(image, content)
            _reduce(image, short=short)
            pixel_bytes = math.prod(image.size) * _PIXEL_BYTES.get(image.mode, _COLOUR_BYTES)
            needed_bytes = decoder_bytes + pixel_bytes
            if needed_bytes > MAX_PIXEL_BYTES:
                raise ValueError(
                    f"{image.width}x{image.height} pixels take {needed_bytes / 1e9:.1f} GB to "
                    f"decode; allowed: {MAX_PIXEL_BYTES / 1e9:.1f} GB; make the picture smaller"
                )
            with _PIXEL_MEMORY.hold(needed_bytes):
                image.load()
                yield image, stored_size
    except MemoryError:
        raise
    # Pillow's decoders raise nearly anything on hostile bytes (OSError, SyntaxError, ValueError,
    # struct.error, IndexError, DecompressionBombError): each means this picture is unusable.
    except Exception as error:
        raise ValueError(_reason(error, content)) from error


def _formats(content: bytes) -> tuple[str, ...]:
    """Return the formats that may be tried; HEIF's reader is loaded when a file looks like it."""
    if not _looks_like_heif(content) or find_spec("pillow_heif") is None:
        return _FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


def _looks_like_heif(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS


def _reason(error: Exception, content: bytes) -> str:
    """Say in one line why a decode failed, without memory addresses."""
    if not content:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        if _looks_like_heif(content):
            return "HEIC is not read without its library; pip install pillow-heif"
        return f"not a picture of the formats {', '.join(_FORMATS)}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _scale_transparency(image: Image.Image) -> None:
    """Bring a PNG's transparent value to the scale of the pixels, where Pillow leaves it raw."""
    value = image.info.get("transparency")
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or value is None or not tiles:
        return
    stored_as = tiles[0][3]
    if stored_as == "RGB;16B":
        image.info["transparency"] = tuple(band >> 8 for band in value)
    elif stored_as in ("L;2", "L;4"):
        image.info["transparency"] = value * {"L;2": 85, "L;4": 17}[stored_as]


def _decoder_bytes(image: Image.Image, content: bytes) -> int:
    """Return what the decoder holds beside Pillow's picture, bytes; asked before `_reduce`.

    Raises:
        ValueError: the decoder would take minutes.
    """
    pixels = math.prod(image.size)
    tiles = getattr(image, "tile", None)
    decoder = tiles[0][0] if tiles else ""
    if decoder in _SLOW_DECODERS:
        if pixels > _MAX_SLOW_PIXELS:
            raise ValueError(f"{pixels / 1e6:.0f} megapixels in a slow form; save it as PNG")
        return pixels * _COLOUR_BYTES
    if decoder == "jpeg":
        return _scans_bytes(image, content)
    if decoder == "libtiff":
        return _tile_bytes(image)
    return pixels * _DECODER_BYTES.get(image.format or "", 0)


def _scans_bytes(image: Image.Image, content: bytes) -> int:
    """Return what a JPEG in several scans (progressive) holds: every coefficient, at full size."""
    bands, pixels = len(image.getbands()), math.prod(image.size)
    position = image.fp.tell()  # type: ignore[attr-defined]  # behind the header of the first scan
    start = max(0, position - 8 - 2 * bands)
    header = b"\xff\xda" + bytes([0, 6 + 2 * bands, bands])
    if content.startswith(header, start) and "progressive" not in image.info:
        return 0  # one scan with all bands
    # The header of a scan has ten bytes: most files are too short for so many.
    if len(content) // 10 * pixels > _MAX_SCANNED_PIXELS:
        scans = content.count(b"\xff\xda")
        if scans * pixels > _MAX_SCANNED_PIXELS:
            raise ValueError(f"{scans} scans; cameras write about ten")
    return 2 * bands * pixels


def _tile_bytes(image: Image.Image) -> int:
    """Return the size of a TIFF's decoded tile or strip, which may be larger than the picture."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    width = max(image.width, tags.get(TiffImagePlugin.TILEWIDTH, 0))
    length = tags.get(TiffImagePlugin.TILELENGTH, 0) or min(
        image.height, tags.get(TiffImagePlugin.ROWSPERSTRIP, image.height)
    )
    sample_bytes = sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) / 8
    in_jpeg = image.info.get("compression") == "jpeg"  # may be in scans
    return int(width * length * sample_bytes * (3 if in_jpeg else 1))


def _reduce(image: Image.Image, *, short: int) -> None:
    """Let a JPEG decode at a fraction of its size; other formats have at most thumbnails."""
    scale = REDUCING_GAP * short / min(image.size)
    if scale < 1 and image.format in ("JPEG", "MPO"):
        image.draft(None, (max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def to_eight_bit(image: Image.Image) -> Image.Image:
    """Return a decoded picture upright, as 8-bit L or RGB.

    EXIF rotation is applied; transparency is laid over white; 16-bit grey is scaled, not clipped;
    of an animation only the first frame is used.

    Raises:
        ValueError: integer or floating-point values whose white is unknown.
    """
    _turn_upright(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known white; convert to 8 or 16 bit")
    if image.mode.startswith("I"):
        return _wide_grey(image)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return _over_white(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _turn_upright(image: Image.Image) -> None:
    """Apply the EXIF orientation in place; one that cannot be read is none, as in any viewer."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error) as error:
        logger.debug("EXIF orientation not readable: %s", error)


def _wide_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (65535 = white) to 8 bit; Pillow's own conversion clips at 255."""
    transparent = image.info.get("transparency")
    scaled = Image.new("L", image.size)
    for box in _strips(image):
        values = np.asarray(image.crop(box)).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixels have no known white; convert to 8 or 16 bit")
        grey = ((values + 128) // 257).astype(np.uint8)
        if transparent is not None:
            grey[values == transparent] = 255
        scaled.paste(Image.fromarray(grey), box)
    return scaled


def _over_white(image: Image.Image) -> Image.Image:
    """Lay a picture over white."""
    flat = Image.new("RGB", image.size)
    for box in _strips(image):
        layered = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        flat.paste(Image.alpha_composite(white, layered).convert("RGB"), box)
    return flat


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Cut a picture into boxes of whole rows, so that no second copy of a large one is needed."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield (0, top, image.width, min(top + rows, image.height))


def cut_ends(image: Image.Image, *, most: float) -> Image.Image:
    """Cut the ends off a picture more than `most` times longer than wide."""
    if max(image.size) <= most * min(image.size):
        return image
    limit = int(most * min(image.size))
    width, height = min(image.width, limit), min(image.height, limit)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
