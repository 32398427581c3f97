"""What annotation files say about pictures, cleaned; every problem that is found is listed.

The readers of the three formats build on the records and the few functions on top.
"""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featherweight.data.picture_size import shown_size
from featherweight.data.split_names import split_named
from featherweight.errors import DataError
from featherweight.readable import plain_text
from featherweight.records import Record, read_bounded

__all__ = [
    "SMALLEST_SIDE",
    "AnnotatedPicture",
    "CheckedPicture",
    "FoundAnnotations",
    "Mark",
    "MarkedPicture",
    "Problem",
    "check_pictures",
    "class_text",
    "order_classes",
    "path_inside",
    "place_in",
    "read_annotation_file",
    "split_of",
    "to_number",
]

SMALLEST_SIDE = 1.0
"""Pixels. A box with a side of no more is a slip of the mouse: two corners on one pixel."""

_SIDE_SLACK = 1e-3
"""Pixels by which rounded shares of a picture may miss a whole number."""
_EDGE_SLACK = 0.02
"""Pixels beyond the picture that rounding explains: files have two decimals, or six of a share."""
_ASPECT_SLACK = 0.01

Box = tuple[float, float, float, float]


class Problem(Record):
    """One thing a user should know about the annotations.

    Attributes:
        kind: of a box `degenerate_box`, `clipped_box`, `outside_box`, `invalid_box` (not finite,
            negative or no numbers), `duplicate_box`, `unknown_class`, `polygon`, `crowd`,
            `difficult`; of a picture `broken` (not readable), `size_differs`, `size_missing`,
            `no_boxes`,
            `missing_picture`, `missing_annotation`, `duplicate_picture`, `leak` (in two splits),
            `ignored`; of a class `class_gap`, `merged_class`, `empty_class`; of data.yaml `path`,
            `missing_split`.
        where: the annotation file, picture or folder, relative to the data; a class; or the data.
        text: what is wrong and what was done about it.
        left_out: whether boxes or pictures are not used because of it.
    """

    kind: str
    where: str
    text: str
    left_out: bool


class Mark(NamedTuple):
    """One box as a file has it; its label is a class, or a number that stands for none."""

    box: Box
    label: str | int
    crowd: bool = False
    difficult: bool = False


class MarkedPicture(NamedTuple):
    """A picture and its boxes as an annotation file has them; nothing is checked yet.

    Attributes:
        path: the picture, a file that exists.
        name: where it lies in the data.
        split: "train", "val", "test" or "all".
        where: the file to correct when a box is wrong.
        marks: the boxes, xyxy in pixels of `size`, or in shares of the picture.
        size: (width, height) in pixels, as annotated; None where the annotation does not say it.
        in_shares: the boxes are in [0, 1], and the format has no sizes.
    """

    path: Path
    name: str
    split: str
    where: str
    marks: Sequence[Mark]
    size: tuple[float, float] | None = None
    in_shares: bool = False


class FoundAnnotations(NamedTuple):
    """What a reader hands over: classes in order of their ids, pictures, problems of the files."""

    classes: tuple[str, ...]
    pictures: list[MarkedPicture]
    problems: list[Problem]


@dataclass(frozen=True, eq=False)
class AnnotatedPicture:
    """A picture and its boxes; row i of every array is the same box.

    Attributes:
        path: the picture file.
        name: where it lies in the data, with "/".
        size: (width, height) in pixels of the picture as it is shown (after EXIF rotation).
        boxes: float64 (M, 4), xyxy in pixels of the shown picture, inside it and larger than
            SMALLEST_SIDE; read-only, as all arrays here.
        labels: int64 (M,), index into the classes.
        crowd: bool (M,), the box is around many objects (COCO iscrowd).
        difficult: bool (M,), the object is hard to tell (VOC difficult).
    """

    path: Path
    name: str
    size: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    difficult: npt.NDArray[np.bool_]


class CheckedPicture(NamedTuple):
    """A picture that can be used, the split it was found in, and the length of its file."""

    picture: AnnotatedPicture
    split: str
    file_bytes: int


def to_number(value: object) -> float:
    """Return a number that a file has as number or text; NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def class_text(name: str) -> str:
    """Return the name of a class in one Unicode form, as `nesting.class_name` does for folders."""
    return unicodedata.normalize("NFC", plain_text(name.strip()))


def order_classes(
    names: Mapping[int, str], *, where: str, problems: list[Problem]
) -> dict[str, int]:
    """Return {class: id}, in order, of {id: class}; gaps and names that repeat become problems."""
    ids: dict[str, int] = {}
    for number, name in sorted(names.items()):
        if ids.setdefault(name, number) != number:
            text = f"{where} has it under the ids {ids[name]} and {number}: one class"
            _note(problems, "merged_class", name, text, left_out=False)
    missing = max(names, default=0) - min(names, default=1) + 1 - len(names)
    if missing:
        span = f"{missing} of the ids {min(names)} to {max(names)} are of no class"
        text = f"{span}: the {len(ids)} classes are numbered without gaps"
        _note(problems, "class_gap", where, text, left_out=False)
    return ids


def split_of(name: str) -> str | None:
    """Return the split that a folder or a word stands for ("valid", "train2017"), or None."""
    return split_named(re.sub(r"[\s._-]*\d+$", "", name))


def place_in(top: Path, path: Path) -> str:
    """Return where a file lies in the data, as text with "/"."""
    return plain_text(path.relative_to(top).as_posix())


def path_inside(text: str) -> PurePosixPath | None:
    r"""Return a path that a file names, relative to the data; None where it leads out of it.

    Backslashes are separators where there are no others: Windows writes `..\train\images`.
    """
    normal = posixpath.normpath(text if "/" in text else text.replace("\\", "/"))
    path = PurePosixPath(normal)
    leaves = path.is_absolute() or path.parts[:1] == ("..",) or re.match(r"[A-Za-z]:", normal)
    return None if leaves else path


def read_annotation_file(path: Path, *, limit_bytes: int) -> bytes:
    """Return the content of an annotation file.

    Raises:
        DataError: it cannot be read, is no regular file, or larger than the limit.
    """
    try:
        return read_bounded(path, limit_bytes=limit_bytes)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {why}") from error


def check_pictures(found: FoundAnnotations) -> tuple[list[CheckedPicture], list[Problem]]:
    """Bring all boxes into pixels of the shown pictures and leave out what cannot be used.

    Of each picture the header is read; nothing is decoded, except where only that tells the size
    (HEIF, AVIF, a PNG with EXIF at its end).

    Returns:
        The pictures that can be used, in order, and what was wrong.
    """
    index: dict[str | int, int] = {name: number for number, name in enumerate(found.classes)}
    checked: list[CheckedPicture] = []
    problems: list[Problem] = []
    seen: set[tuple[str, str]] = set()
    for marked in found.pictures:
        if (marked.split, marked.name) in seen:
            text = f"{marked.where} lists it twice: the second time is left out"
            _note(problems, "duplicate_picture", marked.name, text, left_out=True)
            continue
        seen.add((marked.split, marked.name))
        try:
            size, file_bytes = shown_size(marked.path)
        except ValueError as error:
            _note(problems, "broken", marked.name, f"{error}: left out", left_out=True)
            continue
        scale = _scale(marked, size=size, problems=problems)
        if scale is not None:
            picture = _clean(marked, size=size, scale=scale, index=index, problems=problems)
            checked.append(CheckedPicture(picture, marked.split, file_bytes))
    return checked, problems


def _note(problems: list[Problem], kind: str, where: str, text: str, *, left_out: bool) -> None:
    problems.append(Problem(kind=kind, where=where, text=text, left_out=left_out))


def _scale(
    marked: MarkedPicture, *, size: tuple[int, int], problems: list[Problem]
) -> tuple[float, float] | None:
    """Return what turns annotated x and y into shown pixels; None where that is not known."""
    (width, height), said = map(float, size), marked.size
    if marked.in_shares:
        return width, height
    shown = f"{width:g}x{height:g} pixels"
    if said is None or not (math.isfinite(sum(said)) and min(said) >= 1):
        text = f"no usable size: taken from the picture, {shown}"
        _note(problems, "size_missing", marked.where, text, left_out=False)
        return 1.0, 1.0
    if said == (width, height):
        return 1.0, 1.0
    misfit = abs(said[0] * height / (said[1] * width) - 1) > _ASPECT_SLACK
    turned = " (the sides exchanged: EXIF?)" if misfit and said == (height, width) else ""
    done = "another shape, the picture is left out" if misfit else "the boxes are scaled"
    text = f"{said[0]:g}x{said[1]:g} pixels{turned}, {marked.name} is shown at {shown}: {done}"
    _note(problems, "size_differs", marked.where, text, left_out=misfit)
    return None if misfit else (width / said[0], height / said[1])


def _clean(
    marked: MarkedPicture,
    *,
    size: tuple[int, int],
    scale: tuple[float, float],
    index: Mapping[str | int, int],
    problems: list[Problem],
) -> AnnotatedPicture:
    """Scale, clip and sift the boxes of one picture; each box is listed for its first defect."""
    raw = np.array([mark.box for mark in marked.marks], dtype=np.float64).reshape(-1, 4)
    labels = np.array([index.get(mark.label, -1) for mark in marked.marks], dtype=np.int64)
    crowd = np.array([mark.crowd for mark in marked.marks], dtype=np.bool_)
    limits = np.array(size * 2, dtype=np.float64)
    with np.errstate(all="ignore"):  # what is not finite, or overflows, is left out below
        boxes = raw * np.array(scale * 2)
        clipped = np.clip(boxes, 0.0, limits)
        sides = clipped[:, 2:] - clipped[:, :2]
    first = np.unique(np.column_stack([clipped, labels, crowd]), axis=0, return_index=True)[1]
    again = np.ones(len(raw), dtype=np.bool_)
    again[first] = False
    invalid = ~np.isfinite(raw).all(1) | (raw[:, 2:] < raw[:, :2]).any(1)
    beyond = (boxes[:, 2:] <= 0).any(1) | (boxes[:, :2] >= limits[:2]).any(1)
    slim = (sides <= SMALLEST_SIDE + _SIDE_SLACK).any(1)
    defects = {
        "unknown_class": (labels < 0, f"of none of the {len(index)} classes"),
        "invalid_box": (invalid, "no four finite numbers, or a negative side"),
        "outside_box": (beyond, "outside the picture"),
        "degenerate_box": (slim, f"with a side of {SMALLEST_SIDE:g} pixel or less"),
        "duplicate_box": (again, "there already"),
    }
    left = np.zeros(len(raw), dtype=np.bool_)
    for kind, (wrong, why) in defects.items():
        bad = np.asarray(wrong & ~left, dtype=np.bool_)
        if bad.any():
            text = f"{_first_of(bad, boxes=boxes, marks=marked.marks)} {why}: left out"
            _note(problems, kind, marked.where, text, left_out=True)
        left |= bad
    partly = ~left & (np.abs(boxes - clipped) > _EDGE_SLACK).any(1)
    if partly.any():
        text = f"{_first_of(partly, boxes=boxes, marks=marked.marks)} partly outside: clipped"
        _note(problems, "clipped_box", marked.where, text, left_out=False)
    difficult = np.array([mark.difficult for mark in marked.marks], dtype=np.bool_)
    arrays = (clipped[~left], labels[~left], crowd[~left], difficult[~left])
    for array in arrays:
        array.flags.writeable = False
    return AnnotatedPicture(marked.path, marked.name, size, *arrays)


def _first_of(
    bad: npt.NDArray[np.bool_], *, boxes: npt.NDArray[np.float64], marks: Sequence[Mark]
) -> str:
    """Name the first of some boxes and say how many there are."""
    row, count = int(np.flatnonzero(bad)[0]), int(bad.sum())
    corners = ", ".join(f"{value:g}" for value in boxes[row])
    many = f"{count} boxes, first" if count > 1 else "a box"
    return f"{many} ({corners}) of {marks[row].label!r},"
