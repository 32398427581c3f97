"""The frozen record every file of a run is made of, and how it is read and written."""

from __future__ import annotations

import json
import os
import re
import reprlib
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from featherweight.errors import FailedError, RecordError
from featherweight.regular_files import make_folder, open_regular

__all__ = [
    "SCHEMA_VERSION",
    "Record",
    "parse_json",
    "parse_record",
    "read_bounded",
    "read_json",
    "read_yaml",
    "to_plain",
    "write_bytes",
    "write_json",
]

SCHEMA_VERSION = 1
"""Written into every JSON file; a reader refuses a newer one."""


_JSON_BYTES = 64 * 1024**2
"""As much as 5 million rows of splits.json; Python needs about twenty times as much memory."""
_YAML_BYTES = 1024**2
_PIECE_BYTES = 1024**2
_DEPTH = 100
"""Of mappings and lists in each other: ten times what a record has, a tenth of what Python can."""

# libyaml reads the same and is twenty times as fast; wheels of PyYAML bring it.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""A byte of a path that is not UTF-8, as yaml writes it; libyaml refuses it."""

# What PyYAML raises for a scalar that is not of the type its tag names: `!!bool x`, `!!int ''`.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


class Record(BaseModel):
    """A frozen, hashable value with named fields; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


R = TypeVar("R", bound=Record)


def parse_record(record_type: type[R], plain: object, *, source: str) -> R:
    """Build a record from plain data.

    Args:
        record_type: the record to build.
        plain: what JSON or YAML gave.
        source: file name or flag, for the message.

    Raises:
        RecordError: names `source` and the path of the first key that is wrong.
    """
    if isinstance(plain, dict) and "schema_version" in plain:
        version = plain["schema_version"]
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise RecordError(
                f"{source} has schema_version {_short.repr(version)}",
                allowed=f"up to {SCHEMA_VERSION}",
                hint="it was written by a newer featherweight: update this one",
            )
        plain = {key: value for key, value in plain.items() if key != "schema_version"}
    try:
        return record_type.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "top level"
        given = first.get("input")
        shown = "" if isinstance(given, dict) else f" (got {_short.repr(given)})"
        raise RecordError(f"{source}: key {_short.repr(path)}: {first['msg']}{shown}") from error


def to_plain(record: Record) -> dict[str, Any]:
    """Return the record as JSON-able data; `parse_record` of it equals the record."""
    return record.model_dump(mode="json")


def read_json(path: Path) -> Any:
    """Return the JSON content of a file.

    Raises:
        RecordError: the file is absent, too large, no regular file, or is not JSON.
    """
    try:
        return parse_json(read_bounded(path, limit_bytes=_JSON_BYTES).decode())
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error


def parse_json(text: str | bytes, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Return what JSON text says, whoever wrote it.

    Args:
        text: the JSON.
        parse_constant: what NaN and the infinities become; as they are without it.

    Raises:
        ValueError: it is not JSON, or lists and mappings are nested too deeply to work with.
    """
    try:
        plain = json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise _too_deep() from None
    _check_depth(plain)
    return plain


def read_yaml(path: Path) -> Any:
    """Return the YAML content of a file (safe subset: nothing in it is executed).

    Raises:
        RecordError: the file is absent, too large, no regular file, or is not YAML; or it is
            small and means something huge.
    """
    try:
        text = read_bounded(path, limit_bytes=_YAML_BYTES).decode()
        loader = yaml.SafeLoader if _SURROGATE.search(text) else _YamlLoader
        _check_yaml(text, loader)
        return yaml.load(text, Loader=loader)
    except (OSError, *_YAML_ERRORS) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(f"cannot read {path}: {reason}") from error


def read_bounded(path: Path, *, limit_bytes: int) -> bytes:
    """Return the content of a file that somebody named: a pipe or a device may never end.

    Raises:
        OSError: the file is absent or cannot be read.
        ValueError: it is no regular file, or larger than `limit_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        if found.st_size <= limit_bytes:
            # No more at once than is announced: `read` makes room for all that it is asked for.
            content = stream.read(found.st_size + 1)
            while len(content) <= limit_bytes:
                more = stream.read(_PIECE_BYTES)  # of a file that grows, or of the kernel's
                if not more:
                    return content
                content += more
    raise ValueError(f"it is larger than {limit_bytes // 1024**2} MB")


def _too_deep() -> ValueError:
    return ValueError(f"lists and mappings are nested more than {_DEPTH} deep")


def _check_depth(plain: object) -> None:
    """Raise for values that functions which call themselves cannot walk."""
    level = [plain]
    for _ in range(_DEPTH + 1):
        containers = [value for value in level if isinstance(value, (dict, list))]
        if not containers:
            return
        level = [
            value
            for container in containers
            for value in (container.values() if isinstance(container, dict) else container)
        ]
    raise _too_deep()


def _check_yaml(text: str, loader: Any) -> None:
    """Raise for text whose aliases stand for more than `_YAML_BYTES`, or for themselves.

    Nothing is built: the parser's events are counted, an alias as what its anchor had.
    """
    whole = 0
    open_anchors: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_anchors}:
                raise ValueError(f"alias {_short.repr(event.anchor)} is part of itself")
            whole += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append((event.anchor, whole))
            whole += 1
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1 + len(event.value)
            whole += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_anchors.pop()
            sizes[anchor] = whole - before
        if len(open_anchors) > _DEPTH:
            raise _too_deep()
        if whole > 2 * _YAML_BYTES:
            raise ValueError("its aliases stand for more than 2 MB")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename.

    A link at `path` is replaced, not followed; the file gets what the umask leaves of 0666.

    Raises:
        FailedError: the file cannot be written (disk full, no permission).
    """
    temporary: str | None = None
    try:
        make_folder(path.parent)
        # Not mkstemp: its 0600 would have to be widened, and the umask is the user's word.
        temporary = str(path.with_name(f".{path.name}.{secrets.token_hex(8)}"))
        descriptor = open_regular(Path(temporary), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise FailedError(
            f"cannot write {path}: {error.strerror}", hint="free space or choose another --output"
        ) from error


def write_json(path: Path, value: Record | dict[str, Any]) -> None:
    """Write a record or plain mapping as JSON with its schema version."""
    plain = to_plain(value) if isinstance(value, Record) else value
    text = json.dumps({"schema_version": SCHEMA_VERSION, **plain}, indent=2, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")
