"""Class folders: root/<class>/*.jpg, or below any usable subset of train, val and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight.data.dataset import Candidate, Found, Problem
from featherweight.data.decode import IMAGE_SUFFIXES
from featherweight.errors import DataError

__all__ = ["ALLOWED_LAYOUTS", "SPLIT_FOLDERS", "find_folder_pictures", "visible"]

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Names of split folders (any case) and the split they hold."""

ALLOWED_LAYOUTS = (
    "FOLDER/<class>/*.jpg, FOLDER/{train,val,test}/<class>/*.jpg, "
    "a Parquet file or a folder of them, 'demo'"
)


def visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the (folders, files) in `folder` that are not hidden, sorted by name.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not _hidden(entry.name))
    except OSError as error:
        raise DataError(
            f"cannot read the folder {folder}: {error.strerror}", hint="check its permissions"
        ) from error
    return [entry for entry in entries if entry.is_dir()], [
        entry for entry in entries if not entry.is_dir()
    ]


def find_folder_pictures(root: Path) -> Found:
    """List the pictures below a folder with their classes and splits; nothing is decoded.

    A folder named like a split is one when it holds class folders; else it is a class (vehicle
    data has a class "train", ticket data a class "valid").

    Raises:
        DataError: no pictures, no class folders, no train folder, or two folders for one split.
    """
    top = _unwrap(root)
    folders, files = visible(top)
    problems = _ignored_files(files, top=root)
    splits = {folder: SPLIT_FOLDERS[folder.name.lower()] for folder in folders if _is_split(folder)}
    candidates: list[Candidate] = []
    if splits:
        _check_splits(splits, top=top)
        for folder in folders:
            if folder not in splits:
                problems.append(
                    _ignored(folder, top=root, detail="holds no class folders of a split: not used")
                )
        for folder, split in splits.items():
            inner, files = visible(folder)
            problems += _ignored_files(files, top=root)
            _collect(inner, split=split, top=root, candidates=candidates, problems=problems)
    else:
        _check_loose(folders, files, top=top)
        _collect(folders, split="all", top=root, candidates=candidates, problems=problems)
    if not candidates:
        raise DataError(f"no pictures in {root}", allowed=ALLOWED_LAYOUTS)
    classes = tuple(sorted({candidate.label for candidate in candidates}))
    # A class that is empty in one split only is a class; what it lacks there is for check_data.
    problems = [
        problem
        for problem in problems
        if problem.kind != "empty_class" or problem.path.rsplit("/", 1)[-1] not in classes
    ]
    return Found(root.resolve().name, classes, candidates, problems)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _holds_pictures(folder: Path) -> bool:
    return any(_is_picture(file) for file in visible(folder)[1])


def _is_split(folder: Path) -> bool:
    """Tell whether a folder is named like a split and holds class folders."""
    if folder.name.lower() not in SPLIT_FOLDERS:
        return False
    return any(_holds_pictures(inner) for inner in visible(folder)[0])


def _unwrap(root: Path) -> Path:
    """Step into a sole folder of folders, as unpacked archives have it (flowers/flower_photos/)."""
    folders, files = visible(root)
    if len(folders) != 1 or any(_is_picture(file) for file in files):
        return root
    only = folders[0]
    wraps = bool(visible(only)[0]) and not _holds_pictures(only) and not _is_split(only)
    return _unwrap(only) if wraps else root


def _check_splits(splits: dict[Path, str], *, top: Path) -> None:
    names = list(splits.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        both = ", ".join(folder.name for folder, name in splits.items() if name == twice[0])
        raise DataError(
            f"{top} has two folders for the split {twice[0]!r}: {both}",
            allowed=ALLOWED_LAYOUTS,
            hint="keep or merge one of them",
        )
    if "train" not in names:
        raise DataError(
            f"{top} has {' and '.join(folder.name for folder in splits)} but no train folder",
            allowed=ALLOWED_LAYOUTS,
        )


def _check_loose(folders: Sequence[Path], files: Sequence[Path], *, top: Path) -> None:
    """Refuse pictures that have no class folder: nothing says what they show."""
    loose = sum(map(_is_picture, files))
    if loose and not any(_holds_pictures(folder) for folder in folders):
        raise DataError(
            f"{top} holds {loose} pictures but no class folders",
            allowed=ALLOWED_LAYOUTS,
            hint="put the pictures of each class into a folder with the class's name",
        )
    with_pictures = [folder for folder in folders if _holds_pictures(folder)]
    if with_pictures and all(folder.name.lower() in SPLIT_FOLDERS for folder in with_pictures):
        names = [folder.name.lower() for folder in with_pictures]
        if "train" in names:
            folder = with_pictures[names.index("train")]
            raise DataError(
                f"{folder} holds pictures but no class folders",
                allowed=ALLOWED_LAYOUTS,
                hint="put the pictures of each class into a folder with the class's name",
            )


def _collect(
    folders: Sequence[Path],
    *,
    split: str,
    top: Path,
    candidates: list[Candidate],
    problems: list[Problem],
) -> None:
    """Add the pictures of class folders; what else lies there becomes a problem."""
    for folder in folders:
        inner, files = visible(folder)
        pictures = [file for file in files if _is_picture(file)]
        problems += _ignored_files([file for file in files if not _is_picture(file)], top=top)
        for nested in inner:
            detail = (
                f"a folder inside the class folder {folder.name!r}; pictures in it are not used"
            )
            problems.append(_ignored(nested, top=top, detail=detail))
        if not pictures:
            name = folder.relative_to(top).as_posix()
            detail = "no pictures in this folder: not a class"
            problems.append(Problem(kind="empty_class", path=name, detail=detail))
        for file in pictures:
            name = file.relative_to(top).as_posix()
            candidates.append(Candidate(file, name, folder.name, split))


def _ignored(path: Path, *, top: Path, detail: str) -> Problem:
    return Problem(kind="ignored", path=path.relative_to(top).as_posix(), detail=detail)


def _ignored_files(files: Sequence[Path], *, top: Path) -> list[Problem]:
    """Return one problem for all the files of a folder that are not used."""
    if not files:
        return []
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    detail = f"{files[0].name}{more}: not a picture in a class folder"
    return [_ignored(files[0].parent, top=top, detail=detail)]
