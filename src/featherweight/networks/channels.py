"""Which channels of a network are one: they are added, scaled or filtered one by one.

Every channel of every map has a number. Channels that can only stay or go together share one: both
operands of an addition, a map and its gate, the input and the outputs of a depthwise filter. Maps
that are concatenated, selected from or shuffled keep the numbers of their channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError
from featherweight.layers import INPUT, Layer, layers

__all__ = ["ChannelMap", "Kind", "Numbers", "channels_of", "is_depthwise", "mixes_channels"]

Numbers = Mapping[str, Sequence[int]]
"""Layer, or the input -> the number of each channel of its output."""

Kind = tuple[tuple[str, int], ...]
"""Where a channel is, place by place: a map, and the group of a grouped convolution."""


def is_depthwise(layer: Layer) -> bool:
    """Whether a convolution filters every channel by itself, into one or several."""
    return layer.op == "conv" and layer.groups == layer.input_shape[0] > 1


def mixes_channels(layer: Layer) -> bool:
    """Whether a layer computes new channels from those that it reads."""
    return layer.op == "linear" or (layer.op == "conv" and not is_depthwise(layer))


class ChannelMap(NamedTuple):
    """The channels of a network.

    Attributes:
        layers: of the network.
        numbers: layer, or the input -> the number of each channel of its output.
        kinds: number -> where the channel is, in the order of their first appearance. Channels of
            one kind are alike to every layer: a thinner network may keep any of them.
    """

    layers: tuple[Layer, ...]
    numbers: Numbers
    kinds: Mapping[int, Kind]


@functools.lru_cache(maxsize=64)
def channels_of(architecture: Architecture) -> ChannelMap:
    """Number the channels of every layer's output, and of the input.

    Raises:
        UnsupportedError: a layer of unknown kind.
    """
    listed = layers(architecture)
    numbers = _numbered(listed, input_channels=architecture.input_shape[0])
    return ChannelMap(listed, numbers, _kinds(listed, numbers))


def _numbered(listed: Sequence[Layer], *, input_channels: int) -> dict[str, list[int]]:
    channels = _Channels()
    numbers = {INPUT: channels.new(input_channels)}
    for layer in listed:
        if layer.op not in _OUTPUTS:
            raise UnsupportedError(
                f"{layer.name}: what {layer.op!r} does with its channels is unknown"
            )
        given = [numbers[name] for name in layer.inputs]
        numbers[layer.name] = _OUTPUTS[layer.op](layer, given, channels)
    return {name: [channels.root(one) for one in given] for name, given in numbers.items()}


def _kinds(listed: Sequence[Layer], numbers: Numbers) -> dict[int, Kind]:
    grouped = {
        layer.name: layer
        for layer in listed
        if layer.op == "conv" and layer.groups > 1 and not is_depthwise(layer)
    }
    places: dict[int, list[tuple[str, int]]] = {}

    def note(place: str, given: Sequence[int], groups: int) -> None:
        size = -(-len(given) // groups)
        marks = [(place, group) for group in range(groups)]
        for position, number in enumerate(given):
            places.setdefault(number, []).append(marks[position // size])

    for name, given in numbers.items():
        note(name, given, grouped[name].groups if name in grouped else 1)
    for layer in grouped.values():
        note(f"{layer.name}.read", numbers[layer.inputs[0]], layer.groups)
    return {number: tuple(found) for number, found in places.items()}


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


def _selected(layer: Layer, given: Sequence[list[int]], _: _Channels) -> list[int]:
    return given[0][layer.first_channel : layer.first_channel + layer.output_shape[0]]


def _shuffled(layer: Layer, given: Sequence[list[int]], _: _Channels) -> list[int]:
    size = len(given[0]) // layer.groups
    return [
        given[0][group * size + place] for place in range(size) for group in range(layer.groups)
    ]


def _convolved(layer: Layer, given: Sequence[list[int]], channels: _Channels) -> list[int]:
    width = layer.output_shape[0]
    if not is_depthwise(layer):
        return channels.new(width)
    each = width // len(given[0])
    return [number for number in given[0] for _ in range(each)]


def _tied(_: Layer, given: Sequence[list[int]], channels: _Channels) -> list[int]:
    channels.tie(given[0], given[1])
    return given[0]


def _same(_: Layer, given: Sequence[list[int]], _channels: _Channels) -> list[int]:
    return given[0]


_OUTPUTS: dict[str, Callable[[Layer, Sequence[list[int]], _Channels], list[int]]] = {
    "activation": _same,
    "add": _tied,
    "concat": lambda _layer, given, _: [number for numbers in given for number in numbers],
    "conv": _convolved,
    "global_pool": _same,
    "linear": lambda layer, _, channels: channels.new(layer.output_shape[0]),
    "multiply": _tied,
    "pad": lambda layer, given, channels: [
        *given[0],
        *channels.new(layer.output_shape[0] - len(given[0])),
    ],
    "pool": _same,
    "resize": _same,
    "select": _selected,
    "shuffle": _shuffled,
}
"""Primitive (`Layer.op`) to the channels of its output: a new primitive is one row."""
