"""The Chinese survey: every number in it is counted when it is written."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("survey.page")


def test_the_page_is_what_the_script_writes(page: ModuleType) -> None:
    script = importlib.import_module("write_survey")
    text = script.PAGE.read_text(encoding="utf-8")
    assert text == page.survey_page(), "run: python scripts/write_survey.py"


def test_every_example_is_argued_with(page: ModuleType) -> None:
    examples = importlib.import_module("survey.examples").EXAMPLES
    chapters = "\n".join(page.read_chapters())
    assert len(examples) >= 30
    assert [name for name in examples if f":{name}}}}}" not in chapters] == []


def test_measured_times_fill_the_page(page: ModuleType) -> None:
    timing = importlib.import_module("survey.timing").Timing
    asked: list[list[str]] = []

    def measure(networks: list[str]) -> Any:
        asked.append(networks)
        return timing("a machine", {name: f"{len(name)}.125" for name in networks})

    text = page.survey_page(measure)
    assert len(asked) >= 8, "the networks of a chapter are measured together"
    assert all(len(networks) == len(set(networks)) for networks in asked)
    assert "a machine" in text
    assert "18.125" in text
    open_cells = [line for line in text.splitlines() if f"| {page.NOT_MEASURED} |" in line]
    assert open_cells == []


@pytest.mark.parametrize(
    "placeholder",
    [
        "{{fact:unknown}}",
        "{{colour:mobilenet_v2}}",
        "{{ms:mobilenet_v2}}",
        "{{macs}}",
        "{{macs blocks.99:mobilenet_v2}}",
        "{{block 99:mobilenet_v2}}",
        "{{macs:mobilenet_v2",
    ],
)
def test_a_placeholder_that_means_nothing_is_an_error(page: ModuleType, placeholder: str) -> None:
    with pytest.raises(ValueError, match=r"means nothing|no layer|no block|cannot read"):
        page.fill(placeholder, times={}, machine="")
