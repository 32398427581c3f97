"""The report in other languages: English texts are the keys of a table, one file per language."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Protocol

from featherweight.errors import UsageError

__all__ = ["ENGLISH", "Translate", "languages", "translator"]

_TABLES = files("featherweight.reporting") / "templates"


class Translate(Protocol):
    """Turns an English text into another language and puts values in: `t("{n} runs", n=3)`."""

    def __call__(self, text: str, /, **values: object) -> str:
        """Return the text in the reader's language with the values put in."""


def languages() -> tuple[str, ...]:
    """Return the codes of the languages there are, English first."""
    names = (entry.name for entry in _TABLES.iterdir())
    return ("en", *sorted(name[: -len(".json")] for name in names if name.endswith(".json")))


def translator(language: str) -> Translate:
    """Return what translates into a language; a text it does not know stays English.

    Raises:
        UsageError: there is no such language.
    """
    if language not in languages():
        raise UsageError(f"no report in language {language!r}", allowed=", ".join(languages()))
    table: dict[str, str] = {}
    if language != "en":
        table = json.loads((_TABLES / f"{language}.json").read_text(encoding="utf-8"))

    def translate(text: str, /, **values: object) -> str:
        found = table.get(text, text)
        return found.format(**values) if values else found

    return translate


ENGLISH = translator("en")
