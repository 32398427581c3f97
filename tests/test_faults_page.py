"""docs/faults.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    line
    for line in (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "`" in line
]
NAMED = [re.findall(r"`([\w/]+\.py)::(\w+)`", row) for row in ROWS]


def test_there_are_forty_and_more() -> None:
    assert len(ROWS) >= 40
    assert all(len(found) == 1 for found in NAMED), "one test a line"
    assert len({found[0] for found in NAMED}) == len(NAMED), "no test counts twice"


@pytest.mark.parametrize(("file", "test"), [found[0] for found in NAMED])
def test_the_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
