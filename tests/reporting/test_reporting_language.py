"""The report in Chinese: every text has a translation, none is left over, and the page is whole."""

from __future__ import annotations

import ast
import json
import re
import string
from pathlib import Path

import pytest
from reporting_fixture import write_fit_run

import featherweight.reporting
from featherweight.cli.app import run as command
from featherweight.reporting.language import languages, translator
from featherweight.reporting.reading import read_run
from featherweight.reporting.render import render_html

HOME = Path(featherweight.reporting.__file__).parent
TEMPLATES = [
    HOME / "templates" / "report.html.j2",
    HOME / "templates" / "macros.html.j2",
    *sorted((HOME / "templates" / "sections").iterdir()),
]
CALLED_BY_VALUE = {
    "sections/verdict.py": (
        "Budget met",
        "Budget not met",
        "Too inaccurate",
        "Budget infeasible",
        "Running",
        "Cut short",
        "Finished",
    ),
    "charts.py": ("winner", "finalist", "kept", "raced", "rejected"),
    "sections/layers.py": ("architecture.json is not there",),
}


def texts_in_code() -> set[str]:
    """Every literal that is given to t(...) in the package, and those it gets by value."""
    shown = "".join(template.read_text(encoding="utf-8") for template in TEMPLATES)
    found = set(re.findall(r'\bt\("((?:[^"\\]|\\.)*)"', shown))
    for file in HOME.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "t":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(first.value)
    for name, texts in CALLED_BY_VALUE.items():
        source = (HOME / name).read_text(encoding="utf-8")
        assert all(f'"{text}"' in source for text in texts)
        found.update(texts)
    return found


def table(language: str) -> dict[str, str]:
    return dict(json.loads((HOME / "templates" / f"{language}.json").read_text(encoding="utf-8")))


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_there_is_chinese() -> None:
    assert languages() == ("en", "zh")


@pytest.mark.parametrize("language", languages()[1:])
def test_every_text_is_translated_and_no_translation_is_left_over(language: str) -> None:
    texts = texts_in_code()
    assert len(texts) > 100
    assert texts == set(table(language))


@pytest.mark.parametrize("language", languages()[1:])
def test_values_survive_translation(language: str) -> None:
    for english, other in table(language).items():
        assert fields(english) == fields(other), english
        assert other


@pytest.mark.parametrize("finished", [True, False])
def test_the_chinese_page_says_the_same(tmp_path: Path, finished: bool) -> None:
    run = read_run(write_fit_run(tmp_path / "run", finished=finished))
    english, chinese = render_html(run), render_html(run, language="zh")
    assert '<html lang="zh">' in chinese
    assert "<h2>全部测量结果</h2>" in chinese
    label = "预算满足" if finished else "已中断"
    assert label in chinese
    numbers = [
        re.findall(r"\d+(?:\.\d+)?", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
        for page in (english, chinese)
    ]
    assert sorted(numbers[0]) == sorted(numbers[1])
    for english_text in ("Read this first", "Where the time went", "milliseconds per picture"):
        assert english_text not in chinese


def test_an_unknown_language_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_fit_run(tmp_path / "run")
    assert command(["report", str(run), "--lang", "tlh"]) == 2
    assert "en, zh" in capsys.readouterr().err
    assert command(["report", str(run), "--lang", "zh"]) == 0
    assert "预算" in (run / "report.html").read_text(encoding="utf-8")


def test_an_unknown_text_stays_english() -> None:
    assert translator("zh")("something {new}", new=3) == "something 3"
