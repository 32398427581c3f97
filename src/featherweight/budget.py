"""What a network costs, what it may cost, and the units people write both in."""

from __future__ import annotations

import re

from featherweight.errors import UsageError
from featherweight.records import Record

__all__ = ["Budget", "Cost", "parse_duration_s", "parse_latency_ms", "parse_share"]

_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z%]*)\s*$")
_LATENCY_MS = {"ms": 1.0, "us": 1e-3, "s": 1e3}
_DURATION_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Cost(Record):
    """What one network costs; `None` means not measured."""

    params: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    peak_activation_bytes: int | None = None


class Budget(Record):
    """Upper limits; `None` means unlimited."""

    params: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    peak_activation_bytes: int | None = None

    def allows(self, cost: Cost) -> bool:
        """Whether every limit is kept.

        Raises:
            ValueError: a limit is set on something that was not measured.
        """
        for name in Budget.model_fields:
            limit, value = getattr(self, name), getattr(cost, name)
            if limit is None:
                continue
            if value is None:
                raise ValueError(f"the budget limits {name}, which was not measured")
            if value > limit:
                return False
        return True


def parse_latency_ms(text: str) -> float:
    """Return milliseconds from `5ms`, `5000us`, `0.005s` or `200fps`.

    Raises:
        UsageError: no number, no unit, an unknown unit, or not above zero.
    """
    allowed = "a positive number with ms, us, s or fps, such as 5ms, 5000us or 200fps"
    match = _NUMBER.match(text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"cannot read the latency {text!r}", allowed=allowed)
    value, unit = float(match[1]), match[2]
    if unit == "fps":
        return 1000.0 / value
    if unit not in _LATENCY_MS:
        wrong = f"unknown unit {unit!r}" if unit else "no unit"
        raise UsageError(f"{wrong} in the latency {text!r}", allowed=allowed)
    return value * _LATENCY_MS[unit]


def parse_duration_s(text: str) -> float:
    """Return seconds from `90s`, `20m` or `1.5h`.

    Raises:
        UsageError: no number, no unit, an unknown unit, or not above zero.
    """
    allowed = "a positive number with s, m or h, such as 90s, 20m or 1.5h"
    match = _NUMBER.match(text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"cannot read the duration {text!r}", allowed=allowed)
    value, unit = float(match[1]), match[2]
    if unit not in _DURATION_S:
        wrong = f"unknown unit {unit!r}" if unit else "no unit"
        raise UsageError(f"{wrong} in the duration {text!r}", allowed=allowed)
    return value * _DURATION_S[unit]


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
