"""What a network costs, what it may cost, and the units people write both in."""

from __future__ import annotations

import math
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
