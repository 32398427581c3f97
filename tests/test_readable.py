"""Names from outside as text that can be stored, and shown without doing anything."""

import json
import os

import pytest

from featherweight.errors import DataError
from featherweight.readable import plain_text, readable, without_password


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b]0;owned\x07cat", r"\x1b]0;owned\x07cat"),
        ("\x1b[2J\x1b[31mcat", r"\x1b[2J\x1b[31mcat"),
        ("\x9b2Jcat", r"\x9b2Jcat"),
        ("cat\nerror: nothing is lost\r\ttab", r"cat\nerror: nothing is lost\r\ttab"),
        ("cat\u202egpj.exe", r"cat\u202egpj.exe"),
        ("a\u2028b\u2029c\u2066d", r"a\u2028b\u2029c\u2066d"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_names_do_nothing_to_a_terminal(name: str, shown: str) -> None:
    assert readable(f"class {name!s}") == f"class {shown}"
    assert readable(shown) == shown
    assert shown.encode()


@pytest.mark.parametrize(
    "name",
    ["", "cat", "Zoë's 猫 🐈", "全角\u3000空白", "\u0645\u06cc\u200c\u062e\u0648\u0627", "a\xa0b"],
)
def test_names_of_all_languages_stay(name: str) -> None:
    assert readable(name) == name
    assert plain_text(name) == name


def test_bytes_that_are_no_text_can_be_stored() -> None:
    name, other = os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe8")
    assert plain_text(name) == r"caf\xe9"
    assert plain_text(name) != plain_text(other)
    assert json.loads(json.dumps(plain_text(name), ensure_ascii=False).encode()) == r"caf\xe9"
    assert plain_text("\x1b\n") == "\x1b\n", "what JSON can hold is stored as it is"
    assert plain_text("\ud800") == r"\ud800"


def test_an_error_is_one_line_that_does_nothing_to_a_terminal() -> None:
    error = DataError("no picture \x1b[2J\nin x", allowed="a  b\tc", hint="look\n  at it")
    assert str(error) == r"no picture \x1b[2J in x; allowed: a  b\tc; look at it"
    assert error.message == "no picture \x1b[2J\nin x", "programs get the name as it is"


def test_passwords_are_not_shown() -> None:
    told = without_password("search --storage postgresql://me:se:c@ret@host:5432/db --seed 1")
    assert told == "search --storage postgresql://host:5432/db --seed 1"
    assert without_password("sqlite:///study.db") == "sqlite:///study.db"
