"""Picture file in, upright 8-bit RGB square out: the only place that calls Pillow's decoders.

Training, `predict` and the bundle's `run.py` share this file: it is copied beside `run.py` as it
is, so it needs numpy and Pillow and nothing of featherweight.
"""

from __future__ import annotations

from importlib.util import find_spec

from PIL import features

__all__ = ["missing_libraries", "readable_suffixes"]

_SUFFIXES = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}


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
    if "avif" not in features.modules or not features.check("avif"):
        missing["AVIF"] = "pillow>=11.3"
    return {suffix: package for form, package in missing.items() for suffix in _SUFFIXES[form]}
