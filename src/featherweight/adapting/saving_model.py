"""What changes of a network save together, from what each saves alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.branches import branch_layers
from featherweight.adapting.groups import Change, Drop, Narrow, WidthGroup, width_groups
from featherweight.adapting.savings import Saving
from featherweight.architecture import Architecture
from featherweight.layers import Layer, layers
from featherweight.networks.channels import channels_of, is_depthwise
from featherweight.profiling.count import COUNTERS

__all__ = ["SavingModel"]

_LEAST_OVERLAP = 1e-4
"""Of the present latency: two changes that share less are taken to save what each does alone."""


class SavingModel:
    """What changes of a network save, alone and together.

    Widths between those that were measured save what lies between on a straight line. What a
    change saves is spread over the layers that it touches, by the multiply-adds that go: each
    change says what a layer takes. Two changes that touch one convolution save less together than
    each alone: with half its inputs and half its outputs it keeps a quarter, not nothing. So a
    layer of which changes leave the shares 1 - a, 1 - b, ... saves 1 - (1 - a) (1 - b) ... of what
    it takes, as the changes say on average. One change alone saves exactly what was measured.

    Args:
        architecture: the parent.
        savings: what each change saves alone.
        present_ms: latency of the parent.
    """

    def __init__(
        self, architecture: Architecture, savings: Sequence[Saving], *, present_ms: float
    ) -> None:
        self.architecture = architecture
        self.present_ms = present_ms
        self.changes = tuple(one.change for one in savings if one.saved_ms > 0.0)
        """What was measured to save something."""
        self.groups = {group.name: group for group in width_groups(architecture)}
        self._drops = {one.change: one.saved_ms for one in savings if isinstance(one.change, Drop)}
        self._widths = _points(self.groups, savings)
        self._listed = [one for one in layers(architecture) if one.op in {"conv", "linear"}]
        self._macs = np.array(
            [COUNTERS[layer.op](layer).macs for layer in self._listed], dtype=np.float64
        )
        self._parts = _parts(architecture, self._listed, self.groups.values())
        self._branches = branch_layers(architecture)
        self._gone: dict[Change, NDArray[np.float64]] = {}

    def saved_ms(self, change: Change) -> float:
        """Return what a change saves alone; 0 where nothing was measured of its group."""
        if isinstance(change, Drop):
            return self._drops.get(change, 0.0)
        points = self._widths.get(change.group)
        return 0.0 if points is None else float(np.interp(change.channels, *points))

    def least_width(self, group: WidthGroup) -> int:
        """Return the least width that was measured of a group; its own where none was."""
        points = self._widths.get(group.name)
        return group.channels if points is None else points[0][0]

    def shared_ms(self, one: Change, other: Change) -> float:
        """Return how much less two changes save together; 0 = hardly less."""
        if not np.any(self._share_gone(one) * self._share_gone(other)):
            return 0.0
        apart = self.saved_ms(one) + self.saved_ms(other)
        shared = apart - self._together_ms([one, other])
        return shared if shared > _LEAST_OVERLAP * self.present_ms else 0.0

    def latency_ms(self, changes: Sequence[Change]) -> float:
        """Return the predicted latency after changes, at most one of each group or branch."""
        return self.present_ms - self._together_ms(changes)

    def reach_ms(self) -> float:
        """Return the predicted latency where everything measured goes as far as was measured."""
        widest: dict[str, Change] = {}
        for change in self.changes:
            name = change.add if isinstance(change, Drop) else change.group
            if name not in widest or self.saved_ms(change) > self.saved_ms(widest[name]):
                widest[name] = change
        return self.latency_ms(list(widest.values()))

    def _together_ms(self, changes: Sequence[Change]) -> float:
        if not changes:
            return 0.0
        gone = np.stack([self._share_gone(one) for one in changes])
        parts = gone * self._macs
        totals = parts.sum(1)
        saved = np.array([self.saved_ms(one) for one in changes])
        of_layers = parts * np.divide(
            saved, totals, out=np.zeros_like(saved), where=totals > 0.0
        ).reshape(-1, 1)
        jointly, summed = 1.0 - np.prod(1.0 - gone, axis=0), gone.sum(0)
        left = np.divide(jointly, summed, out=np.ones_like(summed), where=summed > 0.0)
        untouched = float(saved[totals <= 0.0].sum())
        return float((of_layers.sum(0) * left).sum()) + untouched

    def _share_gone(self, change: Change) -> NDArray[np.float64]:
        """Return what share of each layer's multiply-adds goes."""
        if change not in self._gone:
            if isinstance(change, Drop):
                inside = set(self._branches[change.add])
                gone = np.array([float(one.name in inside) for one in self._listed])
            else:
                share = 1.0 - change.channels / self.groups[change.group].channels
                outputs, inputs = self._parts[change.group]
                gone = 1.0 - (1.0 - share * outputs) * (1.0 - share * inputs)
            self._gone[change] = gone
        return self._gone[change]


def _points(
    groups: Mapping[str, WidthGroup], savings: Sequence[Saving]
) -> dict[str, tuple[list[int], list[float]]]:
    """Return the measured widths of each group, ascending, and what each saves."""
    found: dict[str, dict[int, float]] = {}
    for one in savings:
        if isinstance(one.change, Narrow):
            own = groups[one.change.group].channels
            found.setdefault(one.change.group, {own: 0.0})[one.change.channels] = one.saved_ms
    return {
        group: (sorted(points), [points[width] for width in sorted(points)])
        for group, points in found.items()
    }


def _parts(
    architecture: Architecture, listed: Sequence[Layer], groups: Iterable[WidthGroup]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the share of each layer's outputs, and of its inputs, that are of each group.

    A depthwise filter has no inputs of its own: without its output it is gone.
    """
    numbers = channels_of(architecture).numbers
    found = {}
    for group in groups:
        own = set(numbers[group.layers[0]])
        outputs = [np.mean([one in own for one in numbers[layer.name]]) for layer in listed]
        inputs = [
            0.0
            if is_depthwise(layer)
            else np.mean([one in own for one in numbers[layer.inputs[0]]])
            for layer in listed
        ]
        found[group.name] = np.array(outputs), np.array(inputs)
    return found
