"""Which columns of a Parquet file hold the pictures and the labels, and what labels mean."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from featherweight.data.parquet_labels import Label
from featherweight.errors import DataError

__all__ = ["IMAGE_COLUMNS", "LABEL_COLUMNS", "ParquetColumns", "find_columns", "label_value"]

logger = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "img", "picture", "pixels", "image_bytes", "bytes")
"""Names of the picture column, in order of preference."""

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target")
"""Names of the label column, in order of preference."""

_SHOWN = 10
_PICTURES_ARE = "encoded pictures (binary, or a struct with binary 'bytes')"
_LABELS_ARE = "whole numbers, texts or booleans, one for each picture"


class ParquetColumns(NamedTuple):
    """The two columns that are read of one file.

    Attributes:
        image: name of the picture column.
        label: name of the label column.
        in_struct: the pictures are the field `bytes` of `image`.
        names: the class names that the file declares for its label numbers; None = none.
    """

    image: str
    label: str
    in_struct: bool
    names: tuple[str, ...] | None


def find_columns(schema: pa.Schema, *, file: Path) -> ParquetColumns:
    """Find the picture and the label column by declared type, then by name.

    Raises:
        DataError: one of them is absent, or holds something else; the message says what.
    """
    features = _features(schema, file=file)
    images = _candidates(schema, features, kind="Image", known=IMAGE_COLUMNS)
    labels = _candidates(schema, features, kind="ClassLabel", known=LABEL_COLUMNS)
    image = _first(
        [(name, _holds_bytes(schema.field(name).type)) for name in images],
        "image",
        schema=schema,
        file=file,
    )
    label = _first(
        [(name, _holds_labels(schema.field(name).type)) for name in labels],
        "label",
        schema=schema,
        file=file,
    )
    names = _class_names(features.get(label, {}).get("names"), file=file)
    return ParquetColumns(image, label, pa.types.is_struct(schema.field(image).type), names)


def label_value(raw: Any, *, where: str) -> Label | None:
    """Return what a cell of the label column says; None when it is empty.

    Whole floats are numbers: pandas makes floats of whole numbers beside an empty cell.

    Args:
        raw: the cell, as pyarrow gives it.
        where: file and row, for the message.

    Raises:
        DataError: a number that is not whole, or bytes that are no text.
    """
    if isinstance(raw, float | Decimal):
        if raw != raw:  # NaN  # noqa: PLR0124
            return None
        if raw in (float("inf"), float("-inf")) or raw != int(raw):
            raise DataError(
                f"row {where} has label {raw}",
                allowed=_LABELS_ARE,
                hint="classes are wanted, not measured values",
            )
        return int(raw)
    if isinstance(raw, bytes):
        try:
            raw = raw.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"row {where} has label {raw[:20]!r}", allowed=_LABELS_ARE) from error
    if isinstance(raw, str):
        # Two ways to write one name (an accent as a letter of its own, or not) are one class.
        return unicodedata.normalize("NFC", raw) if raw.strip() else None
    return raw if raw is None or isinstance(raw, bool) else int(raw)


def _first(
    candidates: Sequence[tuple[str, bool]], column: str, *, schema: pa.Schema, file: Path
) -> str:
    """Return the first candidate that can be read.

    Raises:
        DataError: there is none; told apart are no such column and one that holds something else.
    """
    for name, readable in candidates:
        if readable:
            return name
    known = IMAGE_COLUMNS if column == "image" else LABEL_COLUMNS
    content = _PICTURES_ARE if column == "image" else _LABELS_ARE
    if candidates:
        name = candidates[0][0]
        raise DataError(
            f"the {column} column {name!r} of {file} holds {_shown_type(schema.field(name).type)}",
            allowed=content,
            hint="convert the column",
        )
    for name in schema.names:
        if name.lower() in known:  # not among the candidates: its name is there twice
            raise DataError(f"{file} has two columns named {name!r}", hint="rename one of them")
    more = f", {len(schema.names) - _SHOWN} more" if len(schema.names) > _SHOWN else ""
    raise DataError(
        f"{file} has no {column} column (it has {', '.join(schema.names[:_SHOWN])}{more})",
        allowed=f"a column of {content} named {', '.join(known)}",
        hint="rename the column",
    )


def _shown_type(kind: pa.DataType) -> str:
    text = " ".join(str(kind).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def _candidates(
    schema: pa.Schema, features: dict[str, Any], *, kind: str, known: Sequence[str]
) -> list[str]:
    """Return column names that may be meant: known names first, then those of declared `kind`."""
    single = [name for name in schema.names if len(schema.get_all_field_indices(name)) == 1]
    # Spelled as in `known` wins over other capitals.
    lower = {name.lower(): name for name in sorted(single)}
    declared = [name for name in single if features.get(name, {}).get("_type") == kind]
    by_name = [lower[name] for name in known if name in lower]
    return [n for n in by_name if n in declared] + declared + by_name


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    # By its name: older versions of pyarrow lack a function for views.
    return str(kind).partition("[")[0] in {
        "binary",
        "large_binary",
        "binary_view",
        "fixed_size_binary",
    }


def _holds_labels(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return True
    return str(kind) in {"bool", "null", "string", "large_string", "string_view"} or _is_binary(
        kind
    )


def _features(schema: pa.Schema, *, file: Path) -> dict[str, Any]:
    """Return Hugging Face's description of the columns, empty when the file has none."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        logger.warning("%s: its huggingface metadata cannot be read; names are not known", file)
        return {}


def _class_names(names: Any, *, file: Path) -> tuple[str, ...] | None:
    """Return declared class names: a list, or a mapping of the numbers 0, 1, ... to them."""
    if isinstance(names, dict) and set(names) == {str(number) for number in range(len(names))}:
        names = [names[str(number)] for number in range(len(names))]
    if not names:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        logger.warning("%s: its class names cannot be read; the labels stay numbers", file)
        return None
    return tuple(unicodedata.normalize("NFC", str(name)) for name in names)
