from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from featherweight import journal as journal_module
from featherweight.errors import FailedError, RecordError
from featherweight.journal import Journal, encode_plain, plain_digest


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "a.jsonl")
    assert journal.read() == []
    lines = [{"a": 1, "b": [1.5, None, True]}, {"text": "two\nlines \u00e9"}, {}]
    for line in lines:
        journal.append(line)
    assert journal.read() == lines
    assert len((tmp_path / "deep" / "a.jsonl").read_bytes().splitlines()) == 3


def test_cut_at_every_byte_of_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    first, last, after = {"step": 1}, {"step": 2, "text": "x\u00e9"}, {"step": 3}
    journal.append(first)
    whole_first = path.stat().st_size
    journal.append(last)
    content = path.read_bytes()
    for size in range(whole_first, len(content)):
        path.write_bytes(content[:size])
        assert journal.read() == [first], f"cut at {size}"
        assert path.stat().st_size == size, "reading changes nothing"
        journal.append(after)
        assert journal.read() == [first, after], f"cut at {size}"
    path.write_bytes(content)
    journal.append(after)
    assert journal.read() == [first, last, after]


def test_a_torn_only_line_longer_than_one_block(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for before in (b"", b'{"a": 1}\n'):
        path.write_bytes(before + b"\0" * 200_000)
        Journal(path).append({"b": 2})
        assert path.read_bytes() == before + b'{"b": 2}\n'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, number: float) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    with pytest.raises(FailedError, match=r"train\.losses\[1\]") as caught:
        journal.append({"train": {"losses": [0.5, number]}})
    assert caught.value.exit_code == 1
    assert journal.read() == []


def test_what_is_not_plain_is_named() -> None:
    with pytest.raises(TypeError, match=r"'a\.b' is a \w*Path"):
        encode_plain({"a": {"b": Path("x")}}, source="f")
    with pytest.raises(TypeError, match="not text"):
        encode_plain({"a": {1: 2}}, source="f")


def test_digest_ignores_the_order_of_keys() -> None:
    assert plain_digest({"a": 1, "b": {"c": 2, "d": 3}}) == plain_digest(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert plain_digest({"a": 1}) != plain_digest({"a": 2})


def test_a_damaged_line_is_an_error_naming_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(RecordError, match="line 2"):
        Journal(path).read()
    path.write_bytes(b"[1]\n")
    with pytest.raises(RecordError, match="line 1 is not a JSON object"):
        Journal(path).read()
    path.write_bytes(b"[" * 20_000 + b"]" * 20_000 + b"\n")
    with pytest.raises(RecordError, match=r"line 1 is not JSON: .* more than 100 deep"):
        Journal(path).read()


def test_a_full_disk_leaves_the_lines_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    journal.append({"a": 1})
    write = os.write
    calls = []

    def nearly_full(descriptor: int, content: bytes) -> int:
        calls.append(len(content))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:4])

    monkeypatch.setattr(journal_module.os, "write", nearly_full)
    with pytest.raises(FailedError, match="No space left"):
        journal.append({"a": 2, "text": "long enough"})
    assert len(calls) == 2
    monkeypatch.undo()
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_path_that_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedError, match="cannot append"):
        Journal(tmp_path / "file" / "a.jsonl").append({})
    with pytest.raises(FailedError, match="cannot read"):
        Journal(tmp_path).read()


def _append_many(path: Path, writer: int) -> None:
    for step in range(25):
        Journal(path).append({"writer": writer, "step": step, "filler": "x" * 5000})


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    context = multiprocessing.get_context("forkserver")
    writers = [context.Process(target=_append_many, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number in range(3):
        assert [line["step"] for line in lines if line["writer"] == number] == list(range(25))
