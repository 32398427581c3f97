"""The pictures: how many of which class in which split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = ["SplitTable", "split_table"]


class SplitTable(NamedTuple):
    """Pictures per class and split."""

    splits: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int | None, ...]], ...]
    totals: tuple[int, ...]


def split_table(splits: Mapping[str, Any]) -> SplitTable | None:
    """Return pictures per class from splits.json.

    Args:
        splits: {split: {class: n}}, {split: [n, ...]} or {split: n}.
    """
    columns: dict[str, dict[str, int]] = {}
    for split, content in splits.items():
        counts = _per_class(content)
        if counts:
            columns[split] = counts
    if not columns:
        return None
    names = list(dict.fromkeys(name for counts in columns.values() for name in counts))
    return SplitTable(
        splits=tuple(columns),
        rows=tuple(
            (name, tuple(counts.get(name) for counts in columns.values())) for name in names
        ),
        totals=tuple(sum(counts.values()) for counts in columns.values()),
    )


def _per_class(content: object) -> dict[str, int]:
    if isinstance(content, Mapping):
        return {str(name): n for name, n in content.items() if isinstance(n, int)}
    if isinstance(content, list):
        return {f"class {k}": n for k, n in enumerate(content) if isinstance(n, int)}
    return {"all": content} if isinstance(content, int) else {}


def _values(run: FitRun, _: Translate) -> dict[str, Any]:
    return {"splits": split_table(run.splits)}


SECTIONS.add("data", Section(_values))
