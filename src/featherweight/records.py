"""The frozen record every file of a run is made of, and how it is read and written."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from featherweight.errors import FailedError, RecordError
from featherweight.regular_files import make_folder, open_regular

__all__ = [
    "SCHEMA_VERSION",
    "Record",
    "parse_record",
    "read_json",
    "read_yaml",
    "to_plain",
    "write_bytes",
    "write_json",
]

SCHEMA_VERSION = 1
"""Written into every JSON file; a reader refuses a newer one."""


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
                f"{source} has schema_version {version!r}",
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
        shown = "" if isinstance(given, dict) else f" (got {given!r})"
        raise RecordError(f"{source}: key {path!r}: {first['msg']}{shown}") from error


def to_plain(record: Record) -> dict[str, Any]:
    """Return the record as JSON-able data; `parse_record` of it equals the record."""
    return record.model_dump(mode="json")


def read_json(path: Path) -> Any:
    """Return the JSON content of a file.

    Raises:
        RecordError: the file is absent or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error


def read_yaml(path: Path) -> Any:
    """Return the YAML content of a file (safe subset: nothing in it is executed).

    Raises:
        RecordError: the file is absent or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecordError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


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
