"""The table of what changes save, on the clock of the parent, held against whole networks."""

from __future__ import annotations

import logging
import math
import time as clock
from collections.abc import Callable, Sequence

import numpy as np

from featherweight.adapting.changes import changed
from featherweight.adapting.groups import Change, Narrow, width_groups
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving, change_options, measure_savings
from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError
from featherweight.profiling.profile import profile

__all__ = ["MedianClock", "measure_options", "measure_table", "thin_everywhere"]

logger = logging.getLogger(__name__)

MedianClock = Callable[[Sequence[Architecture]], Sequence[float]]
"""Networks -> medians in ms; interleaved, of files as they would ship."""

_WHOLE_SHARES = (0.75, 0.5, 0.25)
"""Of all widths together, of the networks that the table is held against."""
_LARGEST_CORRECTION = 2.0
"""A sum of savings may be off by up to this factor, either way."""
_MOST_PARAMS = 250_000_000
"""Of all networks that one process times: a gigabyte of weights, and what a runtime makes of it."""
_FIRST_SHARES = (0.25,)
"""Of the width of a group, timed before the others: widths above it lie on a line."""


def measure_options(
    architecture: Architecture,
    *,
    time: MedianClock,
    present_ms: float,
    most_s: float = math.inf,
) -> tuple[Saving, ...]:
    """Return what every change of `change_options` saves, measured as far as the time goes.

    Where it is short, only the narrowest widths and the branches are timed, and what the widths
    between save is told by a straight line to the present one.

    Args:
        architecture: the parent, at its resolution.
        time: see `measure_table`.
        present_ms: latency of the parent, which savings are told beside.
        most_s: seconds of timing after which no more is begun. The narrowest are always timed.
    """
    started, options = clock.monotonic(), change_options(architecture)
    first = options
    if not math.isinf(most_s):
        first = change_options(architecture, shares=_FIRST_SHARES)
    table = _Table(architecture, time, present_ms)
    table.measure(first)
    others = [one for one in options if one not in set(first)]
    taken_s = clock.monotonic() - started
    if taken_s * len(options) / max(1, len(first)) <= most_s:
        table.measure(others)
        return table.corrected()
    logger.info("table: time for %d of %d changes", len(first), len(options))
    savings = table.corrected()
    line = SavingModel(architecture, savings, present_ms=present_ms)
    return savings + tuple(Saving(change=one, saved_ms=line.saved_ms(one)) for one in others)


def measure_table(
    architecture: Architecture,
    options: Sequence[Change],
    *,
    time: MedianClock,
    present_ms: float,
) -> tuple[Saving, ...]:
    """Return what every change saves, corrected by whole networks that take turns with the rest.

    Blocks that are timed alone leave out what they do to each other, and a machine is a third
    faster at one time than at another: the parent and three networks, thinner everywhere, are timed
    among the blocks. All savings have one factor, with which the predictions of those three have
    the least squared error.

    Args:
        architecture: the parent, at its resolution.
        options: see `change_options`.
        time: networks -> medians in ms; interleaved, of files as they would ship.
        present_ms: latency of the parent, which savings are told beside.
    """
    table = _Table(architecture, time, present_ms)
    table.measure(options)
    return table.corrected()


class _Table:
    """Savings as they are measured, and whole networks beside them.

    Args:
        architecture: the parent.
        time: networks -> medians in ms.
        present_ms: latency of the parent.
    """

    def __init__(self, architecture: Architecture, time: MedianClock, present_ms: float) -> None:
        self._architecture, self._time, self._present_ms = architecture, time, present_ms
        self._savings: list[Saving] = []
        self._whole: list[tuple[Sequence[Change], float]] = []
        """Choices, and what each saved as a whole network."""

    def measure(self, options: Sequence[Change]) -> None:
        """Time changes, and whole networks with those of their groups."""
        if options:
            self._savings += measure_savings(
                self._architecture, options, time=lambda found: self._beside(found, options)
            )

    def corrected(self) -> tuple[Saving, ...]:
        """Return all savings times the factor that suits the whole networks best."""
        model = SavingModel(self._architecture, self._savings, present_ms=self._present_ms)
        predicted = np.array(
            [self._present_ms - model.latency_ms(choice) for choice, _ in self._whole]
        )
        measured = np.array([saved for _, saved in self._whole])
        factor = 1.0
        if np.any(predicted > 0.0):
            factor = float(
                np.clip(
                    (predicted * measured).sum() / (predicted**2).sum(),
                    1.0 / _LARGEST_CORRECTION,
                    _LARGEST_CORRECTION,
                )
            )
        logger.info(
            "table: %d changes; whole networks save %.2f times as much", len(self._savings), factor
        )
        return tuple(
            one.model_copy(update={"saved_ms": factor * one.saved_ms}) for one in self._savings
        )

    def _beside(self, networks: Sequence[Architecture], options: Sequence[Change]) -> list[float]:
        """Time networks in parts that fit into memory, each with the parent, as on its clock."""
        names = {one.group for one in options if isinstance(one, Narrow)}
        thin = (
            [one for one in thin_everywhere(self._architecture, share) if one.group in names]
            for share in _WHOLE_SHARES
        )
        choices = [choice for choice in thin if choice]
        wholes = [changed(self._architecture, choice) for choice in choices]
        found: list[float] = []
        for part in _parts([*wholes, *networks]):
            own, *medians = self._time([self._architecture, *part])
            found += [self._present_ms / own * median for median in medians]
        saved = [self._present_ms - ms for ms in found[: len(wholes)]]
        self._whole += zip(choices, saved, strict=True)
        return found[len(wholes) :]


def _parts(networks: Sequence[Architecture]) -> list[list[Architecture]]:
    """Cut a row where the weights of its networks are as many as one process should hold."""
    parts: list[list[Architecture]] = [[]]
    params = 0
    for one in networks:
        own = profile(one).params or 0
        if parts[-1] and params + own > _MOST_PARAMS:
            parts.append([])
            params = 0
        parts[-1].append(one)
        params += own
    return parts


def thin_everywhere(architecture: Architecture, share: float) -> tuple[Narrow, ...]:
    """Return the changes that leave every group so much of its width; none where it cannot be.

    Gates keep their width: what they save is hardly seen.
    """
    changes = tuple(
        narrowed[0]
        for group in width_groups(architecture)
        if group.kind != "gate" and (narrowed := group.narrowed((share,)))
    )
    try:
        changed(architecture, changes)
    except UnsupportedError:  # groups of a shuffle may not have this width
        return ()
    return changes
