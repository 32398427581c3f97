from __future__ import annotations

import errno
import json
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from featherweight import records
from featherweight.errors import FailedError, RecordError
from featherweight.records import (
    SCHEMA_VERSION,
    Record,
    parse_json,
    parse_record,
    read_json,
    read_yaml,
    to_plain,
    write_bytes,
    write_json,
)


class Inner(Record):
    name: str
    share: float = 0.5


class Outer(Record):
    items: tuple[Inner, ...] = ()
    count: int


PLAIN = {"items": [{"name": "a", "share": 0.25}, {"name": "b", "share": 0.5}], "count": 2}


def test_plain_data_and_records_are_one_thing() -> None:
    record = parse_record(Outer, PLAIN, source="f")
    assert record == Outer(items=(Inner(name="a", share=0.25), Inner(name="b")), count=2)
    assert to_plain(record) == PLAIN
    assert parse_record(Outer, to_plain(record), source="f") == record


def test_reading_takes_the_memory_of_the_file_and_not_of_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert records.read_bounded(file, limit_bytes=1 << 40) == b"abc"
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * 1024**2
    with pytest.raises(ValueError, match="larger than"):
        records.read_bounded(file, limit_bytes=2)
    kernel = Path("/proc/self/status")  # announces 0 bytes
    if kernel.exists():
        assert b"VmPeak" in records.read_bounded(kernel, limit_bytes=1 << 20)


def test_records_are_frozen_and_hashable() -> None:
    record = Inner(name="a")
    with pytest.raises(ValueError, match="frozen"):
        record.name = "b"  # type: ignore[misc]
    assert len({record, Inner(name="a"), Inner(name="b")}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": [{"name": "a"}, {"name": 3}]}, r"f: key 'items\.1\.name'.*\(got 3\)"),
        ({"items": [{"name": "a", "shre": 1}]}, r"key 'items\.0\.shre'"),
        ({"items": [{}]}, r"key 'items\.0\.name'.*required"),
        ({"items": [{"name": "a", "share": float("nan")}]}, r"key 'items\.0\.share'.*finite"),
        ({"count": "two"}, "key 'count'"),
        ({"size": 1}, "key 'size'"),
    ],
)
def test_errors_name_the_key_path(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        parse_record(Outer, {**PLAIN, **change}, source="f")
    assert caught.value.exit_code == 2


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(RecordError, match="f: key 'top level'"):
        parse_record(Outer, [1], source="f")


def test_schema_version(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write_json(file, parse_record(Outer, PLAIN, source="f"))
    plain = json.loads(file.read_text())
    assert plain["schema_version"] == SCHEMA_VERSION
    assert to_plain(parse_record(Outer, read_json(file), source=str(file))) == PLAIN
    for version in (SCHEMA_VERSION + 1, "1", None):
        with pytest.raises(RecordError, match="schema_version"):
            parse_record(Outer, {**plain, "schema_version": version}, source="f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    for name in ("a.json", "b.json", "absent.json"):
        with pytest.raises(RecordError, match=name):
            read_json(tmp_path / name)
    for name in ("a.yaml", "absent.yaml"):
        with pytest.raises(RecordError, match=name):
            read_yaml(tmp_path / name)


def test_nothing_in_a_yaml_file_is_executed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(RecordError, match="could not determine a constructor"):
        read_yaml(tmp_path / "a.yaml")


def test_a_file_is_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "r.json"
    write_bytes(file, b"before")
    assert file.stat().st_mode & 0o777 == 0o644

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(FailedError, match=r"r\.json: No space left"):
        write_bytes(file, b"after")
    monkeypatch.undo()
    assert file.read_bytes() == b"before"
    assert [path.name for path in file.parent.iterdir()] == ["r.json"]
    write_bytes(file, b"after")
    assert file.read_bytes() == b"after"


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "r.json", {"loss": float("nan")})
    assert not (tmp_path / "r.json").exists()


BOMBS = {
    "aliases.yaml": "a: &a [x, x]\n"
    + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghijklmnopqrstuvwxyz")
    ),
    "merges.yaml": "a: &a {x: 1}\n"
    + "".join(
        f"{new}: &{new} {{<<: [*{old}, *{old}]}}\n"
        for old, new in pairwise("abcdefghijklmnopqrstuvwxyz")
    ),
    "itself.yaml": "&a [*a]",
    "deep.yaml": "[" * 5000 + "]" * 5000,
    "blocks.yaml": "- " * 5000 + "x",
    "deep.json": "[" * 5000 + "]" * 5000,
    "deeper.json": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "walkable.json": "[" * 400 + "]" * 400,
    "tag.yaml": "!!bool x",
    "empty.yaml": "!!int ''",
    "time.yaml": "!!timestamp foo",
    "large.yaml": "#" * 1_100_000,
    "digits.json": "1" * 5000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_mean_something_huge_are_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(BOMBS[name])
    with pytest.raises(RecordError, match=name) as caught:
        (read_json if name.endswith("json") else read_yaml)(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_aliases_of_ordinary_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n")
    expected = {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}
    assert read_yaml(tmp_path / "a.yaml") == expected
    (tmp_path / "deep.json").write_text("[" * 100 + "]" * 100)
    assert len(read_json(tmp_path / "deep.json")) == 1


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        for read in (read_json, read_yaml):
            with pytest.raises(RecordError, match="not a regular file"):
                read(tmp_path / name)


def test_a_long_value_is_shown_short() -> None:
    for given in ([[0] * 1000] * 1000, "x" * 10**6, {"y" * 10**5: 1}):
        with pytest.raises(RecordError) as caught:
            parse_record(Outer, {**PLAIN, "count": given, "z" * 10**5: 1}, source="f")
        assert len(str(caught.value)) < 400


def test_json_lines_nested_too_deep_are_no_json() -> None:
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        parse_json(b"[" * 20_000 + b"]" * 20_000)
    assert parse_json("[1]") == [1]


def test_a_path_that_is_not_utf8_is_read_as_it_was_written(tmp_path):
    """run.yaml of a fit in such a folder: without this the run could not go on."""
    text = yaml.safe_dump({"data": os.fsdecode(b"caf\xe9")}, allow_unicode=True)
    (tmp_path / "run.yaml").write_text(text)
    assert os.fsencode(read_yaml(tmp_path / "run.yaml")["data"]) == b"caf\xe9"
