"""Which class a folder is: its name in one Unicode form, and the innermost of nested folders."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from featherweight.data.dataset import Problem
from featherweight.errors import DataError
from featherweight.readable import plain_text

__all__ = ["ClassFolder", "check_nesting", "class_name"]


class ClassFolder(NamedTuple):
    """A folder with pictures of one class.

    Attributes:
        label: the class, from `class_name`.
        split: the split it lies in, or "all".
        place: where it lies in its split's folder.
        name: where it lies in the data, as text.
    """

    label: str
    split: str
    place: Path
    name: str


def class_name(folder: Path) -> str:
    """Return a folder's name as the name of a class.

    Two systems may write one name as different code points (macOS decomposes accents); both are
    one class, so the composed form is used. Bytes that are not UTF-8 are written out: the folder
    need not be renamed, and JSON, YAML and ONNX can hold the name.
    """
    return unicodedata.normalize("NFC", plain_text(folder.name))


def check_nesting(folders: Sequence[ClassFolder]) -> list[Problem]:
    """Return what should be said about the names and places of class folders.

    Raises:
        DataError: folders of one name inside different folders; whether the inner or the outer
            folder is the class cannot be told.
    """
    problems = [
        Problem(
            kind="renamed",
            path=folder.name,
            detail=f"the folder's name is not UTF-8: its class is called {folder.label!r}",
        )
        for folder in folders
        if plain_text(folder.place.name) != folder.place.name
    ]
    splits: dict[str, list[ClassFolder]] = defaultdict(list)
    for folder in folders:
        splits[folder.split].append(folder)
    for members in splits.values():
        problems += _check_split(members)
    _check_across(list(splits.values()))
    trained = splits.get("all") or splits.get("train") or []
    return problems + _nested(trained)


def _check_split(folders: Sequence[ClassFolder]) -> list[Problem]:
    problems = []
    first: dict[str, ClassFolder] = {}
    for folder in folders:
        other = first.setdefault(folder.label, folder)
        if other.place.parent != folder.place.parent:
            raise _unclear(other, folder)
        if other is not folder:
            detail = f"the same name as {other.name} in another Unicode form: one class"
            problems.append(Problem(kind="merged", path=folder.name, detail=detail))
    return problems


def _check_across(splits: Sequence[Sequence[ClassFolder]]) -> None:
    """Refuse an inner folder that lies in one class in a split and in another in the next.

    One split may have its folders inside a further one (train/images/cat and test/cat): only
    where both outer folders are known in both splits do they tell classes apart.
    """
    for number, folders in enumerate(splits):
        here = {folder.label: folder for folder in folders}
        parents = {folder.place.parent for folder in folders}
        for others in splits[number + 1 :]:
            theirs = {folder.place.parent for folder in others}
            for folder in others:
                twin = here.get(folder.label)
                if twin is None or twin.place.parent == folder.place.parent:
                    continue
                if folder.place.parent in parents and twin.place.parent in theirs:
                    raise _unclear(twin, folder)


def _unclear(one: ClassFolder, other: ClassFolder) -> DataError:
    return DataError(
        f"a folder {one.label!r} lies in {_parent(one)} and in {_parent(other)}: which of them are "
        "the classes is unclear",
        allowed="inner folders of different names (they are the classes), or no inner folders",
        hint="put the pictures of each class into one folder, without folders inside it",
    )


def _parent(folder: ClassFolder) -> str:
    return folder.name.rpartition("/")[0] or "."


def _nested(folders: Sequence[ClassFolder]) -> list[Problem]:
    """Say that classes lie inside folders; one folder around all of them is no level."""
    deepest = max(folders, key=lambda folder: len(folder.place.parts), default=None)
    if deepest is None or len({folder.place.parent for folder in folders}) == 1:
        return []
    count = len({folder.label for folder in folders})
    detail = (
        f"the innermost folders are the classes, {count} of them, here {deepest.label!r}; where "
        "an outer folder is the class, move the pictures up into it"
    )
    return [Problem(kind="nested", path=deepest.name, detail=detail)]
