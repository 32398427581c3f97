"""COCO JSON: one file of pictures, boxes and classes for each split.

Source: Lin et al., Microsoft COCO (arXiv 1405.0312); cocodataset.org, "Data format": bbox is
[x, y, width, height] in pixels, measured from the top left corner of the picture and from 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeGuard

from featherweight.data.annotations_check import (
    Box,
    FoundAnnotations,
    Mark,
    MarkedPicture,
    Problem,
    class_text,
    order_classes,
    path_inside,
    place_in,
    read_annotation_file,
    split_of,
    to_number,
)
from featherweight.data.listing import list_folder
from featherweight.errors import DataError
from featherweight.readable import plain_text
from featherweight.records import parse_json

__all__ = ["CocoFile", "coco_file", "find_coco", "read_coco"]

_JSON_BYTES = 1 << 30
"""COCO's own instances_train2017.json has 449 MB; Python needs several times as much memory."""
_HEAD_BYTES = 256
_HEAD = re.compile(rb'^(?:\xef\xbb\xbf)?\s*\{\s*"(?:info|licenses|images|annotations|categories)"')
_NAMED = re.compile(r"^_annotations\.coco\.json$|^instances_.*\.json$", re.IGNORECASE)
_PARTS = ("images", "annotations", "categories")
_PICTURE_FOLDERS = ("images", "data")


class CocoFile(NamedTuple):
    """An annotation file and the split it is for: "train", "val", "test" or "all"."""

    path: Path
    split: str


def find_coco(top: Path) -> list[CocoFile]:
    """Return the COCO files of a folder; empty when it has none.

    Looked for in the folder, in its annotations/ and in folders named like splits (Roboflow).
    Where there are instances_*.json the others (captions, key points) are not annotations.

    Raises:
        DataError: a folder cannot be read.
    """
    here = list_folder(top)
    for folder in here.folders:
        if folder.name.lower() == "annotations":
            files = [f for f in list_folder(folder).files if f.suffix.lower() == ".json"]
            if files:
                return [coco_file(file) for file in _instances(files)]
    files = [file for file in here.files if _is_coco(file)]
    if not files:
        for folder in filter(lambda inner: split_of(inner.name), here.folders):
            files += [file for file in list_folder(folder).files if _is_coco(file)]
    return [coco_file(file) for file in _instances(files)]


def coco_file(path: Path) -> CocoFile:
    """Return a file with the split that its name says, else the folder it lies in."""
    words = re.split(r"[\W_]+", path.stem)
    known = {split for word in words if (split := split_of(word))}
    return CocoFile(path, known.pop() if len(known) == 1 else split_of(path.parent.name) or "all")


def _instances(files: Sequence[Path]) -> Sequence[Path]:
    return [file for file in files if _NAMED.match(file.name)] or files


def _is_coco(file: Path) -> bool:
    """Tell by its name or its first key whether a file is COCO."""
    if file.suffix.lower() != ".json":
        return False
    if _NAMED.match(file.name):
        return True
    try:
        with file.open("rb") as stream:
            return _HEAD.match(stream.read(_HEAD_BYTES)) is not None
    except OSError:
        return False


def read_coco(files: Sequence[CocoFile], *, top: Path) -> FoundAnnotations:
    """Read COCO files; category ids become positions, in order of the ids.

    A picture that the files do not list is not part of the data.

    Args:
        files: from `find_coco`.
        top: the folder of the data.

    Raises:
        DataError: two files for one split, or a file that is not COCO.
    """
    splits = [file.split for file in files]
    for split in splits:
        if splits.count(split) > 1:
            both = ", ".join(place_in(top, file.path) for file in files if file.split == split)
            known = "no split" if split == "all" else f"the split {split!r}"
            raise DataError(
                f"{top} has several COCO files of {known}: {both}",
                allowed="one file of train, val and test each",
                hint="name the one that counts, or move the others away",
            )
    ids: dict[str, int] = {}
    pictures: list[MarkedPicture] = []
    problems: list[Problem] = []
    for file in files:
        content = _read(file.path)
        names = _categories(content["categories"], path=file.path)
        where = place_in(top, file.path)
        ids = order_classes(names, where=where, problems=problems) | ids
        pictures += _pictures(content, file=file, top=top, names=names, problems=problems)
    return FoundAnnotations(tuple(sorted(ids, key=ids.__getitem__)), pictures, problems)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lists of a COCO file; every entry is a mapping."""
    content = read_annotation_file(path, limit_bytes=_JSON_BYTES)
    try:
        plain = parse_json(content)
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    for part in _PARTS:
        entries = plain.get(part) if isinstance(plain, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise DataError(
                f"{path} is not COCO: it has no list of {part}",
                allowed=f"a JSON object with the lists {', '.join(_PARTS)}",
            )
    return {part: plain[part] for part in _PARTS}


def _categories(entries: Sequence[Mapping[str, Any]], *, path: Path) -> dict[int, str]:
    names = {}
    for entry in entries:
        number, name = entry.get("id"), entry.get("name")
        if not _is_id(number) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: a category has the id {number!r} and the name {name!r}")
        if number in names:
            raise DataError(f"{path}: two categories have the id {number}")
        names[number] = class_text(name)
    return names


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _pictures(
    content: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    file: CocoFile,
    top: Path,
    names: Mapping[int, str],
    problems: list[Problem],
) -> Iterator[MarkedPicture]:
    """Yield the pictures of one file with their boxes; those without a picture file are listed."""
    where = place_in(top, file.path)
    marks: dict[object, list[Mark]] = {}
    for entry in content["images"]:
        if not isinstance(entry.get("id"), int | str) or not isinstance(
            entry.get("file_name"), str
        ):
            raise DataError(
                f"{file.path}: a picture has the id {entry.get('id')!r} and the file_name "
                f"{entry.get('file_name')!r}"
            )
        if entry["id"] in marks:
            raise DataError(f"{file.path}: two pictures have the id {entry['id']!r}")
        marks[entry["id"]] = []
    orphans = 0
    for entry in content["annotations"]:
        number, key = entry.get("category_id"), entry.get("image_id")
        found = marks.get(key) if isinstance(key, int | str) else None
        if found is None:
            orphans += 1
            continue
        label = names.get(number, number) if _is_id(number) else repr(number)
        found.append(Mark(_corners(entry.get("bbox")), label, crowd=entry.get("iscrowd") == 1))
    if orphans:
        text = f"{orphans} boxes of pictures that it does not list: left out"
        problems.append(Problem(kind="missing_picture", where=where, text=text, left_out=True))
    folders = _folders(file, top=top)
    missing = []
    for entry in content["images"]:
        path = _find_file(entry["file_name"], folders=folders)
        if path is None:
            missing.append(plain_text(entry["file_name"]))
            continue
        name = place_in(top, path)
        size = (to_number(entry.get("width")), to_number(entry.get("height")))
        yield MarkedPicture(path, name, file.split, name, marks[entry["id"]], size)
    if missing:
        text = f"{len(missing)} of its pictures are not there, first {missing[0]}: left out"
        problems.append(Problem(kind="missing_picture", where=where, text=text, left_out=True))


def _corners(box: object) -> Box:
    """Return xyxy of a COCO bbox; NaN for what is none."""
    if not isinstance(box, list) or len(box) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(to_number, box)
    return x, y, x + width, y + height


def _folders(file: CocoFile, *, top: Path) -> list[Path]:
    """Return the folders in which the pictures of a file may lie, nearest first."""
    stem = re.sub(r"^instances_", "", file.path.stem)
    folders = [file.path.parent]
    for outer in (top, *(top / name for name in _PICTURE_FOLDERS)):
        if not outer.is_dir():
            continue
        inner = [
            folder
            for folder in list_folder(outer).folders
            if folder.name == stem or (file.split != "all" and split_of(folder.name) == file.split)
        ]
        # instances_val2014.json: val2014/ before a val/ beside it
        for folder in sorted(inner, key=lambda found: found.name != stem):
            folders += [folder, folder / "images"]
    return [*folders, *(top / name for name in _PICTURE_FOLDERS), top]


def _find_file(name: str, *, folders: Sequence[Path]) -> Path | None:
    """Return the picture that a file_name means; of a path on another machine the last part."""
    inside = path_inside(name) or PurePosixPath(PurePosixPath(name.replace("\\", "/")).name)
    for folder in folders:
        path = folder / inside
        try:
            if path.is_file():
                return path
        except OSError:  # a name that no file can have
            return None
    return None
