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

__all__ = ["measure_options", "measure_table", "thin_everywhere"]

logger = logging.getLogger(__name__)

_WHOLE_SHARES = (0.75, 0.5, 0.25)
"""Of all widths together, of the networks that the table is held against."""
_LARGEST_CORRECTION = 2.0
"""A sum of savings may be off by up to this factor, either way."""
_FIRST_SHARES = (0.25,)
"""Of the width of a group, timed before the others: widths above it lie on a line."""


def measure_options(
    architecture: Architecture,
    *,
    time: Callable[[Sequence[Architecture]], Sequence[float]],
    present_ms: float,
    most_s: float = math.inf,
) -> tuple[Saving, ...]:
    """Return what every change of `change_options` saves, measured as far as the time goes.

    Where it is short, only the narrowest widths and the branches are timed, and what the widths
    between save is told by a straight line to the present one.

    Args:
        architecture: the parent, at its resolution.
        time: networks -> medians in ms; interleaved, of files as they would ship.
        present_ms: latency of the parent, which savings are told beside.
        most_s: seconds of timing after which no more is begun. The narrowest are always timed.
    """
    options = change_options(architecture)
    if math.isinf(most_s):
        return measure_table(architecture, options, time=time, present_ms=present_ms)
    started = clock.monotonic()
    first = change_options(architecture, shares=_FIRST_SHARES)
    others = [one for one in options if one not in set(first)]
    savings = measure_table(architecture, first, time=time, present_ms=present_ms)
    taken_s = clock.monotonic() - started
    if taken_s * len(options) / max(1, len(first)) <= most_s:
        return savings + measure_table(architecture, others, time=time, present_ms=present_ms)
    logger.info("table: time for %d of %d changes", len(first), len(options))
    line = SavingModel(architecture, savings, present_ms=present_ms)
    return savings + tuple(Saving(change=one, saved_ms=line.saved_ms(one)) for one in others)


def measure_table(
    architecture: Architecture,
    options: Sequence[Change],
    *,
    time: Callable[[Sequence[Architecture]], Sequence[float]],
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
    names = {one.group for one in options if isinstance(one, Narrow)}
    thin = (
        [change for change in thin_everywhere(architecture, share) if change.group in names]
        for share in _WHOLE_SHARES
    )
    choices = [choice for choice in thin if choice]
    whole = [architecture, *(changed(architecture, choice) for choice in choices)]
    medians: list[float] = []

    def beside(networks: Sequence[Architecture]) -> Sequence[float]:
        found = list(time([*networks, *whole]))
        medians.extend(found[len(networks) :])
        return found[: len(networks)]

    savings = measure_savings(architecture, options, time=beside)
    scale = present_ms / medians[0]
    scaled = _times(savings, scale)
    model = SavingModel(architecture, scaled, present_ms=present_ms)
    predicted = np.array([present_ms - model.latency_ms(choice) for choice in choices])
    measured = present_ms - scale * np.array(medians[1:])
    factor = 1.0
    if np.any(predicted > 0.0):
        factor = float(
            np.clip(
                (predicted * measured).sum() / (predicted**2).sum(),
                1.0 / _LARGEST_CORRECTION,
                _LARGEST_CORRECTION,
            )
        )
    logger.info("table: %d changes; whole networks save %.2f times as much", len(options), factor)
    return _times(scaled, factor)


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


def _times(savings: Sequence[Saving], factor: float) -> tuple[Saving, ...]:
    return tuple(one.model_copy(update={"saved_ms": factor * one.saved_ms}) for one in savings)
