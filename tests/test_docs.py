"""The documentation names what exists, and only that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from featherweight.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def commands() -> dict[str, Any]:
    """Return docs page -> command; a command of a group is `group-command`."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            found[name] = command
        else:
            found |= {f"{name}-{sub}": each for sub, each in inner.items()}
    return found


def flags(command: Any) -> set[str]:
    names = {option for parameter in command.params for option in parameter.opts}
    return {name for name in names if name.startswith("--")} - {"--help"}


def test_there_is_something_to_check() -> None:
    assert len(commands()) >= 12
    assert len(PAGES) >= 15
    assert "--latency" in flags(commands()["fit"])


@pytest.mark.parametrize("name", commands())
def test_every_command_has_a_page_with_its_flags(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    usage = text.split("\n\n")[1]
    assert f"featherweight {name.replace('-', ' ')}" in usage
    assert set(FLAG.findall(usage)) == flags(commands()[name])


def test_pages_name_only_flags_that_exist() -> None:
    # --self-test belongs to the bundle's run.py, --measure to scripts/write_survey.py, the others
    # to make, git and pip
    others = {"--self-test", "--measure", "--help", "--strict"}
    known = others.union(*(flags(c) for c in commands().values()))
    unknown = {p.name: set(FLAG.findall(p.read_text(encoding="utf-8"))) - known for p in PAGES}
    assert {name: found for name, found in unknown.items() if found} == {}


def test_links_between_pages_lead_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in LINK.findall(page.read_text("utf-8"))]
    assert len(links) >= 30
    assert [(p.name, link) for p, link in links if not (p.parent / link).exists()] == []


def test_both_languages_show_the_same_commands() -> None:
    english, chinese = (ROOT / name for name in ("README.md", "README.zh-CN.md"))
    code = re.compile(r"^    (?:make|pip|featherweight)[^#\n]*", re.MULTILINE)
    shown = [[c.strip() for c in code.findall(p.read_text("utf-8"))] for p in (english, chinese)]
    assert len(shown[0]) >= 4
    assert shown[0] == shown[1]
