"""What every record of a file promises, whichever package has it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import featherweight
from featherweight.errors import RecordError
from featherweight.records import Record, parse_record

PACKAGE = Path(featherweight.__file__).parent


def every_record() -> list[type[Record]]:
    """Import every module that has records, and return them."""
    for path in PACKAGE.rglob("*.py"):
        if "(Record)" in path.read_text(encoding="utf-8"):
            inner = path.relative_to(PACKAGE).with_suffix("")
            importlib.import_module(".".join(("featherweight", *inner.parts)))

    def below(kind: type[Record]) -> Iterator[type[Record]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    found = {f"{one.__module__}.{one.__qualname__}": one for one in below(Record)}
    return [found[name] for name in sorted(found) if name.startswith("featherweight.")]


RECORDS = every_record()


def test_there_are_records() -> None:
    names = {one.__name__ for one in RECORDS}
    assert len(RECORDS) > 30
    assert {"Architecture", "Measurement", "FitSummary", "NetworkRecord", "Recipe"} <= names


@pytest.mark.parametrize("kind", RECORDS, ids=lambda one: f"{one.__module__}.{one.__name__}")
def test_it_is_frozen_and_a_key_that_it_does_not_know_is_one_line(kind: type[Record]) -> None:
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    with pytest.raises(RecordError) as caught:
        parse_record(kind, {"no_such_key": 1}, source="file.json")
    assert str(caught.value).startswith("file.json: key ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda one: f"{one.__module__}.{one.__name__}")
@pytest.mark.parametrize("plain", [[], "text", 3, None, {"schema_version": 999}])
def test_something_else_is_refused(kind: type[Record], plain: object) -> None:
    with pytest.raises(RecordError, match=r"file\.json"):
        parse_record(kind, plain, source="file.json")
