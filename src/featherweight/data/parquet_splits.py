"""Which Parquet files a folder holds, and the split that each one's name says."""

from __future__ import annotations

import re
from pathlib import Path

from featherweight.data.folders import SPLIT_FOLDERS, visible
from featherweight.errors import DataError

__all__ = ["is_parquet", "parquet_files"]

_DEEPEST = 3
"""Folders below the one that was named: CONFIGURATION/data/train/0000.parquet."""

_PLAIN_FOLDERS = ("data", "default")
"""Where Hugging Face puts files, below the data set: of the only configuration."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ENDINGS = ("", "set", "data", "split", "ing")
_SPLIT_WORDS = SPLIT_FOLDERS | {"dev": "val", "eval": "eval", "evaluation": "eval"}
"""Words and their splits; what `eval` is depends on what stands beside it."""


def parquet_files(root: Path) -> dict[Path, str]:
    """Return the Parquet files of a folder with their splits; empty when it holds none.

    Looked for in the folder, then in its data/ or default/ folder, then in folders named like
    splits, then in a sole folder, each at most three deep. A file's name says its split with a
    word of its own (pets_test-00000.parquet), else the folder nearest to it; without either it is
    "all".

    Raises:
        DataError: a file's name has words of two splits.
    """
    found = _search(root, split="all", depth=0)
    evaluation = "val" if "test" in found.values() else "test"
    return {file: evaluation if split == "eval" else split for file, split in found.items()}


def is_parquet(file: Path) -> bool:
    """Tell whether a file is named like Parquet."""
    return file.suffix.lower() == ".parquet"


def _search(folder: Path, *, split: str, depth: int) -> dict[Path, str]:
    folders, files = visible(folder)
    found = {file: _split_of(file) or split for file in files if is_parquet(file)}
    if found or depth == _DEEPEST:
        return found
    for plain in _PLAIN_FOLDERS:
        for inner in [] if found else [f for f in folders if f.name.lower() == plain]:
            found = _search(inner, split=split, depth=depth + 1)
    if found:
        return found
    named = {inner: _splits_in(inner.name) for inner in folders}
    for inner, words in named.items():
        if len(words) == 1:
            found |= _search(inner, split=words.pop(), depth=depth + 1)
    if not found and len(folders) == 1:
        found = _search(folders[0], split=split, depth=depth + 1)
    return found


def _split_of(file: Path) -> str | None:
    """Return the split that a file's name says; None when it says none.

    Raises:
        DataError: it has words of two splits.
    """
    splits = _splits_in(file.stem) or {
        split for split in ("train", "val", "test") if file.stem.lower().startswith(split)
    }  # words that run together (testimages): the first letters say it
    if len(splits) > 1:
        raise DataError(
            f"the name of {file} has words of the splits {' and '.join(sorted(splits))}",
            allowed="one of train, val and test",
            hint="rename the file",
        )
    return next(iter(splits), None)


def _splits_in(name: str) -> set[str]:
    """Return the splits whose words are in a name: pets_test, petsTest, test-00000-of-00002."""
    words = [word.lower() for word in _WORD.findall(name)]
    stems = {word.removesuffix(ending) for word in words for ending in _ENDINGS}
    return {_SPLIT_WORDS[stem] for stem in stems if stem in _SPLIT_WORDS}
