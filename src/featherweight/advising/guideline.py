"""What a rule of advice sees of a network, and what it proposes; the table of the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from featherweight.adapting.groups import WidthGroup
from featherweight.advising.drafts import groups_of, macs_of
from featherweight.architecture import Architecture
from featherweight.layers import INPUT, Layer, layers
from featherweight.networks.channels import is_depthwise
from featherweight.profiling.profile import Profile, profile
from featherweight.registry import Registry

__all__ = ["GUIDELINES", "Plan", "Proposal", "Rule", "is_pointwise"]


class Proposal(NamedTuple):
    """A change that a rule wants to have measured.

    Attributes:
        guideline: `G1` to `G4`, `width`, `depthwise`.
        layers: what is at fault.
        finding: what is wrong, in words.
        advice: what to do instead.
        variant: the network after that, a graph of primitives.
    """

    guideline: str
    layers: tuple[str, ...]
    finding: str
    advice: str
    variant: Architecture


@dataclass(frozen=True)
class Plan:
    """A network as rules see it.

    Attributes:
        network: a graph of primitives.
    """

    network: Architecture

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """By name, in their order."""
        return {layer.name: layer for layer in layers(self.network)}

    @cached_property
    def readers(self) -> dict[str, tuple[Layer, ...]]:
        """Layer, or the input -> who reads its output."""
        found: dict[str, list[Layer]] = {name: [] for name in (INPUT, *self.layers)}
        for layer in self.layers.values():
            for name in dict.fromkeys(layer.inputs):
                found[name].append(layer)
        return {name: tuple(own) for name, own in found.items()}

    @cached_property
    def groups(self) -> dict[str, WidthGroup]:
        """Widths that can be chosen, by every layer that writes them."""
        return groups_of(self.network)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of the network."""
        return macs_of(self.network)

    @cached_property
    def counted(self) -> Profile:
        """What its layers compute and move."""
        return profile(self.network)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a map, or of the input."""
        return self.layers[name].output_shape if name in self.layers else self.network.input_shape

    def source(self, name: str) -> Layer | None:
        """Return the convolution whose channels a map has, through what keeps them."""
        while name in self.layers:
            layer = self.layers[name]
            if layer.op == "conv" and not is_depthwise(layer):
                return layer
            if layer.op in ("concat", "linear", "select", "shuffle", "pad"):
                return None
            name = layer.inputs[0]
        return None

    def by_map(self, chosen: Iterable[Layer]) -> Iterator[list[Layer]]:
        """Group layers by the size of the map they write."""
        found: dict[tuple[int, ...], list[Layer]] = {}
        for layer in chosen:
            found.setdefault(layer.output_shape[1:], []).append(layer)
        yield from found.values()


Rule = Callable[[Plan], Iterable[Proposal]]

GUIDELINES: Registry[Rule] = Registry("guideline", plugins="featherweight.advising.rules")


def is_pointwise(layer: Layer) -> bool:
    """Whether a layer is a dense 1x1 convolution of a map."""
    return (
        layer.op == "conv"
        and layer.kernel_size == 1
        and layer.groups == 1
        and layer.output_shape[1:] != (1, 1)
    )
