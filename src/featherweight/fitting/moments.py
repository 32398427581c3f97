"""How fast the machine computes, at several moments: what one moment says is not believed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

__all__ = ["Moments", "time_small_step"]

_TURNS = 3


class Moments:
    """Times one small training step now and then.

    A neighbour on the same host, or a program of the user, makes a machine three times as slow
    for minutes. A speed that was measured once is corrected to the machine's usual one.

    Args:
        measure: returns the seconds of a fixed piece of work.
    """

    def __init__(self, measure: Callable[[], float] | None = None) -> None:
        self._measure = measure or time_small_step
        self.seconds: list[float] = []

    def take(self) -> float:
        """Time the piece of work once more; return its seconds."""
        self.seconds.append(self._measure())
        return self.seconds[-1]

    def slowness(self, recent: int) -> float:
        """Return how much slower the last `recent` moments were than the median of all."""
        return statistics.fmean(self.seconds[-recent:]) / statistics.median(self.seconds)


def time_small_step() -> float:
    """Return the seconds of a small convolution and its gradient, with all of torch's threads."""
    inputs = torch.ones(16, 32, 56, 56)
    weight = torch.ones(64, 32, 3, 3, requires_grad=True)
    seconds = []
    for _ in range(_TURNS):
        start = time.perf_counter()
        functional.conv2d(inputs, weight, padding=1).sum().backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - start)
    return statistics.fmean(seconds[1:])
