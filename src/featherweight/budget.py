"""How long a network takes and may take, how well it answers, and the units people write."""

from __future__ import annotations

import math
import re
from typing import Self

from pydantic import Field

from featherweight.errors import UsageError
from featherweight.readable import figure_name
from featherweight.records import Record

__all__ = [
    "Budget",
    "Evaluation",
    "Latency",
    "parse_duration_s",
    "parse_latency_ms",
    "parse_share",
]

_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z%]*)\s*$")
_LATENCY_MS = {"ms": 1.0, "us": 1e-3, "s": 1e3}
_DURATION_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Latency(Record):
    """A median latency with its 95 % interval, in milliseconds. What is not measured has none."""

    median_ms: float
    interval_ms: tuple[float, float]


class Evaluation(Record):
    """How well something answered, with the evidence behind the figure.

    Attributes:
        metric: what `value` is: `accuracy` or `balanced_accuracy`.
        value: in 0..1.
        n: number of pictures.
        interval: 95 % interval of `value`; `None` = none is known for this metric.
        split: where the pictures come from.
    """

    metric: str
    value: float
    n: int
    interval: tuple[float, float] | None
    split: str

    def __str__(self) -> str:
        """Return it in words, without the split."""
        text = f"{figure_name(self.metric)} {self.value:.3f}"
        if self.interval is None:
            return text
        low, high = self.interval
        return f"{text} [{low:.3f}, {high:.3f}]"


class Budget(Record):
    """The latency that a file may have."""

    latency_ms: float = Field(gt=0)

    @classmethod
    def parse(cls, given: str | float, *, start_ms: float | None = None) -> Self:
        """Return the budget that `5ms`, `200fps`, or `70%` of a start says.

        Args:
            given: as the user wrote it, or milliseconds.
            start_ms: latency that a percentage refers to; `None` = there is none.

        Raises:
            UsageError: no number, no unit, an unknown unit, not above zero, or not finite.
        """
        is_share = isinstance(given, str) and given.strip().endswith("%")
        if not is_share or start_ms is None:
            return cls(latency_ms=parse_latency_ms(given))
        share = parse_share(given)
        if not share:
            raise UsageError(f"cannot read the latency {given!r}", allowed="above 0%")
        return cls(latency_ms=share * start_ms)

    def is_met(self, latency: Latency) -> bool:
        """Whether the upper end of the interval of the median is within the budget."""
        return latency.interval_ms[1] <= self.latency_ms

    def share_ms(self, share: float) -> float:
        """Return so much of it, in ms: a target that leaves a margin."""
        return share * self.latency_ms


def parse_latency_ms(given: str | float) -> float:
    """Return milliseconds from `5ms`, `5000us`, `0.005s`, `200fps`, or a number of them.

    Raises:
        UsageError: no number, no unit, an unknown unit, not above zero, or not finite.
    """
    allowed = "a positive number with ms, us, s or fps, such as 5ms, 5000us or 200fps"
    value, unit = _number(given, unit="ms", what="latency", allowed=allowed)
    if unit == "fps":
        return _finite(1000.0 / value, given, what="latency", allowed=allowed)
    if unit not in _LATENCY_MS:
        wrong = f"unknown unit {unit!r}" if unit else "no unit"
        raise UsageError(f"{wrong} in the latency {given!r}", allowed=allowed)
    return _finite(value * _LATENCY_MS[unit], given, what="latency", allowed=allowed)


def parse_duration_s(given: str | float) -> float:
    """Return seconds from `90s`, `20m`, `1.5h`, or a number of them.

    Raises:
        UsageError: no number, no unit, an unknown unit, not above zero, or not finite.
    """
    allowed = "a positive number with s, m or h, such as 90s, 20m or 1.5h"
    value, unit = _number(given, unit="s", what="duration", allowed=allowed)
    if unit not in _DURATION_S:
        wrong = f"unknown unit {unit!r}" if unit else "no unit"
        raise UsageError(f"{wrong} in the duration {given!r}", allowed=allowed)
    return _finite(value * _DURATION_S[unit], given, what="duration", allowed=allowed)


def _number(given: str | float, *, unit: str, what: str, allowed: str) -> tuple[float, str]:
    """Return a positive number and its unit; a plain number has `unit`."""
    if isinstance(given, str):
        match = _NUMBER.match(given)
        value, unit = (0.0, "") if match is None else (float(match[1]), match[2])
    else:
        value = float(given)
    if not value > 0:
        raise UsageError(f"cannot read the {what} {given!r}", allowed=allowed)
    return value, unit


def _finite(value: float, given: str | float, *, what: str, allowed: str) -> float:
    """Refuse numbers so large or so small that a float cannot hold them."""
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"the {what} {given!r} is out of range", allowed=allowed)
    return value


def parse_share(value: str | float | None) -> float | None:
    """Return a share in 0..1 from `0.8`, `80%` or a number; `None` stays `None`.

    Raises:
        UsageError: no number, another unit, or not in 0..1.
    """
    if value is None:
        return None
    match = _NUMBER.match(str(value))
    share = float("nan") if match is None or match[2] not in ("", "%") else float(match[1])
    share = share / 100 if match is not None and match[2] == "%" else share
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"cannot read the share {value!r}", allowed="0 to 1, or 0% to 100%")
    return share
