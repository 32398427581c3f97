"""The five ways to make a trained network faster, each to one latency: by name, one function each.

They know no command and no run directory: networks, pictures, a clock, and what changes save.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.by_knapsack import shrink_by_knapsack
from featherweight.adapting.changes import apply, changed
from featherweight.adapting.groups import Change, Drop
from featherweight.adapting.netadapt import Clock, Setting, netadapt
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving
from featherweight.adapting.step_watch import StepWatch
from featherweight.adapting.steps import Step
from featherweight.adapting.table import thin_everywhere
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.errors import UnsupportedError
from featherweight.networks.norms import with_carried_norms
from featherweight.nn.network import Network, resized
from featherweight.profiling.profile import profile
from featherweight.registry import Registry

__all__ = ["WAYS", "Means", "Smaller", "Way"]

logger = logging.getLogger(__name__)

_SIZE_STEP, _LEAST_SIZE = 8, 32
"""Pixels: sizes that are tried, and the smallest of them."""
_SHARES = tuple(share / 32 for share in range(4, 32))
"""Of all widths together."""
_LOOKS = 6
"""Networks measured at most where one of a row is looked for."""


@dataclass(frozen=True)
class Means:
    """What every way works with.

    Attributes:
        network: the trained parent, in eval mode; it stays as it is.
        start: latency of the parent, as it ships.
        target_ms: latency that is asked for.
        clock: measures whole networks, in turns, as they would ship.
        savings: measured of changes of the parent.
        importance: of the channels of each layer.
        pictures: normalised training pictures, (N, C, H, W), that norms are set by; about a
            hundred.
        repairs: whether weights that lose inputs are fitted again by these pictures.
        walk: the setting of NetAdapt, made when it is asked for.
        so_far: steps of NetAdapt that an earlier attempt made, and the network after them.
        told: called after every step of NetAdapt.
        watch: tells the time for NetAdapt's steps, which begins when it is asked for.
    """

    network: Network
    start: Latency
    target_ms: float
    clock: Clock
    savings: Sequence[Saving]
    importance: dict[str, NDArray[np.float64]]
    pictures: Tensor
    repairs: bool
    walk: Callable[[SavingModel], Setting]
    so_far: Callable[[], tuple[tuple[Step, ...], Network | None]] = lambda: ((), None)
    told: Callable[[Step, Network], None] = lambda _step, _network: None
    watch: Callable[[], StepWatch] = StepWatch

    def time(self, network: Architecture) -> Latency:
        """Measure one network."""
        (latency,) = self.clock([network])
        return latency

    @property
    def model(self) -> SavingModel:
        """What changes save together."""
        return SavingModel(self.network.architecture, self.savings, present_ms=self.start.median_ms)


@dataclass(frozen=True)
class Smaller:
    """A network that meets the latency, with the weights of the parent, not yet trained.

    Attributes:
        network: in eval mode.
        latency: measured as a whole.
        steps: of NetAdapt.
    """

    network: Network
    latency: Latency
    steps: tuple[Step, ...] = ()


Way = Callable[[Means], Smaller | None]
"""Returns `None` where the latency is out of reach this way."""

WAYS: Registry[Way] = Registry("way to adapt a network", plugins=__name__)


def _resolution(means: Means) -> Smaller | None:
    """The same network on smaller pictures."""
    parent = means.network.architecture
    if parent.fixed_size:
        raise UnsupportedError(
            f"{parent.name} has one size: it was imported at {parent.resolution} pixels",
            allowed="another method",
        )
    largest = (parent.resolution - 1) // _SIZE_STEP * _SIZE_STEP
    sizes = range(_LEAST_SIZE, largest + 1, _SIZE_STEP)
    found = _largest_that_fits(means, [parent.at_resolution(size) for size in sizes])
    if found is None:
        return None
    network, latency = found
    return Smaller(resized(means.network, network.resolution), latency)


def _width(means: Means) -> Smaller | None:
    """Every width by the same share: the width multiplier of MobileNetV1, on a trained network."""
    parent = means.network.architecture
    rows: dict[str, tuple[Architecture, tuple[Change, ...]]] = {}
    for share in _SHARES:
        changes = thin_everywhere(parent, share)
        if not changes:  # groups of a shuffle may not have this width: the next one
            continue
        thin = changed(parent, changes)
        rows.setdefault(thin.digest, (thin, changes))
    found = _largest_that_fits(means, [thin for thin, _ in rows.values()])
    if found is None:
        return None
    thin, latency = found
    return Smaller(_cut(means, rows[thin.digest][1]), latency)


def _knapsack(means: Means) -> Smaller | None:
    """Widths and branches chosen at once for the importance they keep (HALP, arXiv 2110.10811)."""
    return _by_knapsack(means, means.savings)


def _depth(means: Means) -> Smaller | None:
    """Whole branches, and nothing else."""
    return _by_knapsack(means, [one for one in means.savings if isinstance(one.change, Drop)])


def _by_knapsack(means: Means, savings: Sequence[Saving]) -> Smaller | None:
    if not any(saving.saved_ms > 0.0 for saving in savings):
        return None
    found = shrink_by_knapsack(
        means.network,
        importance=means.importance,
        pictures=means.pictures,
        savings=savings,
        time_network=means.time,
        present_ms=means.start.median_ms,
        target_ms=means.target_ms,
        name=means.network.architecture.name,
        repairs=means.repairs,
    )
    return None if found is None else Smaller(found.network, found.latency)


def _netadapt(means: Means) -> Smaller | None:
    """Step by step, each the least harmful of several (NetAdapt, arXiv 1804.03230)."""
    so_far, network = means.so_far()
    watch = means.watch()
    found = netadapt(
        network or means.network,
        means.walk(means.model),
        target_ms=means.target_ms,
        so_far=so_far,
        told=means.told,
        steps_left=watch.steps_left,
        is_over=watch.is_over,
    )
    if found.ended != "met":
        logger.info("netadapt: ended at %.3f ms: %s", found.latency.median_ms, found.ended)
        return None
    return Smaller(found.network, found.latency, found.steps)


class _Fitting(NamedTuple):
    architecture: Architecture
    latency: Latency


def _largest_that_fits(means: Means, row: Sequence[Architecture]) -> _Fitting | None:
    """Return the largest network of a row, from small to large, that measures within the target.

    The first one measured is that which the multiply-adds predict, then that which they predict
    through the parent and the last one measured, between what fits and what does not.
    """
    macs = [float(profile(one).macs or 0) for one in row]
    whole, whole_ms = float(profile(means.network.architecture).macs or 1), means.start.median_ms
    best: _Fitting | None = None
    low, high, ms_per_mac = -1, len(row), whole_ms / whole
    for _ in range(_LOOKS):
        if high - low < 2:
            break
        room = (whole_ms - means.target_ms) / ms_per_mac
        guess = sum(one <= whole - room for one in macs) - 1
        position = min(max(guess, low + 1), high - 1)
        latency = means.time(row[position])
        if latency.median_ms <= means.target_ms:
            best, low = _Fitting(row[position], latency), position
        else:
            high = position
        if whole > macs[position] and whole_ms > latency.median_ms:
            ms_per_mac = (whole_ms - latency.median_ms) / (whole - macs[position])
    return best


def _cut(means: Means, changes: Sequence[Change]) -> Network:
    plainly = functools.partial(apply, changes=changes, importance=means.importance)
    repaired = functools.partial(plainly, repaired_by=means.pictures if means.repairs else None)
    return with_carried_norms(means.network, repaired, means.pictures, plainly=plainly)


WAYS.add("resolution", _resolution)
WAYS.add("width", _width)
WAYS.add("knapsack", _knapsack)
WAYS.add("depth", _depth)
WAYS.add("netadapt", _netadapt)
