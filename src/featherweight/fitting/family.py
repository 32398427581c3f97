"""One network in several sizes: what a fit chooses from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from featherweight.architecture import Architecture
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.preprocessing import Preprocessing

__all__ = ["SEEN_SCALES", "Family"]

SEEN_SCALES = (0.86, 0.93, 1.0, 1.07, 1.14)
"""A machine may be a third slower or faster when a network ships than when its size was chosen, and
one that has seen a single size is lost eight pixels away (docs/adr/0015-whole-pictures.md)."""


@dataclass(frozen=True)
class Family:
    """One network in several sizes, which trade accuracy for time.

    Attributes:
        name: zoo name with its fixed settings, or that of a network made from one.
        axis: what the sizes are: resolutions on photographs, widths on small pictures.
        sizes: cheapest first.
        build: size -> Architecture or Detector.
        source: weights to start from; `None` = from scratch.
        preprocessing: normalisation and resize that the start expects.
        start: folder of a saved network to start from, for one that no name draws.
        weights_unsliced: whether the norms' statistics fit the weights: not those sliced to a
            width.
        weights_of: zoo name of the network that the weights were made for.
        anchored: whether a trained network ships at the size of its training alone: the anchors of
            a detector are made for one.
    """

    name: str
    axis: Literal["resolution", "width"]
    sizes: tuple[float, ...]
    build: Callable[[float], AnyArchitecture]
    source: str | None
    preprocessing: Preprocessing
    start: Path | None = None
    weights_unsliced: bool = True
    weights_of: str = ""
    anchored: bool = False

    @property
    def moves(self) -> bool:
        """Whether a trained network may ship at another size than that of its training."""
        return self.axis == "resolution" and len(self.sizes) > 1 and not self.anchored

    @property
    def seen_scales(self) -> tuple[float, ...]:
        """Multiples of its resolution that a training shows it: it may ship at any of them."""
        return SEEN_SCALES if self.moves and self.source is not None else ()

    def knows(self, growth: float) -> bool:
        """Whether a trained network knows such a multiple of its resolution."""
        scales = self.seen_scales or (1.0,)
        return min(scales) <= growth <= max(scales)

    def label(self, size: float) -> str:
        """Return the network's text form at one size."""
        if f"{self.axis}=" in self.name:
            return self.name
        return f"{self.name}{',' if ':' in self.name else ':'}{self.axis}={size:g}"

    def up_to(self, size: float) -> Family:
        """Return it without the sizes above one."""
        return replace(self, sizes=tuple(one for one in self.sizes if one <= size))

    def of_one_size(self, size: float, architecture: Architecture, *, name: str) -> Family:
        """Return a network made from this one, which has one size, as a family of its own."""
        return replace(
            self, name=name, sizes=(size,), build=lambda _: architecture.changed(name=name)
        )
