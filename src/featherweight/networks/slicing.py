"""Weights of a wide network for a thin one of the same layers: the most important channels.

Source: Xu et al., Initializing Models with Larger Ones, ICLR 2024, arXiv 2311.18823 (weights of
a larger network as the start of a smaller one); importance: L2 norm of filters, NetAdapt, arXiv
1804.03230, section 3.3, here with the norm after the convolution multiplied in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError, UsageError
from featherweight.layers import Layer, layers
from featherweight.networks.channels import Kind, channels_of, is_depthwise
from featherweight.nn.network import Network

__all__ = ["filter_norms", "kept_channels", "norms_of", "recalibrate_norms", "slice_network"]


def slice_network(
    wide: Network,
    thin: Architecture,
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    kept: Mapping[str, NDArray[np.int64]] | None = None,
) -> Network:
    """Return the thin network with the wide one's most important channels, in eval mode.

    Channels that are added to each other, or that a depthwise convolution or a gate ties
    together, are kept or left out together. Norm statistics are those of the wide network:
    `recalibrate_norms`, or a training, adapts them.

    Args:
        wide: its layers are those of `thin` with at least as many channels.
        thin: the same number of classes and input channels; any resolution.
        importance: of the channels of some layers, instead of the L2 norm of their filters.
        kept: what `kept_channels` says, where that is known.

    Raises:
        UsageError: `thin` is not a thinner form of `wide`.
        UnsupportedError: shuffled, selected or grouped channels of `thin` have no counterparts.
    """
    if kept is None:
        kept = kept_channels(wide, thin, importance=importance)
    weights = wide.state_dict()
    sliced: dict[str, Tensor] = {}
    for layer in layers(wide.architecture):
        if layer.op not in {"conv", "linear"}:
            continue
        outputs, inputs = kept[layer.name], kept[layer.inputs[0]]
        prefix = f"{layer.name}.conv" if layer.op == "conv" else layer.name
        sliced[f"{prefix}.weight"] = _sliced(weights[f"{prefix}.weight"], outputs, inputs, layer)
        for name in (f"{prefix}.bias", *(f"{layer.name}.norm.{part}" for part in _NORM_PARTS)):
            if name in weights:
                sliced[name] = weights[name][torch.from_numpy(outputs)]
        if layer.norm_eps is not None:
            sliced[f"{layer.name}.norm.num_batches_tracked"] = torch.tensor(0)
    with torch.device("meta"):  # nothing is drawn
        network = Network(thin)
    network.load_state_dict(sliced, assign=True)
    return network.eval()


_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _sliced(
    weight: Tensor, outputs: NDArray[np.int64], inputs: NDArray[np.int64], layer: Layer
) -> Tensor:
    """Return the rows and columns of a weight that compute kept outputs from kept inputs."""
    rows = weight[torch.from_numpy(outputs)]
    if is_depthwise(layer):
        return rows
    places = weight.shape[1] * layer.groups // layer.input_shape[0]  # of a flattened map
    size = layer.input_shape[0] // layer.groups
    groups = zip(rows.chunk(layer.groups), np.split(inputs, layer.groups), strict=True)
    return torch.cat([_columns(part, read % size, places) for part, read in groups])


def _columns(weight: Tensor, inputs: NDArray[np.int64], places: int) -> Tensor:
    """Columns of a weight that read the kept channels; a linear layer may read whole maps."""
    columns = inputs[:, None] * places + np.arange(places)
    return weight[:, torch.from_numpy(columns.flatten())]


def kept_channels(
    wide: Network,
    thin: Architecture,
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return which channel of the wide network each channel of the thin one is.

    Args, Raises: see `slice_network`.

    Returns:
        positions in the output of every layer, and in the input; ascending but where channels are
        shuffled.
    """
    given, wanted = channels_of(wide.architecture), channels_of(thin)
    _check_form(given.layers, wanted.layers, wide=wide.architecture, thin=thin)
    worth = filter_norms(wide)
    for name, values in (importance or {}).items():
        worth.update(zip(given.numbers[name], values.tolist(), strict=True))
    origin = _counterparts(given.kinds, wanted.kinds, worth)
    return {
        name: _positions([origin[one] for one in wanted.numbers[name]], given.numbers[name])
        for name in given.numbers
    }


def _check_form(
    wide_layers: Sequence[Layer],
    thin_layers: Sequence[Layer],
    *,
    wide: Architecture,
    thin: Architecture,
) -> None:
    def form(listed: Sequence[Layer]) -> list[tuple[object, ...]]:
        return [
            (x.name, x.op, x.inputs, x.kernel_size, x.function, is_depthwise(x) or x.groups)
            for x in listed
        ]

    narrow = [
        one.name
        for one, other in zip(wide_layers, thin_layers, strict=False)
        if other.output_shape[0] > one.output_shape[0]
    ]
    fixed = (wide.input_shape[0], wide.num_classes) == (thin.input_shape[0], thin.num_classes)
    if form(wide_layers) != form(thin_layers) or narrow or not fixed:
        raise UsageError(
            f"{thin.name} is not a thinner form of {wide.name}",
            allowed="the same layers, classes and input channels, fewer channels inside",
        )


def _counterparts(
    wide: Mapping[int, Kind], thin: Mapping[int, Kind], worth: Mapping[int, float]
) -> dict[int, int]:
    """Return which channel of the wide network each of the thin one becomes.

    Channels of one kind can replace each other: the most important ones stay, in their order.
    """
    offered: dict[Kind, list[int]] = {}
    for number, kind in wide.items():
        offered.setdefault(kind, []).append(number)
    wanted: dict[Kind, list[int]] = {}
    for number, kind in thin.items():
        wanted.setdefault(kind, []).append(number)
    origin: dict[int, int] = {}
    for kind, numbers in wanted.items():
        alike = offered.get(kind, [])
        if len(numbers) > len(alike):
            raise UnsupportedError(
                f"{kind[0][0]}: {len(numbers)} channels cannot be taken from {len(alike)} that "
                "go the same way (they are shuffled, selected or grouped)",
                allowed="widths for which every group and half keeps at most what it has",
            )
        chosen = set(sorted(alike, key=lambda one: -worth.get(one, 0.0))[: len(numbers)])
        origin.update(zip(numbers, (one for one in alike if one in chosen), strict=True))
    return origin


def _positions(wanted: Sequence[int], given: Sequence[int]) -> NDArray[np.int64]:
    """Return where numbers are in `given`; one that appears again is its next place there."""
    places: dict[int, list[int]] = {}
    for position, number in enumerate(given):
        places.setdefault(number, []).append(position)
    following = {number: iter(found) for number, found in places.items()}
    return np.array([next(following[number]) for number in wanted], dtype=np.int64)


def filter_norms(network: Network) -> dict[int, float]:
    """Return the L2 norm of what computes each channel, over the mean of its layer, summed."""
    found: dict[int, float] = {}
    listed, numbers, _ = channels_of(network.architecture)
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
        for channel, share in zip(numbers[layer.name], shares, strict=True):
            found[channel] = found.get(channel, 0.0) + share
    return found


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the batch norms of a network in their order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def recalibrate_norms(
    network: nn.Module,
    batches: Iterable[Tensor],
    *,
    norms: Sequence[nn.BatchNorm2d] | None = None,
) -> None:
    """Replace the statistics of norms by those of some batches, in place.

    Args:
        network: its mode and weights stay.
        batches: normalised pictures (N, C, H, W); some hundred pictures in all.
        norms: which; the others keep theirs. `None` = all.

    Raises:
        UsageError: no batch was given.
    """
    norms = norms_of(network) if norms is None else norms
    before = [norm.momentum for norm in norms]
    training, seen = network.training, 0
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    try:
        network.eval()
        for norm in norms:
            norm.train()
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
