"""The survey: chapters with placeholders, filled with counted and measured numbers.

=================================  ==================================================
`{{macs:NETWORK}}`                 a number of `survey.quantities.QUANTITIES`
`{{macs PREFIX:NETWORK}}`          of the layers below a dotted name only
`{{block INDEX:NETWORK}}`          the layers of a block, one a line
`{{fact:NAME}}`                    a text of `survey.facts`
`{{table:NAME NAME}}`              published and default variants of zoo networks
`{{ms:NETWORK}}`, `{{machine}}`    measured milliseconds, and where
=================================  ==================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from survey.facts import facts
from survey.quantities import QUANTITIES, block_listing, table, whole
from survey.timing import Timing

__all__ = ["CHAPTERS", "NOT_MEASURED", "fill", "read_chapters", "survey_page"]

CHAPTERS = Path(__file__).parent / "chapters"
NOT_MEASURED = "未测"

_PLACEHOLDER = re.compile(r"\{\{(\w+)(?: ([\w.]+))?(?::([^{}]+))?\}\}")


def survey_page(measure: Callable[[list[str]], Timing] | None = None) -> str:
    """Return the survey.

    Args:
        measure: networks -> times; called once per chapter, so that the networks a chapter
            compares are measured together. `None` leaves the times open.

    Raises:
        ValueError: a placeholder that means nothing, or a fact no chapter uses.
    """
    chapters = read_chapters()
    unused = facts().keys() - set(_arguments(chapters, kind="fact"))
    if unused:
        raise ValueError(f"no chapter uses the facts {sorted(unused)}")
    machine = NOT_MEASURED
    times = []
    for chapter in chapters:
        networks = list(dict.fromkeys(_arguments([chapter], kind="ms")))
        texts = dict.fromkeys(networks, NOT_MEASURED)
        if measure is not None and networks:
            machine, texts = measure(networks)
        times.append(texts)
    pages = [
        fill(chapter, times=texts, machine=machine)
        for chapter, texts in zip(chapters, times, strict=True)
    ]
    return "\n".join(pages)


def read_chapters() -> list[str]:
    """Return the chapters in order, tables drawn, numbers still open."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(CHAPTERS.glob("*.md"))]
    return [_PLACEHOLDER.sub(_draw_table, text) for text in texts]


def fill(chapter: str, *, times: dict[str, str], machine: str) -> str:
    """Replace the placeholders of a chapter.

    Raises:
        ValueError: a placeholder that means nothing.
    """
    known_facts = facts()

    def text_of(match: re.Match[str]) -> str:
        kind, detail, argument = match.group(1), match.group(2), match.group(3)
        if kind == "machine":
            return machine
        if kind == "fact" and argument in known_facts:
            return known_facts[argument]
        if kind == "ms" and argument in times:
            return times[argument]
        if kind == "block" and detail and argument:
            return block_listing(argument, int(detail))
        if kind in QUANTITIES and argument:
            return whole(QUANTITIES[kind](argument, detail or ""))
        raise ValueError(f"the placeholder {match.group()} means nothing")

    filled = _PLACEHOLDER.sub(text_of, chapter)
    if "{{" in filled:
        raise ValueError(f"cannot read {filled[filled.index('{{') :][:60]!r}")
    return filled


def _draw_table(match: re.Match[str]) -> str:
    if match.group(1) != "table":
        return match.group()
    return table(match.group(3).split())


def _arguments(chapters: list[str], *, kind: str) -> list[str]:
    """Return what follows the colon in the placeholders of one kind, in order."""
    return [
        match.group(3)
        for chapter in chapters
        for match in _PLACEHOLDER.finditer(chapter)
        if match.group(1) == kind
    ]
