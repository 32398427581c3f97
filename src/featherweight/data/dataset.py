"""What a data set is once it is read: pictures, labels, splits, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy.typing as npt

from featherweight.records import Record

__all__ = [
    "SPLITS",
    "Candidate",
    "Found",
    "ImageData",
    "ImageSplit",
    "Inspection",
    "PictureSource",
    "Problem",
]

SPLITS = ("train", "val", "test")

PictureSource = Path | bytes
"""Where the encoded picture is: a file, or the file's content."""


class Problem(Record):
    """One thing a user should know about the data.

    Attributes:
        kind: `error` (the data cannot be used) or one of the warnings `broken`, `lost` (pictures
            of a class that cannot be read), `ignored`, `unreadable` (a folder), `empty_class`,
            `nested` (classes inside folders), `renamed` and `merged` (names of classes),
            `duplicate`, `leak`, `label_conflict`, `imbalance`, `tiny`, `missing_class`,
            `mixed_modes`.
        path: the file, folder or row it is about, relative to the data's root.
        detail: what is wrong and what was done about it.
    """

    kind: str
    path: str
    detail: str


class Inspection(NamedTuple):
    """What one decode of a picture told.

    Attributes:
        digest: SHA-256 of the encoded bytes, hexadecimal.
        width, height: pixels, as stored (before EXIF rotation).
        mode: Pillow's mode of the stored picture ("L", "RGB", "P", "CMYK", "I;16", ...).
        error: why the picture cannot be decoded; None for a good one.
        turned: whether EXIF lays it on its side: width and height change places.
    """

    digest: str
    width: int
    height: int
    mode: str
    error: str | None
    turned: bool = False

    @property
    def aspect(self) -> float:
        """Width by height of the upright picture."""
        return self.height / self.width if self.turned else self.width / self.height


class Candidate(NamedTuple):
    """A picture that was found but not yet decoded; split is one of SPLITS or "all"."""

    source: PictureSource
    name: str
    label: str
    split: str


class Found(NamedTuple):
    """What a reader (folders, Parquet, demo) hands over.

    Attributes:
        name: of the data set.
        classes: the declared classes in their order.
        candidates: the pictures.
        problems: what a user should know.
        lost: pictures of a class that cannot be used, {class: {reason: count}}.
    """

    name: str
    classes: tuple[str, ...]
    candidates: list[Candidate]
    problems: list[Problem]
    lost: Mapping[str, Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """The pictures of one split; position i of every field is the same picture.

    Attributes:
        paths_or_bytes: where each encoded picture is.
        targets: what is right for each, (N, ...); of a classification int64 (N,), the index into
            `ImageData.classes`; read-only.
        names: relative file name or row of each picture.
        inspections: what its decode told (content digest, size, mode).
    """

    paths_or_bytes: Sequence[PictureSource]
    targets: npt.NDArray[Any]
    names: tuple[str, ...]
    inspections: tuple[Inspection, ...]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in three splits whose pictures all decode.

    Attributes:
        name: folder or file name, for messages and reports.
        classes: class names, as the outputs of a network have them.
        splits: "train", "val" and "test", none of them empty.
        channels: channels of a decoded picture: always 3 (grey is repeated).
        fingerprint: SHA-256 over classes, splits, names, labels and the pictures' content.
        skipped: broken files that were left out and files that were ignored.
        typical_size: median shorter side of all pictures, in pixels.
        task: kind of what is asked about the pictures.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageSplit]
    channels: int
    fingerprint: str
    skipped: tuple[Problem, ...]
    typical_size: int
    task: str = "classification"
