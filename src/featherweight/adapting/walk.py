"""The way of NetAdapt: where it has come to, and what can be tried next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.groups import Narrow, WidthGroup
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.steps import Schedule, Step
from featherweight.budget import Latency
from featherweight.networks.channels import channels_of
from featherweight.networks.slicing import filter_norms
from featherweight.nn.network import Network

__all__ = ["Walk"]

_LEAST_STEP = 0.005
"""Of the latency of the start: no clock tells less apart surely."""
_LARGEST_CORRECTION = 2.0
"""A table may be off by up to this factor, either way, and is corrected by what was measured."""


@dataclass
class Walk:
    """Where the way has come to: widths, latency, what was refused, and how far the table is off.

    Every step narrows a group or refuses at least one width of one for good: the way ends.
    """

    model: SavingModel
    schedule: Schedule
    start: Latency
    so_far: Sequence[Step]
    latency: Latency = field(init=False)
    widths: dict[str, int] = field(init=False, default_factory=dict)
    refused: set[Narrow] = field(init=False, default_factory=set)
    taken: int = field(init=False, default=0)
    fruitless: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.latency = self.start
        for step in self.so_far:
            for proposal in step.proposals:
                if proposal.status == "rejected":
                    self.refuse(proposal.change)
            if step.change is None:
                self.fruitless += 1
            else:
                self.take(step.change, step.latency)

    def take(self, change: Narrow, latency: Latency) -> None:
        """Go a step."""
        self.widths[change.group] = change.channels
        self.latency = latency
        self.taken += 1
        self.fruitless = 0

    def refuse(self, change: Narrow) -> None:
        """Never try a width again that was not surely faster."""
        self.refused.add(change)

    def needed_ms(self, target_ms: float, *, end_ms: float, steps_left: float) -> float:
        """Return what the next step has to save: more after a step that found nothing.

        Args:
            target_ms: latency that is asked for next.
            end_ms: latency that is asked for in the end.
            steps_left: for how many there is time until then.
        """
        first = self.schedule.initial * self.start.median_ms
        needed = first * self.schedule.decay**self.taken * 2.0**self.fruitless
        least = (self.latency.median_ms - end_ms) / max(1.0, steps_left)
        rest = self.latency.median_ms - target_ms
        return max(min(max(needed, least), rest), self._least_ms(first))

    def _least_ms(self, first_ms: float) -> float:
        """Return the least that a clock can tell: how sure the last step was, told in turns."""
        least = _LEAST_STEP * self.start.median_ms
        if not self.taken:
            return least
        low, high = self.latency.interval_ms
        return max(least, min(high - low, first_ms))

    def predicted_ms(self, change: Narrow) -> float:
        """Return the latency after a change, corrected by how the way so far was predicted."""
        return self.latency.median_ms - self._correction() * self._saved_ms(change)

    def _saved_ms(self, change: Narrow) -> float:
        return self.model.latency_ms(self._changes()) - self.model.latency_ms(self._changes(change))

    def _changes(self, change: Narrow | None = None) -> list[Narrow]:
        widths = self.widths if change is None else self.widths | {change.group: change.channels}
        return [Narrow(group=group, channels=width) for group, width in widths.items()]

    def _correction(self) -> float:
        predicted = self.start.median_ms - self.model.latency_ms(self._changes())
        if predicted <= 0.0:
            return 1.0
        measured = self.start.median_ms - self.latency.median_ms
        return float(np.clip(measured / predicted, 1 / _LARGEST_CORRECTION, _LARGEST_CORRECTION))

    def options(
        self,
        present: Network,
        *,
        needed_ms: float,
        worth: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> list[Narrow]:
        """Return of each group the largest width that saves enough, the least harmful first.

        Where no group alone saves enough, the one of each that saves most.

        Args:
            present: the network that is narrowed.
            needed_ms: what each has to save.
            worth: importance of its channels; `None` = the squared norms of their filters, as a
                share of those of their group.
        """
        enough, most = [], []
        for group in self.model.groups.values():
            offered = self._narrower(group)
            if group.kind not in self.schedule.kinds or not offered:
                continue
            position = _first(
                len(offered),
                lambda k, offered=offered: (  # type: ignore[misc]
                    self.latency.median_ms - self.predicted_ms(offered[k]) >= needed_ms
                ),
            )
            if position is not None:
                enough.append(offered[position])
            elif self.predicted_ms(offered[-1]) < self.latency.median_ms:
                most.append(offered[-1])
        return _least_lost(
            present, self.model.groups, enough or most, worth=worth, most=self.schedule.proposals
        )

    def _narrower(self, group: WidthGroup) -> list[Narrow]:
        """Return the widths below the present one that were not refused, widest first.

        None below the least that was measured: what it would save is not known.
        """
        width = self.widths.get(group.name, group.channels)
        largest = (width - 1) // group.step * group.step
        least = self.model.least_width(group)
        changes = (
            Narrow(group=group.name, channels=channels)
            for channels in range(largest, least - 1, -group.step)
        )
        return [change for change in changes if change not in self.refused]


def _first(count: int, holds: Callable[[int], bool]) -> int | None:
    """Return the first position from which on something holds; `None` = it does not at the last."""
    if not holds(count - 1):
        return None
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _least_lost(
    network: Network,
    groups: Mapping[str, WidthGroup],
    changes: Sequence[Narrow],
    *,
    worth: Mapping[str, NDArray[np.float64]] | None,
    most: int | None,
) -> list[Narrow]:
    """Return at most so many changes, those first that lose the least."""
    numbers = channels_of(network.architecture).numbers
    norms = filter_norms(network) if worth is None else {}

    def lost(change: Narrow) -> float:
        group = groups[change.group]
        own = numbers[group.layers[0]]
        values = (
            {number: norms[number] ** 2 for number in own}
            if worth is None
            else dict(zip(own, worth[group.layers[0]].tolist(), strict=True))
        )
        ordered = np.sort(list(values.values()))
        gone = float(ordered[: len(ordered) - change.channels // group.copies].sum())
        return gone / float(ordered.sum()) if worth is None else gone

    return sorted(changes, key=lost)[:most]
