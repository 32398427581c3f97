"""The rules of advice: each file registers its own."""

from featherweight.advising.rules import (
    depthwise,
    elementwise,
    fragments,
    grouped,
    multiples,
    unequal,
)

__all__ = ["depthwise", "elementwise", "fragments", "grouped", "multiples", "unequal"]
