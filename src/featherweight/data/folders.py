"""Class folders: root/<class>/*.jpg, at any depth, or below any usable subset of the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featherweight.data.dataset import Candidate, Found, Problem
from featherweight.data.decode import IMAGE_SUFFIXES
from featherweight.data.listing import Listing, list_folder, suffix_counts, visible
from featherweight.data.nesting import ClassFolder, check_nesting, class_name
from featherweight.data.split_names import SPLIT_FOLDERS, name_splits, split_named
from featherweight.errors import DataError
from featherweight.readable import plain_text

__all__ = ["ALLOWED_LAYOUTS", "SPLIT_FOLDERS", "find_folder_pictures", "visible"]

ALLOWED_LAYOUTS = (
    "FOLDER/<class>/*.jpg, FOLDER/{train,val,test}/<class>/*.jpg, "
    "a Parquet file or a folder of them, 'demo'"
)

UNREAD_SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "pip install pillow-heif"),
    **dict.fromkeys((".avif",), "pip install 'pillow>=11.3'"),
    **dict.fromkeys(
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".dds", ".dcm", ".dng", ".eps", ".erf", ".exr"),
            *(".hdr", ".iiq", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".kdc", ".mrw"),
            *(".nef", ".nrw", ".orf", ".pcx", ".pef", ".psb", ".psd", ".raf", ".raw", ".rw2"),
            *(".sgi", ".sr2", ".srf", ".srw", ".svg", ".tga", ".x3f", ".xcf"),
        ),
        "not read: convert them to .jpg or .png",
    ),
}
"""Endings of picture files that are not read, unless IMAGE_SUFFIXES has them, and what to do."""

MAX_DEPTH = 32
"""Class folders deeper than this are a mistake, or links that lead in a circle."""


@dataclass
class _Collection:
    """What was found below `top` so far."""

    top: Path
    candidates: list[Candidate] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    classes: list[ClassFolder] = field(default_factory=list)
    lost: dict[str, Counter[str]] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        return plain_text(path.relative_to(self.top).as_posix())

    def note(self, path: Path, *, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind=kind, path=self.name(path), detail=detail))

    def note_files(self, files: Sequence[Path]) -> None:
        """Note all the files of a folder that are not used, in one line."""
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            name = f"{plain_text(files[0].name)}{more} ({_counted(suffix_counts(files))})"
            detail = f"{name}: not a picture in a class folder"
            self.note(files[0].parent, kind="ignored", detail=detail)


def find_folder_pictures(root: Path) -> Found:
    """List the pictures below a folder with their classes and splits; nothing is opened.

    A folder named like a split is one when it holds class folders; else it is a class (vehicle
    data has a class "train", ticket data a class "valid"). A class is a folder that holds
    pictures, however deep; folders inside it are not used.

    Raises:
        DataError: no pictures, no class folders, no train folder, two folders for one split, or
            inner folders of one name in different outer ones.
    """
    top = _unwrap(root)
    here = list_folder(top)
    into = _Collection(top)
    into.note_files([*here.files, *(path for path, _ in here.odd)])
    splits = name_splits(
        [folder for folder in here.folders if _is_split(folder)], top=top, allowed=ALLOWED_LAYOUTS
    )
    if splits:
        for folder in here.folders:
            if folder not in splits:
                detail = "holds no class folders of a split: not used"
                into.note(folder, kind="ignored", detail=detail)
        for folder, split in splits.items():
            inner = list_folder(folder)
            into.note_files([*inner.files, *(path for path, _ in inner.odd)])
            _collect(inner.folders, split=split, base=folder, into=into)
    else:
        _check_loose(here, top=top)
        _collect(here.folders, split="all", base=top, into=into)
    if not into.candidates:
        raise _no_pictures(root, into=into)
    into.problems += check_nesting(into.classes)
    classes = tuple(sorted({folder.label for folder in into.classes}))
    # A class that is empty in one split only is a class; what it lacks there is for check_data.
    problems = [
        problem
        for problem in into.problems
        if problem.kind != "empty_class" or problem.path.rsplit("/", 1)[-1] not in classes
    ]
    name = plain_text(root.resolve().name)
    return Found(name, classes, into.candidates, problems, into.lost)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_unread(path: Path) -> bool:
    return not _is_picture(path) and path.suffix.lower() in UNREAD_SUFFIXES


def _holds_pictures(folder: Path) -> bool:
    return any(_is_picture(file) for file in list_folder(folder).files)


def _is_split(folder: Path) -> bool:
    """Tell whether a folder is named like a split and holds class folders."""
    if split_named(folder.name) is None:
        return False
    return any(_has_some(inner) for inner in list_folder(folder).folders)


def _has_some(folder: Path) -> bool:
    return next(_pictures_below(folder), None) is not None


def _pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the picture files in a folder and all below it, read or not."""
    waiting, seen = [folder], set()
    while waiting:
        folder = waiting.pop()
        key = _identity(folder)
        if key is None or key in seen:
            continue
        seen.add(key)
        try:
            here = list_folder(folder)
        except DataError:  # said where its pictures are wanted
            continue
        yield from (file for file in here.files if _is_picture(file) or _is_unread(file))
        waiting += here.folders


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unwrap(root: Path) -> Path:
    """Step into a sole folder of folders, as unpacked archives have it (flowers/flower_photos/)."""
    top = root
    for _ in range(MAX_DEPTH):
        here = list_folder(top)
        if len(here.folders) != 1 or any(map(_is_picture, here.files)):
            break
        only = here.folders[0]
        if not list_folder(only).folders or _holds_pictures(only) or _is_split(only):
            break
        top = only
    return top


def _check_loose(here: Listing, *, top: Path) -> None:
    """Refuse pictures that have no class folder: nothing says what they show."""
    hint = "put the pictures of each class into a folder with the class's name"
    with_pictures = [folder for folder in here.folders if _has_some(folder)]
    loose = sum(map(_is_picture, here.files))
    if loose and not with_pictures:
        raise DataError(
            f"{top} holds {loose} pictures but no class folders",
            allowed=ALLOWED_LAYOUTS,
            hint=hint,
        )
    splits = {split_named(folder.name): folder for folder in with_pictures}
    if "train" in splits and None not in splits:
        raise DataError(
            f"{splits['train']} holds pictures but no class folders",
            allowed=ALLOWED_LAYOUTS,
            hint=hint,
        )


def _no_pictures(root: Path, *, into: _Collection) -> DataError:
    """Say why there are none, where that is known."""
    lost = sum((counts for counts in into.lost.values()), Counter[str]())
    unreadable = [problem for problem in into.problems if problem.kind == "unreadable"]
    hint = None
    if lost:
        hint = f"there are {_counted(lost)}"
    elif unreadable:
        hint = f"{unreadable[0].path}: {unreadable[0].detail}"
    return DataError(f"no pictures in {root}", allowed=ALLOWED_LAYOUTS, hint=hint)


def _collect(folders: Sequence[Path], *, split: str, base: Path, into: _Collection) -> None:
    """Add the class folders of one split, at any depth; what else lies there is noted."""
    seen: set[tuple[int, int]] = set()
    waiting = list(reversed(folders))
    while waiting:
        folder = waiting.pop()
        key = _identity(folder)
        if key is None or key in seen:
            detail = "a link to a folder that was read already: not used"
            into.note(folder, kind="ignored", detail=detail)
            continue
        seen.add(key)
        if len(folder.relative_to(base).parts) > MAX_DEPTH:
            detail = f"more than {MAX_DEPTH} folders deep: not used"
            into.note(folder, kind="ignored", detail=detail)
            continue
        try:
            here = list_folder(folder)
        except DataError as error:
            into.note(folder, kind="unreadable", detail=f"{error.message}: left out")
            continue
        if _is_class(here):
            _take_class(folder, here, split=split, base=base, into=into)
        elif here.folders:
            into.note_files([*here.files, *(path for path, _ in here.odd)])
            waiting += reversed(here.folders)
        else:
            files = _counted(suffix_counts([*here.files, *(path for path, _ in here.odd)]))
            detail = f"no pictures in this folder ({files or 'empty'}): not a class"
            into.note(folder, kind="empty_class", detail=detail)


def _is_class(here: Listing) -> bool:
    """Tell whether a folder holds pictures, or would if they could be read."""
    if any(map(_is_picture, here.files)):
        return True
    return bool(_lost_files(here)) and not any(map(_has_some, here.folders))


def _take_class(folder: Path, here: Listing, *, split: str, base: Path, into: _Collection) -> None:
    label = class_name(folder)
    place = folder.relative_to(base)
    into.classes.append(ClassFolder(label, split, place, into.name(folder)))
    pictures = [file for file in here.files if _is_picture(file)]
    for file in pictures:
        into.candidates.append(Candidate(file, into.name(file), label, split))
    lost = _lost_files(here)
    reasons = Counter(lost.values())
    for inner in here.folders:
        count = sum(1 for _ in _pictures_below(inner))
        detail = f"a folder inside a class folder; {count} pictures in it are not used"
        into.note(inner, kind="ignored", detail=detail)
        reasons += Counter({"in folders inside it": count})
    if reasons:
        into.lost.setdefault(label, Counter()).update(reasons)
    used = {*pictures, *lost}
    into.note_files([path for path in here.files if path not in used])
    into.note_files([path for path, _ in here.odd if path not in used])


def _lost_files(here: Listing) -> dict[Path, str]:
    """Return the files that should be pictures of a class and cannot be used, with the reason.

    A raw file beside a picture of its name is a camera's second copy: nothing is lost.
    """
    read = {file.stem for file in here.files if _is_picture(file)}
    lost = {}
    for file in here.files:
        if _is_unread(file) and file.stem not in read:
            suffix = file.suffix.lower()
            lost[file] = f"{suffix} ({UNREAD_SUFFIXES[suffix]})"
    for path, kind in here.odd:
        if _is_picture(path) or _is_unread(path):
            lost[path] = f"no file ({kind})"
    return lost


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
