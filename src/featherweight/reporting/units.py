"""Numbers as people read them in the report; `None` reads as a dash.

A no-break space stands between a number and its unit.
"""

from __future__ import annotations

from featherweight.readable import figure_name

__all__ = [
    "show_budget_ms",
    "show_bytes",
    "show_count",
    "show_integer",
    "show_interval_ms",
    "show_metric",
    "show_ms",
    "show_percent",
    "show_seconds",
]

_DASH = "\N{EN DASH}"
_GAP = "\N{NO-BREAK SPACE}"


def show_budget_ms(value: float | None) -> str:
    """Return a limit as somebody would have written it: `3 ms`, `0.25 ms`."""
    return _DASH if value is None else f"{value:.6g}{_GAP}ms"


def show_ms(value: float | None) -> str:
    """Return `4.36 ms`, with a third decimal below one millisecond."""
    return _DASH if value is None else f"{_milliseconds(value)}{_GAP}ms"


def show_interval_ms(interval: tuple[float, float] | None, to: str = "to") -> str:
    """Return `4.31 to 4.42 ms`, with the word for `to` in the reader's language."""
    if interval is None:
        return _DASH
    return f"{_milliseconds(interval[0])} {to} {_milliseconds(interval[1])}{_GAP}ms"


def show_metric(name: str | None) -> str:
    """Return a metric's name as words: `both right` for `both_right`."""
    return _DASH if name is None else figure_name(name)


def show_percent(share: float | None, digits: int = 1) -> str:
    """Return `87.3 %` for 0.873."""
    return _DASH if share is None else f"{100 * share:.{digits}f}{_GAP}%"


def show_integer(value: float | None) -> str:
    """Return `1,234`."""
    return _DASH if value is None else f"{value:,.0f}"


def show_count(value: float | None) -> str:
    """Return a count with three digits: `987`, `12.3 k`, `4.65 M`, `1.20 G`."""
    return (
        _DASH if value is None else _scaled(value, base=1000.0, suffixes=("", "k", "M", "G", "T"))
    )


def show_bytes(value: float | None) -> str:
    """Return `4.65 MB` (1 MB = 1,000,000 bytes)."""
    return _DASH if value is None else _scaled(value, base=1000.0, suffixes=("B", "kB", "MB", "GB"))


def show_seconds(value: float | None) -> str:
    """Return `4.2 s`, `3 min 20 s` or `1 h 05 min`."""
    if value is None:
        return _DASH
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _milliseconds(value: float) -> str:
    if value >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _scaled(value: float, *, base: float, suffixes: tuple[str, ...]) -> str:
    position = 0
    while value >= base and position + 1 < len(suffixes):
        value, position = value / base, position + 1
    digits = 0 if position == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{_GAP}{suffixes[position]}".rstrip(_GAP)
