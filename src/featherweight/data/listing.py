"""What lies in a folder: folders, regular files, and what is neither; nothing is opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from featherweight.errors import DataError

__all__ = ["Listing", "kind_of_file", "list_folder", "suffix_counts", "visible"]

_CLUTTER = frozenset({"__MACOSX", "@eaDir"})
"""Folders of thumbnails and attributes that macOS and network drives put beside pictures."""


class Listing(NamedTuple):
    """The visible entries of a folder, each kind sorted by name.

    Attributes:
        folders: and links to folders.
        files: regular files and links to them.
        odd: what is neither, with what it is; opening it may block for ever.
    """

    folders: list[Path]
    files: list[Path]
    odd: list[tuple[Path, str]]


def list_folder(folder: Path) -> Listing:
    """List a folder without opening anything in it.

    Raises:
        DataError: the folder cannot be read.
    """
    found = Listing([], [], [])
    try:
        with os.scandir(folder) as entries:
            named = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"cannot read the folder {folder}: {error.strerror}", hint="check its permissions"
        ) from error
    for entry in named:
        path = folder / entry.name
        if entry.name.startswith(".") or entry.name in _CLUTTER:
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a circle of links, or no right to look: its kind says which
            is_folder = is_file = False
        if is_folder:
            found.folders.append(path)
        elif is_file:
            found.files.append(path)
        else:
            found.odd.append((path, kind_of_file(path)))
    return found


def visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the (folders, regular files) in `folder` that are not hidden, sorted by name.

    Raises:
        DataError: the folder cannot be read.
    """
    found = list_folder(folder)
    return found.folders, found.files


def kind_of_file(path: Path) -> str:
    """Say what a path is that is neither a folder nor a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a broken link" if path.is_symlink() else "gone"
    except OSError as error:
        return f"not readable ({error.strerror})"
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def suffix_counts(files: Iterable[Path]) -> Counter[str]:
    """Count files by the ending of their name, in lower case."""
    return Counter(file.suffix.lower() or "without an ending" for file in files)
