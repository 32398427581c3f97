"""Does an imported network stay right at other sizes than the one it was traced at?

What a module computes from the size of its input, such as TensorFlow's SAME padding, is a number
in a trace. Two traces tell: what differs between them as SAME padding does becomes that padding;
where anything else differs, the network has one size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from featherweight.architecture import Architecture, Primitive
from featherweight.errors import ArchitectureError, FeatherweightError
from featherweight.layers import layers
from featherweight.networks.comparison import LARGEST, disagreement
from featherweight.nn.network import Network

__all__ = ["for_other_sizes", "random_pictures"]

Shape = tuple[int, int, int]


def random_pictures(input_shape: Shape) -> torch.Tensor:
    """Return two pictures (2, C, H, W) of noise, always the same."""
    return torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))


def for_other_sizes(
    module: nn.Module, network: Network, trace: Callable[[Shape], Network]
) -> Network:
    """Return the network with padding that follows the size, or marked as one of a fixed size.

    Args:
        module: what was imported, in eval mode.
        network: right at the size of its architecture.
        trace: imports the module at another size.
    """
    if _agrees(module, network):
        return network
    architecture = network.architecture
    try:
        other = trace(_opposite(architecture.input_shape)).architecture
    except FeatherweightError:  # it cannot be traced there: nothing is known of other sizes
        other = None
    if other is not None:
        flexible = _with_same_padding(architecture, other)
        if flexible is not None and _agrees(module, made := _rebuilt(network, flexible)):
            return made
    return _rebuilt(network, architecture.changed(fixed_size=True))


def _opposite(shape: Shape) -> Shape:
    """Return the next size whose halves round up wherever those of this one do not."""

    def of(size: int) -> int:
        other = ((size - 1) ^ 31) + 1
        return other if other > size else other + 32

    return shape[0], of(shape[1]), of(shape[2])


def _agrees(module: nn.Module, network: Network) -> bool:
    channels, height, width = network.architecture.input_shape
    larger = (channels, height + height // 3, width + width // 3)
    for shape in (_opposite((channels, height, width)), larger):
        try:
            if not disagreement(module, network, random_pictures(shape)) <= LARGEST:
                return False
        except Exception:  # noqa: BLE001 - foreign code: it does not run at that size
            return False
    return True


def _with_same_padding(first: Architecture, second: Architecture) -> Architecture | None:
    """Return `first` with SAME padding where the two differ; `None` where that does not explain it.

    Both are the same module, traced at two sizes.
    """
    if len(first.primitives) != len(second.primitives):
        return None
    primitives: list[Primitive] = []
    for one, other in zip(first.primitives, second.primitives, strict=True):
        same = one.model_copy(update={"padding": "same"})
        primitives.append(one if one == other else same)
    flexible = first.changed(primitives=tuple(primitives))
    for traced in (first, second):
        try:
            explained = layers(flexible.changed(input_shape=traced.input_shape))
        except ArchitectureError:
            return None
        plain = tuple(layer._replace(same=False) for layer in explained)
        if plain != layers(traced):
            return None
    return flexible


def _rebuilt(network: Network, architecture: Architecture) -> Network:
    made = Network(architecture)
    made.load_state_dict(network.state_dict())
    return made.eval()
