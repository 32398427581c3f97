"""Weights that networks of one space have in common: by the place and the kind of their blocks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from featherweight.architecture import BlockSpec
from featherweight.nn.network import Network, build_network
from featherweight.searching.space import Point, Space
from featherweight.training.muon import orthogonalised, takes_muon

__all__ = ["SharedWeights", "inherit_weights", "weight_keys"]

_CLASSIFIER_DEVIATION = 0.01
_DENSE_RATE = 0.2
"""Of the learning rate: the relative change of dense convolutions, as in `default_recipe`."""


def weight_keys(space: Space, point: Point) -> dict[str, str]:
    """Return what every tensor of a network is one with in other networks of the space.

    Blocks share weights at one place and of one kind, whatever their widths: the narrower has the
    first channels of the wider.

    Args:
        space: of the point.
        point: of the network.

    Returns:
        name in the network's state -> key.
    """
    return _path(space, point).keys


class _Path(NamedTuple):
    """What one network has of the shared weights.

    Attributes:
        network: without memory for its weights.
        keys: of its whole state.
        learning: name and shape of what learns.
        dense: names of the weights that Muon takes.
    """

    network: Network
    keys: dict[str, str]
    learning: dict[str, tuple[int, ...]]
    dense: frozenset[str]


def _path(space: Space, point: Point) -> _Path:
    architecture, places = space.decode(point), space.places(point)
    kinds, channels = [], architecture.input_shape[0]
    for place, block in zip(places, architecture.blocks, strict=True):
        kinds.append(f"{place}:{_kind(block, channels)}")
        channels = block.out_channels
    with torch.device("meta"):
        network = Network(architecture)
    last = places[-1].partition(".")[0]
    keys = {}
    for name in network.state_dict():
        part, _, rest = name.partition(".")
        index, _, within = rest.partition(".")
        keys[name] = f"{kinds[int(index)]}:{within}" if part == "blocks" else f"{last}:{name}"
    learning = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    dense = {f"{name}.weight" for name, one in network.named_modules() if takes_muon(one)}
    return _Path(network, keys, learning, frozenset(dense))


def _kind(block: BlockSpec, in_channels: int) -> str:
    expansion = 0 if block.hidden_channels is None else round(block.hidden_channels / in_channels)
    return f"{block.op} {block.kernel_size}x{block.kernel_size} x{expansion}"


def inherit_weights(
    space: Space, point: Point, *, donor: Point, state: Mapping[str, Tensor], seed: int
) -> Network:
    """Return the network of a point, freshly drawn but for what a trained one has in common.

    Args:
        space: of both.
        point: of the new network.
        donor: of the trained one.
        state: its tensors.
        seed: of what is drawn.
    """
    given = {key: state[name] for name, key in weight_keys(space, donor).items()}
    network = build_network(space.decode(point), seed=seed)
    own = network.state_dict()
    for name, key in weight_keys(space, point).items():
        if key in given:
            both = tuple(
                slice(min(sizes)) for sizes in zip(own[name].shape, given[key].shape, strict=True)
            )
            own[name][both] = given[key][both]
    return network


@dataclass
class SharedWeights:
    """One tensor for all that networks have in common, as large as the largest one needs it.

    Attributes:
        space: of the networks.
        seed: of first weights.
        weights: key -> tensor; grows with the points that are asked for.
        momenta: of the same shapes.
    """

    space: Space
    seed: int
    weights: dict[str, Tensor] = field(default_factory=dict)
    momenta: dict[str, Tensor] = field(default_factory=dict)
    _last: tuple[Point, _Path] | None = field(default=None, repr=False)

    def leaves(self, point: Point) -> dict[str, Tensor]:
        """Return copies of what a network has, by their names in it, to compute gradients of."""
        path = self._path(point)
        self._grow(path)
        return {
            name: self.weights[path.keys[name]][_first(shape)].clone().requires_grad_()
            for name, shape in path.learning.items()
        }

    def answer(self, point: Point, leaves: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Return logits (N, classes) of a network in training: norms take the batch's statistics.

        Args:
            point: of the network.
            leaves: its weights.
            images: (N, C, H, W), normalised.
        """
        network = self._path(point).network
        statistics = {
            name: torch.zeros_like(buffer, device=images.device)
            for name, buffer in network.named_buffers()
        }
        answers: Tensor = torch.func.functional_call(network, {**leaves, **statistics}, (images,))
        return answers

    def step(
        self, point: Point, gradients: Mapping[str, Tensor], *, rate: float, decay: float
    ) -> None:
        """Go one step in what a network has; the rest stays.

        Dense convolutions go the way of Muon (`training.muon`): `rate / 5` is their relative change
        and they do not decay. All else is SGD, both with Nesterov's momentum 0.9.

        Args:
            point: of the network.
            gradients: by the names of its weights; one that is missing is zero, and nothing moves.
            rate: learning rate.
            decay: of other weights with more than one axis.
        """
        path = self._path(point)
        for name, gradient in gradients.items():
            key, part = path.keys[name], _first(path.learning[name])
            weights, momentum = self.weights[key][part], self.momenta[key][part]
            is_dense = name in path.dense
            decays = gradient.dim() > 1 and not is_dense
            change = gradient.add(weights, alpha=decay) if decays else gradient
            momentum.mul_(0.9).add_(change)
            change = change.add(momentum, alpha=0.9)
            if is_dense:
                size = weights.norm() / math.sqrt(len(weights))
                change = _DENSE_RATE * size * orthogonalised(change)
            weights.sub_(change, alpha=rate)

    def network(self, point: Point) -> Network:
        """Return the network of a point with its weights; its norms know no pictures yet."""
        network = build_network(self.space.decode(point), seed=self.seed)
        with torch.no_grad():
            own = dict(network.named_parameters())
            for name, weights in self.leaves(point).items():
                own[name].copy_(weights)
        return network

    def _path(self, point: Point) -> _Path:
        """Return what a network has; one is asked several times in turn."""
        if self._last is None or self._last[0] != point:
            self._last = (point, _path(self.space, point))
        return self._last[1]

    def _grow(self, path: _Path) -> None:
        """Draw what a network needs and no network before it had."""
        for name, wanted in path.learning.items():
            key = path.keys[name]
            before = self.weights.get(key)
            shape = wanted
            if before is not None:
                shape = tuple(max(sizes) for sizes in zip(before.shape, wanted, strict=True))
                if shape == tuple(before.shape):
                    continue
            drawn = _drawn(name, shape, seed=self.seed + zlib.crc32(f"{key} {shape}".encode()))
            momentum = torch.zeros_like(drawn)
            if before is not None:
                drawn[_first(tuple(before.shape))] = before
                momentum[_first(tuple(before.shape))] = self.momenta[key]
            self.weights[key], self.momenta[key] = drawn, momentum


def _first(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(map(slice, shape))


def _drawn(name: str, shape: tuple[int, ...], *, seed: int) -> Tensor:
    """Return first weights: He-normal over fan-out, norms at one and zero, as `build_network`."""
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("norm.weight") else torch.zeros(shape)
    generator = torch.Generator().manual_seed(seed)
    deviation = _CLASSIFIER_DEVIATION
    if len(shape) == 4:
        filters = 1 if shape[1] == 1 else shape[0]  # of one group: depthwise has as many groups
        deviation = math.sqrt(2.0 / (filters * shape[2] * shape[3]))
    return torch.randn(shape, generator=generator) * deviation
