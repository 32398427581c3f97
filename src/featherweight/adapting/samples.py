"""What convolutions and linear layers read at some positions of some pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.adapting.redundancy import Covariance
from featherweight.layers import Layer
from featherweight.nn.network import Conv, Network

__all__ = ["before_readers", "covariances", "draw_positions", "read_columns", "weight_of"]


def weight_of(network: Network, layer: Layer) -> nn.Parameter:
    """Return the weight of a convolution or linear layer, (O, I / groups, ...)."""
    module = network.get_submodule(layer.name)
    core = module.get_submodule("conv") if layer.op == "conv" else module
    return core.get_parameter("weight")


def draw_positions(layer: Layer, *, pictures: int, points: int, seed: int) -> Tensor:
    """Draw positions in a layer's output: (P, 2) of picture and place, `points` of each picture.

    Source: He et al. 2017, arXiv 1707.06168, section 3.2 (ten points of each picture).
    """
    places = 1 if layer.op == "linear" else layer.output_shape[1] * layer.output_shape[2]
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(pictures).repeat_interleave(points)
    return torch.stack([rows, torch.randint(places, rows.shape, generator=generator)], dim=1)


def read_columns(network: Network, layer: Layer, x: Tensor, positions: Tensor) -> Tensor:
    """Return what a layer reads at positions, (P, I, K): K pixels of each input channel."""
    if layer.op == "linear":
        return torch.flatten(x, 1)[positions[:, 0]].reshape(
            len(positions), layer.input_shape[0], -1
        )
    module = network.get_submodule(layer.name)
    assert isinstance(module, Conv)
    padded = functional.pad(module.padded(x), _rest(module))
    side = layer.kernel_size
    taken = x.new_empty(len(positions), layer.input_shape[0] * side * side)
    for picture in range(len(padded)):  # the columns of all pictures together are gigabytes
        columns = functional.unfold(padded[picture : picture + 1], side, stride=layer.stride)[0]
        rows = positions[:, 0] == picture
        taken[rows] = columns[:, positions[rows, 1]].T
    return taken.reshape(len(positions), layer.input_shape[0], side * side)


def _rest(module: Conv) -> list[int]:
    """Return the padding that the convolution itself adds: left, right, top, bottom."""
    padding = module.conv.padding
    assert not isinstance(padding, str)
    return [padding[1], padding[1], padding[0], padding[0]]


@contextmanager
def before_readers(
    network: Network, readers: Sequence[Layer], visit: Callable[[Layer, Tensor], None]
) -> Iterator[None]:
    """Call `visit` with what each reader is about to read, right before it computes."""

    def hook(layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: visit(layer, inputs[0])

    handles = [
        network.get_submodule(layer.name).register_forward_pre_hook(hook(layer))
        for layer in readers
    ]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


_MOST_PLACES = 256
"""Of each picture that a covariance looks at, about: neighbours say nearly the same."""
_FEWEST_PLACES, _PLACES_A_CHANNEL = 64, 40
"""Of each picture, and of all for each channel, where it is known how many there are: a matrix of
twice the channels costs four times as much for each place, and needs twice as many."""


def covariances(
    network: Network,
    readers: Sequence[Layer],
    pictures: Iterable[Tensor],
    *,
    count: int | None = None,
) -> dict[str, Covariance]:
    """Return the covariance of the channels of every map that some layers read.

    Maps are looked at while the network computes, and not kept.

    Args:
        network: in eval mode.
        readers: convolutions and linear layers of it.
        pictures: batches, normalised (N, C, H, W).
        count: how many pictures come; of many fewer places of each are enough.

    Returns:
        name of the map -> its covariance.
    """
    first = {layer.inputs[0]: layer for layer in reversed(readers)}
    found = {name: Covariance() for name in first}

    def visit(layer: Layer, x: Tensor) -> None:
        map_ = x if x.dim() == 4 else x[..., None, None]
        places = _MOST_PLACES
        if count is not None:
            enough = math.ceil(_PLACES_A_CHANNEL * map_.shape[1] / count)
            places = min(places, max(_FEWEST_PLACES, enough))
        step = math.ceil(math.sqrt(map_.shape[2] * map_.shape[3] / places))
        chosen = map_[:, :, step // 2 :: step, step // 2 :: step]
        rows = chosen.permute(0, 2, 3, 1).reshape(-1, map_.shape[1])
        found[layer.inputs[0]].add(rows.float().numpy())

    with before_readers(network, list(first.values()), visit):
        for images in pictures:
            network(images)
    return found
