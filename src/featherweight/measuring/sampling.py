"""Which networks a device is learnt from: sizes of every family, from very fast to slow."""

from __future__ import annotations

import numpy as np

from featherweight.architecture import Architecture
from featherweight.errors import FeatherweightError
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS

__all__ = ["sample_networks"]

_FEWEST_MACS, _MOST_MACS = 4e6, 7e8
_WIDTHS = (0.25, 1.5)
_WIDTH_STEP = 0.05
_SIDES = (64, 288)
_SIDE_STEP = 16
_SMALL_FAMILIES = ("convnet", "resnet", "vgg")
_SMALL_SIDES = (16, 24, 28, 32, 40, 48, 64)
_SMALL_WIDTHS = (0.25, 3.0)
_CLASSES = (10, 100, 1000)


def sample_networks(
    count: int, *, seed: int, without: frozenset[str] = frozenset()
) -> list[tuple[str, Architecture]]:
    """Draw networks of the zoo at random widths, resolutions and numbers of classes.

    The networks of the zoo take turns, so that each has as many; within one, the sizes whose
    multiply-adds lie between 4 and 700 million are drawn evenly.

    Args:
        count: how many.
        seed: of the draw.
        without: names that must not be drawn.

    Returns:
        text form and Architecture of each, no two alike.
    """
    generator = np.random.default_rng([seed, 77])
    found: dict[str, Architecture] = {}
    names = list(MODELS)
    turn = 0
    while len(found) < count:
        base = names[turn % len(names)]
        turn += 1
        for _ in range(20):
            text = _draw(base, generator)
            if text in without or text in found:
                continue
            try:
                architecture = resolve_architecture(text)
            except FeatherweightError:  # a width or size that this network does not have
                continue
            if _FEWEST_MACS <= (profile(architecture).macs or 0) <= _MOST_MACS:
                found[text] = architecture
                break
    return list(found.items())


def _draw(base: str, generator: np.random.Generator) -> str:
    small = MODELS[base].family in _SMALL_FAMILIES
    low, high = _SMALL_WIDTHS if small else _WIDTHS
    steps = round((high - low) / _WIDTH_STEP)
    width = low + _WIDTH_STEP * int(generator.integers(0, steps + 1))
    if small:
        side = int(generator.choice(_SMALL_SIDES))
    else:
        sides = range(_SIDES[0], _SIDES[1] + 1, _SIDE_STEP)
        side = sides[int(generator.integers(0, len(sides)))]
    classes = int(generator.choice(_CLASSES))
    return f"{base}:width={width:.2f},resolution={side},classes={classes}"
