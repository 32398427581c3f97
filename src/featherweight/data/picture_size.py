"""How large a picture is as it is shown, told by its header where that can be."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from featherweight.data.decode import inspect_picture

__all__ = ["shown_size"]

_HEADER_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 0x0112, 256, 257
_LYING = range(5, 9)
"""EXIF orientations that change width and height for each other."""


def shown_size(path: Path) -> tuple[tuple[int, int], int]:
    """Return (width, height) of a picture as it is shown, and the bytes of its file.

    Raises:
        ValueError: it is no picture that can be read.
    """
    size, file_bytes = None, 0
    try:
        found = path.stat()
        file_bytes = found.st_size
        if stat.S_ISREG(found.st_mode):  # a pipe would wait for its other end
            with path.open("rb") as stream:
                size = _header_size(stream)
    except OSError:
        size = None  # the decoder has words for what is wrong
    if size is not None:
        return size, file_bytes
    seen = inspect_picture(path)
    if seen.error is not None:
        raise ValueError(seen.error)
    return ((seen.height, seen.width) if seen.turned else (seen.width, seen.height)), file_bytes


def _header_size(stream: BinaryIO) -> tuple[int, int] | None:
    """Return the shown size that a header tells; None where only the decoder can tell it.

    Raises:
        OSError: the header cannot be read.
    """
    try:
        with Image.open(stream, formats=_HEADER_FORMATS) as image:
            size = image.size
            if image.format == "TIFF":  # Pillow turns these at once, older ones when they decode
                tags = image.tag_v2  # type: ignore[attr-defined]
                size = (int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT]))
            if image.format == "PNG" and "exif" not in image.info and _has_late_exif(stream):
                return None
            orientation = _orientation(image)
    except Exception as error:  # as in `open_picture`: hostile bytes raise nearly anything
        raise OSError(str(error)) from error
    if min(size) < 1:
        return None
    return (size[1], size[0]) if orientation in _LYING else size


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation; one that cannot be read is none, as where pixels are turned."""
    try:
        # Not PngImageFile's own: that decodes the picture to see whether EXIF follows.
        return Image.Image.getexif(image).get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1


def _has_late_exif(stream: BinaryIO) -> bool:
    """Tell whether a PNG has EXIF anywhere: its header was read up to the pixels and had none."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return True
        stream.seek(length + 4, os.SEEK_CUR)
    return False
