"""Weights of a wide network for a thin one of the same layers: the most important channels.

Source: Xu et al., Initializing Models with Larger Ones, ICLR 2024, arXiv 2311.18823 (weights of
a larger network as the start of a smaller one); importance: L2 norm of filters, NetAdapt, arXiv
1804.03230, section 3.3, here with the norm after the convolution multiplied in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError, UsageError
from featherweight.layers import INPUT, Layer, layers
from featherweight.nn.network import Network

__all__ = ["kept_channels", "norms_of", "recalibrate_norms", "slice_network"]

_SAME_CHANNELS = frozenset({"activation", "pool", "global_pool"})


def slice_network(
    wide: Network,
    thin: Architecture,
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
) -> Network:
    """Return the thin network with the wide one's most important channels, in eval mode.

    Channels that are added to each other, or that a depthwise convolution or a gate ties
    together, are kept or left out together. Norm statistics are those of the wide network:
    `recalibrate_norms`, or a training, adapts them.

    Args:
        wide: its layers are those of `thin` with at least as many channels.
        thin: the same number of classes and input channels; any resolution.
        importance: of the channels of some layers, instead of the L2 norm of their filters.

    Raises:
        UsageError: `thin` is not a thinner form of `wide`.
        UnsupportedError: channels are concatenated, selected, shuffled or grouped.
    """
    kept = kept_channels(wide, thin, importance=importance)
    weights = wide.state_dict()
    sliced: dict[str, Tensor] = {}
    for layer in layers(wide.architecture):
        if layer.op not in {"conv", "linear"}:
            continue
        outputs = torch.from_numpy(kept[layer.name])
        inputs = torch.from_numpy(kept[layer.inputs[0]])
        prefix = f"{layer.name}.conv" if layer.op == "conv" else layer.name
        weight = weights[f"{prefix}.weight"][outputs]
        if layer.groups == 1:
            weight = weight[:, _columns(weight, inputs, layer)]
        sliced[f"{prefix}.weight"] = weight
        for name in (f"{prefix}.bias", *(f"{layer.name}.norm.{part}" for part in _NORM_PARTS)):
            if name in weights:
                sliced[name] = weights[name][outputs]
    network = Network(thin)
    network.load_state_dict({**network.state_dict(), **sliced})
    return network.eval()


_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _columns(weight: Tensor, inputs: Tensor, layer: Layer) -> Tensor:
    """Columns of a weight that read the kept channels; a linear layer may read whole maps."""
    places = weight.shape[1] // layer.input_shape[0]
    return (inputs[:, None] * places + torch.arange(places)).flatten()


def kept_channels(
    wide: Network,
    thin: Architecture,
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, np.ndarray]:
    """Return the channels of the wide network that the thin one has, ascending.

    Args, Raises: see `slice_network`.

    Returns:
        int64 positions for the output of every layer, and for the input.
    """
    wide_layers, thin_layers = layers(wide.architecture), layers(thin)
    counts = _thin_counts(wide_layers, thin_layers, wide=wide.architecture, thin=thin)
    ids = _channel_ids(wide_layers, wide.architecture.input_shape[0])
    worth = _importance(wide, wide_layers, ids)
    for name, given in (importance or {}).items():
        worth.update(zip(ids[name], given.tolist(), strict=True))
    chosen: set[int] = set()
    for atom, count in _atom_counts(ids, counts):
        ranked = sorted(atom, key=lambda channel: -worth.get(channel, 0.0))
        chosen.update(ranked[:count])
    return {
        name: np.flatnonzero([channel in chosen for channel in channels])
        for name, channels in ids.items()
    }


def _thin_counts(
    wide_layers: Sequence[Layer],
    thin_layers: Sequence[Layer],
    *,
    wide: Architecture,
    thin: Architecture,
) -> dict[str, int]:
    def form(listed: Sequence[Layer]) -> list[tuple[object, ...]]:
        return [(x.name, x.op, x.inputs, x.kernel_size, x.function) for x in listed]

    counts = {INPUT: thin.input_shape[0]} | {x.name: x.output_shape[0] for x in thin_layers}
    wider = {INPUT: wide.input_shape[0]} | {x.name: x.output_shape[0] for x in wide_layers}
    narrow = [name for name in wider if counts.get(name, 0) > wider[name]]
    fixed = (wide.input_shape[0], wide.num_classes) == (thin.input_shape[0], thin.num_classes)
    if form(wide_layers) != form(thin_layers) or narrow or not fixed:
        raise UsageError(
            f"{thin.name} is not a thinner form of {wide.name}",
            allowed="the same layers, classes and input channels, fewer channels inside",
        )
    return counts


class _Channels:
    """Numbers channels; those that are tied have one number."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def new(self, count: int) -> list[int]:
        first = len(self._parent)
        self._parent += range(first, first + count)
        return list(range(first, first + count))

    def root(self, channel: int) -> int:
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return channel

    def tie(self, first: Sequence[int], second: Sequence[int]) -> None:
        for one, other in zip(first, second, strict=True):
            self._parent[self.root(other)] = self.root(one)


def _channel_ids(listed: Sequence[Layer], input_channels: int) -> dict[str, list[int]]:
    """Return the number of every channel of every layer's output."""
    channels = _Channels()
    ids = {INPUT: channels.new(input_channels)}
    for layer in listed:
        given = [ids[name] for name in layer.inputs]
        width = layer.output_shape[0]
        if layer.op in _SAME_CHANNELS or (layer.op == "conv" and layer.groups == width > 1):
            ids[layer.name] = given[0]
        elif layer.op == "linear" or (layer.op == "conv" and layer.groups == 1):
            ids[layer.name] = channels.new(width)
        elif layer.op in {"add", "multiply"}:
            channels.tie(given[0], given[1])
            ids[layer.name] = given[0]
        elif layer.op == "pad":
            ids[layer.name] = [*given[0], *channels.new(width - len(given[0]))]
        else:
            raise UnsupportedError(
                f"{layer.name}: channels that are grouped or moved ({layer.op}) cannot be sliced",
                allowed="networks whose channels are only added and scaled",
            )
    return {name: [channels.root(channel) for channel in given] for name, given in ids.items()}


class _Atom(NamedTuple):
    """Channels that appear in exactly the same layers, and how many of them stay."""

    channels: tuple[int, ...]
    kept: int


def _atom_counts(ids: dict[str, list[int]], counts: dict[str, int]) -> list[_Atom]:
    """Split the channels so that every layer's width is a sum of atoms; solve for their counts."""
    places: dict[int, set[str]] = {}
    for name, channels in ids.items():
        for channel in channels:
            places.setdefault(channel, set()).add(name)
    atoms: dict[frozenset[str], list[int]] = {}
    for channel, names in places.items():
        atoms.setdefault(frozenset(names), []).append(channel)
    solved: dict[frozenset[str], int] = {}
    while len(solved) < len(atoms):
        before = len(solved)
        for name, width in counts.items():
            parts = [key for key in atoms if name in key]
            unknown = [key for key in parts if key not in solved]
            if len(unknown) == 1:
                rest = width - sum(solved[key] for key in parts if key in solved)
                solved[unknown[0]] = rest
        if len(solved) == before:
            raise UnsupportedError("widths that depend on each other cannot be sliced")
    for key, count in solved.items():
        if not 0 <= count <= len(atoms[key]):
            raise UnsupportedError(f"{min(key)}: {count} of {len(atoms[key])} channels cannot stay")
    return [_Atom(tuple(atoms[key]), solved[key]) for key in atoms]


def _importance(
    network: Network, listed: Sequence[Layer], ids: dict[str, list[int]]
) -> dict[int, float]:
    """Return the L2 norm of what computes each channel, over the mean of its layer, summed."""
    found: dict[int, float] = {}
    for layer in listed:
        if layer.op not in {"conv", "linear"}:
            continue
        module = network.get_submodule(layer.name)
        core = module.get_submodule("conv") if layer.op == "conv" else module
        norms = core.get_parameter("weight").detach().flatten(1).norm(dim=1)
        if layer.norm_eps is not None:
            norm = module.get_submodule("norm")
            scale = (norm.get_buffer("running_var") + layer.norm_eps).rsqrt()
            norms = norms * scale * norm.get_parameter("weight").detach().abs()
        shares = (norms / norms.mean().clamp_min(1e-12)).tolist()
        for channel, share in zip(ids[layer.name], shares, strict=True):
            found[channel] = found.get(channel, 0.0) + share
    return found


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the batch norms of a network in their order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def recalibrate_norms(network: Network, batches: Iterable[Tensor]) -> None:
    """Replace the statistics of all norms by those of some batches, in place.

    Args:
        network: its mode and weights stay.
        batches: normalised pictures (N, C, H, W); some hundred pictures in all.

    Raises:
        UsageError: no batch was given.
    """
    norms = norms_of(network)
    before = [norm.momentum for norm in norms]
    training, seen = network.training, 0
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    try:
        network.train()
        with torch.no_grad():
            for images in batches:
                network(images)
                seen += 1
    finally:
        network.train(mode=training)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
    if norms and not seen:
        raise UsageError("norms cannot be recalibrated without pictures")
