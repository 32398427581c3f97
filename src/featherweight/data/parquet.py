"""Parquet with encoded pictures and labels, as Hugging Face data sets store them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from featherweight.data.dataset import Candidate, Found, Problem
from featherweight.data.parquet_columns import ParquetColumns, label_value
from featherweight.data.parquet_labels import (
    Label,
    class_of,
    declared_names,
    ordered_classes,
    told_apart,
)
from featherweight.data.parquet_rows import read_columns, read_rows
from featherweight.data.parquet_splits import is_parquet, parquet_files
from featherweight.errors import DataError

__all__ = ["find_parquet_pictures", "parquet_files"]

logger = logging.getLogger(__name__)

_LARGEST_PICTURE = 256 * 2**20


class _Shard(NamedTuple):
    file: Path
    name: str  # below the data's root
    split: str
    columns: ParquetColumns


class _Row(NamedTuple):
    content: bytes
    name: str
    label: Label
    split: str


def find_parquet_pictures(root: Path, *, files: dict[Path, str]) -> Found:
    """Read the pictures' bytes and labels of Parquet files; no picture is decoded.

    The encoded bytes stay in memory (CIFAR-10: 17 MB), up to half of the machine's.

    Args:
        root: the file or folder the user named.
        files: the files and their splits, from `parquet_files`.

    Raises:
        DataError: unreadable file, no image or label column, labels without a meaning, more
            pictures than memory.
        FailedError: memory does not suffice to read a file.
    """
    problems = _unused(root, files)
    shards: list[_Shard] = []
    for file, split in _of_splits(root, files, problems=problems).items():
        name = _below(root, file)
        shards.append(_Shard(file, name, split, read_columns(file)))
    names = declared_names({shard.file: shard.columns.names for shard in shards})
    rows = _read(shards, root=root, problems=problems)
    if not rows:
        raise DataError(f"no pictures in {root}", hint="its Parquet files have no usable rows")
    if names is None:
        classes = ordered_classes((row.name, row.label) for row in rows)
        labels = [str(row.label) for row in rows]
    else:
        classes = told_apart(names, path=root.name, problems=problems)
        labels = [class_of(row.label, names=names, classes=classes, where=row.name) for row in rows]
    candidates = [
        Candidate(row.content, row.name, label, row.split)
        for row, label in zip(rows, labels, strict=True)
    ]
    _say(problems)
    return Found(root.resolve().stem, classes, candidates, problems)


def _say(problems: Sequence[Problem]) -> None:
    """Warn of what is not used; all of it is in the problems."""
    rows = [problem for problem in problems if problem.kind == "broken"]
    if rows:
        count, first = len(rows), rows[0]
        logger.warning("%d rows are skipped, first %s: %s", count, first.path, first.detail)
    for problem in problems:
        if problem.kind == "ignored":
            logger.warning("%s: %s", problem.path, problem.detail)


def _of_splits(
    root: Path, files: Mapping[Path, str], *, problems: list[Problem]
) -> dict[Path, str]:
    """Return the files that are used: all, or where names say splits those that say one.

    Raises:
        DataError: no name says train.
    """
    named = set(files.values()) - {"all"}
    if not named:
        return dict(files)
    nameless = [file for file, split in files.items() if split == "all"]
    if nameless and "train" not in named:
        raise DataError(
            f"{root} has files of {' and '.join(sorted(named))} but none of train",
            hint=f"is it {nameless[0].name}? Then name it train.parquet",
        )
    for file in nameless:
        detail = "the file name names no split while others do: not used"
        problems.append(Problem(kind="ignored", path=_below(root, file), detail=detail))
    return {file: split for file, split in files.items() if split != "all"}


def _unused(root: Path, files: Mapping[Path, str]) -> list[Problem]:
    """Return a problem for each folder with Parquet files that are not read."""
    if not root.is_dir():
        return []
    others = Counter(
        _below(root, path.parent)
        for path in sorted(root.rglob("*"))
        if is_parquet(path) and path not in files
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    detail = "Parquet files beside those that are read: not used ({})"
    return [
        Problem(kind="ignored", path=path, detail=detail.format(count))
        for path, count in others.items()
    ]


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if root.is_dir() else path.name


def _read(shards: Sequence[_Shard], *, root: Path, problems: list[Problem]) -> list[_Row]:
    """Read the rows that have a picture and a label; the others become problems."""
    limit = _memory_bytes() // 2
    rows: list[_Row] = []
    held = 0
    for shard in shards:
        for index, (content, raw) in enumerate(read_rows(shard.file, shard.columns)):
            name = f"{shard.name}:{index}"
            label = label_value(raw, where=name)
            if content is None or label is None:
                lacks = "picture bytes" if content is None else "label"
                detail = f"the row has no {lacks}"
                problems.append(Problem(kind="broken", path=name, detail=detail))
                continue
            if len(content) > _LARGEST_PICTURE:
                detail = f"the picture has {len(content) / 1e6:,.0f} MB; 268 MB at most are read"
                problems.append(Problem(kind="broken", path=name, detail=detail))
                continue
            held += len(content)
            if held > limit:
                raise DataError(
                    f"the pictures of {root} take more than {limit / 1e9:.1f} GB of memory, half "
                    "of this machine's",
                    hint="unpack them into a folder of class folders: those are read one by one",
                )
            rows.append(_Row(content, name, label, shard.split))
    return rows


def _memory_bytes() -> int:
    """Return the memory of this machine, or of the container where that has less."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:  # no container, or another system
        return whole
    return min(whole, int(limit)) if limit.isdecimal() else whole
