"""First weights of a ghost module: which channels it computes, and filters that give the others.

Every channel that is not computed is the least-squares fit of one computed channel, filtered by a
small window. Which channels are computed, and which is made of which, follows from all pairs: the
best fits are taken first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["CheapFit", "fit_cheap"]

_POSITIONS, _VALUES = 8192, 4_000_000
"""That are looked at of a map, and of all its maps together: windows of them are held at once."""
_SOURCES = 64
"""Whose fits to all channels are solved at once."""
_CONSTANT = 1e-10
"""A channel whose variance is less, as a share of the largest, is constant."""
_RIDGE = 1e-3
"""Of the mean square of what is read."""


class CheapFit(NamedTuple):
    """How a ghost module takes the place of a convolution.

    Attributes:
        order: (n,) channels of the convolution in the order of the module's: those it computes,
            then what its filters give.
        filters: (m (s - 1), d, d) of the depthwise convolution; zero where a channel is cut off.
        bias: (m (s - 1),).
        mean, variance: (m (s - 1),) of what the filters give, without the bias.
        explained: share of the variance, after the activation, of the channels that are not
            computed.
    """

    order: NDArray[np.int64]
    filters: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    explained: float


def fit_cheap(
    maps: Tensor,
    activation: Callable[[Tensor], Tensor],
    *,
    ratio: int,
    kernel_size: int,
    may_reorder: bool,
    seed: int,
) -> CheapFit:
    """Fit the cheap filters of a ghost module to what a convolution gave.

    Source: the module is that of GhostNet, arXiv 1911.11907, section 3.1; the fit is our own.

    Args:
        maps: (N, n, H, W) of the convolution, after its norm and before its activation.
        activation: what follows it, and the filters too; these read what it gives.
        ratio: s; the module computes m = ceil(n / s) channels.
        kernel_size: side d of the filters.
        may_reorder: whether the channels may change their places.
        seed: of the positions that are looked at.
    """
    channels = maps.shape[1]
    computed = -(-channels // ratio)
    active = activation(maps)  # what filters read, and what readers of the module see
    # What the filters give is activated again: that changes what ReLU gave no more, but hard-swish.
    target = active if torch.equal(activation(active), active) else maps
    read, wanted, seen = _columns(active, target, kernel_size=kernel_size, seed=seed)
    if may_reorder:
        sources = _chosen(_shares_left(read, wanted), computed, ratio - 1)
    else:
        rest = range(computed, channels)
        sources = {channel: place // (ratio - 1) for place, channel in enumerate(rest)}
    dependents = list(sources)
    first = list(dict.fromkeys(sources.values()))
    first += [one for one in range(channels) if one not in sources and one not in first]
    if not may_reorder:
        first = list(range(computed))
    return _fitted(
        first, dependents, sources, read, wanted, seen, activation, slots=computed * (ratio - 1)
    )


def _chosen(residuals: NDArray[np.float64], computed: int, each: int) -> dict[int, int]:
    """Return which channel each channel is made of that is not computed, one source after another.

    Every source has `each` channels, but the last one, which may have fewer: what its filters give
    beyond them is cut off.

    Args:
        residuals: (channel, source): share of the channel's variance that the source leaves.
        computed: how many channels there are to be that are sources or stay by themselves.
        each: channels that one source gives.
    """
    channels = len(residuals)
    full, left = divmod(channels - computed, each)
    rooms = [each] * full + ([left] if left else [])
    opened: dict[int, list[int]] = {}
    taken: set[int] = set()
    for pair in np.argsort(residuals, axis=None, kind="stable").tolist():
        channel, source = divmod(pair, channels)
        if channel == source or channel in taken or channel in opened or source in taken:
            continue
        if source not in opened:
            if len(opened) == len(rooms):
                continue
            opened[source] = []
        place = list(opened).index(source)
        if len(opened[source]) < rooms[place]:
            opened[source].append(channel)
            taken.add(channel)
        if len(taken) == channels - computed:
            break
    return {channel: source for source, found in opened.items() for channel in found}


def _columns(
    given: Tensor, wanted: Tensor, *, kernel_size: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return windows (n, P, d d + 1) of all channels, with a 1, and both maps at their middle.

    These are (P, n) each: what is wanted, and what was given.
    """
    pictures, channels, height, width = given.shape
    half = kernel_size // 2
    padded = functional.pad(given, (half, half, half, half))
    generator = torch.Generator().manual_seed(seed)
    places = pictures * height * width
    count = min(_POSITIONS, places, max(256, _VALUES // (channels * (kernel_size**2 + 1))))
    flat = torch.randperm(places, generator=generator)[:count]
    picture, place = flat // (height * width), flat % (height * width)
    row, column = place // width, place % width
    windows = [
        padded[picture, :, row + dy, column + dx]
        for dy in range(kernel_size)
        for dx in range(kernel_size)
    ]
    read = torch.stack([*windows, given.new_ones(count, channels)], dim=2).transpose(0, 1)
    targets, seen = (one[picture, :, row, column].double() for one in (wanted, given))
    return read.double(), targets, seen


def _solve(read: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return least-squares solutions (source, d d + 1, channel), and what they miss.

    What is missed is the mean square (source, channel).
    """
    gram = read.transpose(1, 2) @ read / read.shape[1]
    squares = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    ridge = _RIDGE * squares[:, None, None] * torch.eye(gram.shape[1], dtype=torch.float64)
    products = read.transpose(1, 2) @ wanted / read.shape[1]
    solutions = torch.linalg.solve(gram + ridge, products)
    given = 2 * (solutions * products).sum(1) - (solutions * (gram @ solutions)).sum(1)
    return solutions, (wanted**2).mean(0)[None] - given


def _shares_left(read: Tensor, wanted: Tensor) -> NDArray[np.float64]:
    """Return the share of each channel's variance that each source leaves: (channel, source).

    That of a constant channel is 0: a bias gives all of it.
    """
    missed = torch.cat([_solve(part, wanted)[1] for part in torch.split(read, _SOURCES)])
    variance = wanted.var(0, correction=0)
    varies = variance > _CONSTANT * variance.max().clamp_min(1e-300)
    shares = torch.where(varies, missed / variance.clamp_min(1e-300), torch.zeros(()).double())
    return np.asarray(shares.T.numpy())


def _fitted(
    first: Sequence[int],
    dependents: Sequence[int],
    sources: Mapping[int, int],
    read: Tensor,
    wanted: Tensor,
    seen: Tensor,
    activation: Callable[[Tensor], Tensor],
    *,
    slots: int,
) -> CheapFit:
    """Return the fits of the channels that are not computed, each from its source.

    `wanted` is what filters are fitted to, `seen` what readers saw, `activation` lies between.
    """
    side = round((read.shape[2] - 1) ** 0.5)
    filters = torch.zeros(slots, side, side, dtype=torch.float64)
    bias, mean = torch.zeros(slots, dtype=torch.float64), torch.zeros(slots, dtype=torch.float64)
    variance = torch.ones(slots, dtype=torch.float64)
    missed = 0.0
    for slot, channel in enumerate(dependents):
        windows, target = read[sources[channel]][None], wanted[:, [channel]]
        solution = _solve(windows, target)[0][0, :, 0]
        given = windows[0, :, :-1] @ solution[:-1]
        filters[slot] = solution[:-1].reshape(side, side)
        bias[slot] = solution[-1]
        mean[slot], variance[slot] = given.mean(), given.var(correction=0).clamp_min(1e-8)
        missed += float((seen[:, channel] - activation(given + bias[slot])).square().mean())
    spread = float(seen[:, list(dependents)].var(dim=0, correction=0).sum()) or 1.0
    return CheapFit(
        order=np.array([*first, *dependents], dtype=np.int64),
        filters=filters.float(),
        bias=bias.float(),
        mean=mean.float(),
        variance=variance.float(),
        explained=1.0 - missed / spread,
    )
