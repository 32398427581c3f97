"""Names as text for people: those from outside, shown safely, and those of figures."""

from __future__ import annotations

import os
import re
import unicodedata

__all__ = ["figure_name", "plain_text", "readable", "without_password"]

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners are Cf like the marks that reverse a line, but Persian, Indic and emoji names need them.
_JOINERS = frozenset("\u200c\u200d")
# Python writes a byte 0x80 to 0xff that is not UTF-8 as the surrogate U+DC80 to U+DCFF.
_BYTES = range(0xDC80, 0xDD00)
_SURROGATES = range(0xD800, 0xE000)


_CREDENTIALS = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s]*@")
_FIGURES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "top5": "top-5"}


def figure_name(key: str) -> str:
    """Return what people call a figure: `AP50` for `ap50`, `both right` for `both_right`."""
    return _FIGURES.get(key, key.replace("_", " "))


def readable(text: str) -> str:
    r"""Return text as one line that does nothing to a terminal.

    A file or a class can be named so that a terminal is cleared, retitled or made to lie, or so
    that a log shows a line nobody wrote. Control characters (escape sequences, line ends, tabs),
    marks that reverse the direction, line separators and bytes that are no text are written out
    (`\x1b`, `\n`, `\u202e`, `\xe9`); all else stays.

    Args:
        text: a name, or a message with names in it.
    """
    if text.isprintable():
        return text
    return "".join(_written_out(letter) if _is_harmful(letter) else letter for letter in text)


def plain_text(name: str | os.PathLike[str]) -> str:
    r"""Return the name of a file or folder as text that every file format can hold.

    Bytes of a name that are not UTF-8 reach Python as lone surrogates, which JSON, YAML, ONNX and
    terminals refuse or lose. Such a byte becomes `\xe9`: different names stay different, and the
    file can still be found. All other names are returned as they are.

    Args:
        name: as the file system gave it.
    """
    text = os.fspath(name)
    if text.isascii():
        return text
    return "".join(
        _written_out(letter) if ord(letter) in _SURROGATES else letter for letter in text
    )


def _is_harmful(letter: str) -> bool:
    return unicodedata.category(letter) in _HARMFUL and letter not in _JOINERS


def _written_out(letter: str) -> str:
    if ord(letter) in _BYTES:
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def without_password(text: str) -> str:
    """Return text without the name and password of an address: `SCHEME://NAME:PASSWORD@HOST`."""
    return _CREDENTIALS.sub(r"\1", text)
