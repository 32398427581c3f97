"""Parquet with encoded pictures and labels, as Hugging Face data sets store them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featherweight.data.dataset import Candidate, Found, Problem
from featherweight.data.folders import SPLIT_FOLDERS, visible
from featherweight.errors import DataError

__all__ = ["IMAGE_COLUMNS", "LABEL_COLUMNS", "find_parquet_pictures", "parquet_files"]

logger = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "img", "picture", "pixels", "image_bytes", "bytes")
"""Names of the picture column, in order of preference."""

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target")
"""Names of the label column, in order of preference."""


class _Columns(NamedTuple):
    image: str
    label: str
    names: tuple[str, ...] | None


def parquet_files(root: Path) -> dict[Path, str]:
    """Return the Parquet files of a folder with their splits; empty when it holds none.

    Looked for in the folder, then in its data/ folder, then in folders named like splits
    (the three layouts Hugging Face writes). A name that starts with train, val(id) or test says
    the split; files without such a name are "all" only if no file has one.
    """
    folders, files = visible(root)
    found = {file: _split_of(file.name) for file in files if file.suffix.lower() == ".parquet"}
    for folder in () if found else [f for f in folders if f.name.lower() == "data"]:
        inner = visible(folder)[1]
        found = {file: _split_of(file.name) for file in inner if file.suffix.lower() == ".parquet"}
    for folder in () if found else [f for f in folders if f.name.lower() in SPLIT_FOLDERS]:
        split = SPLIT_FOLDERS[folder.name.lower()]
        inner = visible(folder)[1]
        found |= dict.fromkeys((file for file in inner if file.suffix.lower() == ".parquet"), split)
    return found


def find_parquet_pictures(root: Path, *, files: dict[Path, str]) -> Found:
    """Read the pictures' bytes and labels of Parquet files; no picture is decoded.

    The encoded bytes stay in memory (CIFAR-10: 17 MB).

    Args:
        root: the file or folder the user named.
        files: the files and their splits, from `parquet_files`.

    Raises:
        DataError: unreadable file, no image or label column, labels without a meaning.
    """
    problems: list[Problem] = []
    named = set(files.values()) - {"all"}
    candidates: list[Candidate] = []
    declared: tuple[str, ...] | None = None
    for file, split in files.items():
        if named and split == "all":
            detail = "the file name names no split while others do: not used"
            problems.append(Problem(kind="ignored", path=file.name, detail=detail))
            continue
        rows, names = _read_file(file, split=split, problems=problems)
        if declared is not None and names is not None and names != declared:
            raise DataError(f"{file} declares other class names than the files before it")
        declared = declared or names
        candidates += rows
    if not candidates:
        raise DataError(f"no pictures in {root}", hint="its Parquet files have no usable rows")
    classes = declared or tuple(_ordered({candidate.label for candidate in candidates}))
    return Found(root.resolve().stem, classes, candidates, problems)


def _split_of(name: str) -> str:
    lower = name.lower()
    for prefix, split in (("train", "train"), ("val", "val"), ("test", "test")):
        if lower.startswith(prefix):
            return split
    return "all"


def _ordered(labels: set[str]) -> list[str]:
    """Sort class names; plain numbers by value."""
    if all(label.lstrip("-").isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


def _read_file(
    file: Path, *, split: str, problems: list[Problem]
) -> tuple[list[Candidate], tuple[str, ...] | None]:
    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            columns = _columns(schema, file=file)
            table = parquet.read(columns=[columns.image, columns.label])
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"cannot read {file} as Parquet: {reason}", hint="write or download the file again"
        ) from error
    images = table.column(columns.image)
    if pa.types.is_struct(images.type):
        images = pc.struct_field(images, "bytes")
    contents: list[bytes | None] = images.to_pylist()
    labels: list[Any] = table.column(columns.label).to_pylist()
    rows: list[Candidate] = []
    for index, (content, label) in enumerate(zip(contents, labels, strict=True)):
        name = f"{file.name}:{index}"
        if content is None or label is None:
            detail = "the row has no picture bytes" if content is None else "the row has no label"
            problems.append(Problem(kind="broken", path=name, detail=detail))
            continue
        rows.append(Candidate(content, name, _label_text(label, columns, where=name), split))
    return rows, columns.names


def _label_text(label: Any, columns: _Columns, *, where: str) -> str:
    """Return the class name of one row.

    Raises:
        DataError: a number outside the declared class names (-1 marks unlabelled rows).
    """
    if columns.names is None or isinstance(label, str):
        return str(label)
    if not 0 <= label < len(columns.names):
        hint = "unlabelled rows cannot be tested on: leave the file out" if label < 0 else None
        raise DataError(
            f"row {where} has label {label}",
            allowed=f"0 to {len(columns.names) - 1} ({', '.join(columns.names[:5])}, ...)",
            hint=hint,
        )
    return columns.names[int(label)]


def _columns(schema: pa.Schema, *, file: Path) -> _Columns:
    """Find the picture and the label column by declared type, then by name."""
    features = _features(schema, file=file)
    images = _candidates(schema, features, kind="Image", known=IMAGE_COLUMNS)
    images = [name for name in images if _holds_bytes(schema.field(name).type)]
    labels = _candidates(schema, features, kind="ClassLabel", known=LABEL_COLUMNS)
    labels = [name for name in labels if _holds_labels(schema.field(name).type)]
    for column, found, known in (
        ("image", images, IMAGE_COLUMNS),
        ("label", labels, LABEL_COLUMNS),
    ):
        if not found:
            content = "encoded pictures" if column == "image" else "integers or texts"
            raise DataError(
                f"{file} has no {column} column (it has {', '.join(schema.names)})",
                allowed=f"a column of {content} named {', '.join(known)}",
                hint="rename the column",
            )
    names = features.get(labels[0], {}).get("names")
    return _Columns(images[0], labels[0], tuple(map(str, names)) if names else None)


def _candidates(
    schema: pa.Schema, features: dict[str, Any], *, kind: str, known: Sequence[str]
) -> list[str]:
    """Return column names that may be meant: known names first, then those of declared `kind`."""
    lower = {name.lower(): name for name in schema.names}
    declared = [n for n in schema.names if features.get(n, {}).get("_type") == kind]
    by_name = [lower[name] for name in known if name in lower]
    return [n for n in by_name if n in declared] + declared + by_name


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_labels(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )


def _features(schema: pa.Schema, *, file: Path) -> dict[str, Any]:
    """Return Hugging Face's description of the columns, empty when the file has none."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.warning("%s: its huggingface metadata cannot be read; names are not known", file)
        return {}
