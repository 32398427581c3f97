"""Rows of benchmarks of samplers: kept on the way, and never those of another version of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import featherweight.searching

__all__ = ["read_rows", "version_of_samplers", "write_rows"]


def version_of_samplers() -> str:
    """Return a digest of all that proposes networks."""
    folder = Path(featherweight.searching.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a result file that today's samplers gave."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in rows if row.get("samplers") == version_of_samplers()]


def write_rows(path: Path, told: dict[str, Any]) -> None:
    """Write a result file whole, its rows marked with the version of the samplers."""
    rows = [{**row, "samplers": version_of_samplers()} for row in told["rows"]]
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps({**told, "rows": rows}, indent=1) + "\n")
    aside.replace(path)
