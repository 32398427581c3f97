"""Which pictures stand for all of a split."""

from __future__ import annotations

import numpy as np

__all__ = ["spaced_rows"]


def spaced_rows(count: int, *, most: int) -> np.ndarray:
    """Return at most so many of `count` pictures, evenly spaced, as folders list by class.

    Returns:
        int64 (n,), ascending, each row once.
    """
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
