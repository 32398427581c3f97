"""Which folder names stand for a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from featherweight.errors import DataError

__all__ = ["SPLIT_FOLDERS", "name_splits", "split_named"]

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "valset": "val",
    "dev": "val",
    "devel": "val",
    "development": "val",
    "devset": "val",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Names of split folders (any case) and the split they hold."""

_HALF_NAMES = frozenset({"eval", "evaluation"})
"""Test beside a val, as speech and benchmark data have it; val beside a test."""

_FILLERS = frozenset(
    {
        *(
            "data",
            "dataset",
            "image",
            "images",
            "img",
            "imgs",
            "photos",
            "pictures",
            "set",
            "split",
        ),
    }
)


def split_named(name: str) -> str | None:
    """Return the split that a folder name stands for ("Training_Set": "train"), or None."""
    words = _words(name)
    return SPLIT_FOLDERS.get(words[0]) if len(words) == 1 else None


def name_splits(folders: Sequence[Path], *, top: Path, allowed: str) -> dict[Path, str]:
    """Return the split of each split folder.

    Args:
        folders: folders whose names stand for a split.
        top: the folder they lie in, for the message.
        allowed: the layouts, for the message.

    Raises:
        DataError: two folders for one split, or none to train on.
    """
    splits = {folder: split_named(folder.name) or "all" for folder in folders}
    half = [folder for folder in folders if _words(folder.name)[0] in _HALF_NAMES]
    others = {split for folder, split in splits.items() if folder not in half}
    if "test" in others:
        splits |= dict.fromkeys(half, "val")
    names = list(splits.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        both = ", ".join(folder.name for folder, name in splits.items() if name == twice[0])
        raise DataError(
            f"{top} has two folders for the split {twice[0]!r}: {both}",
            allowed=allowed,
            hint="keep or merge one of them",
        )
    if splits and "train" not in names:
        raise DataError(
            f"{top} has {' and '.join(folder.name for folder in splits)} but no train folder",
            allowed=allowed,
        )
    return splits


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s._-]+", name.lower()) if word not in _FILLERS]
