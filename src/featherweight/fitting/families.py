"""Which networks fit shops for, and the knob that sizes each of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featherweight.architecture import Architecture, read_architecture
from featherweight.errors import UsageError
from featherweight.fitting.look import Look
from featherweight.fitting.settings import FitSettings
from featherweight.networks.preprocessing import Preprocessing, fine_tuning_preprocessing
from featherweight.networks.pretrained import read_pretrained
from featherweight.networks.resolve import (
    create_architecture,
    given_settings,
    resolve_architecture,
    with_resolution,
)
from featherweight.networks.storage import read_network_record
from featherweight.networks.weight_sources import PRETRAINED, weights_hint
from featherweight.zoo.model import MODELS

__all__ = ["SEEN_SCALES", "SHRUNK", "Family", "families", "stored_family"]

logger = logging.getLogger(__name__)

SHRUNK = "-shrunk"
"""Stands in the name of a network that was made from a larger one, before its digest."""

_SCRATCH_PHOTOS = (
    "mobilenet_v4_conv_small", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
)  # fmt: skip
_SMALL = ("convnet", "resnet", "mobilenet_v2")
_WIDTHS = tuple(step / 16 for step in range(2, 17)) + tuple(1 + step / 8 for step in range(1, 17))
_SCRATCH_PREPROCESSING = Preprocessing()
_GROWTH = 1.5
"""Largest multiple of the resolution that a network was made for that it is offered at: what
resolution alone gains saturates (EfficientNet, arXiv 1905.11946, figure 3)."""
_STORED_GROWTH = 1.25
"""Largest multiple of the resolution a network was saved at that it is offered at."""


SEEN_SCALES = (0.86, 0.93, 1.0, 1.07, 1.14)
"""A machine may be a third slower or faster when a network ships than when its size was chosen, and
one that has seen a single size is lost eight pixels away (docs/adr/0015-whole-pictures.md)."""


@dataclass(frozen=True)
class Family:
    """One network with a knob that trades accuracy for time.

    Attributes:
        name: zoo name with its fixed settings.
        knob: what is turned: resolution on photographs, width on small pictures.
        values: settings of the knob, cheapest first.
        build: knob value -> Architecture.
        source: weights to start from; `None` = from scratch.
        preprocessing: normalisation and resize that the start expects.
        start: folder of a saved network to start from, for one that no name draws.
        whole: whether the norms' statistics fit the weights: not those sliced to a width.
    """

    name: str
    knob: Literal["resolution", "width"]
    values: tuple[float, ...]
    build: Callable[[float], Architecture]
    source: str | None
    preprocessing: Preprocessing
    start: Path | None = None
    whole: bool = True

    @property
    def seen_scales(self) -> tuple[float, ...]:
        """Multiples of its resolution that a training shows it: it may ship at any of them."""
        moves = self.knob == "resolution" and self.source is not None and len(self.values) > 1
        return SEEN_SCALES if moves else ()

    def knows(self, growth: float) -> bool:
        """Whether a trained network knows such a multiple of its resolution."""
        scales = self.seen_scales or (1.0,)
        return min(scales) <= growth <= max(scales)

    @property
    def weights_name(self) -> str:
        """Zoo name of the network whose weights it starts from."""
        return self.name.partition(SHRUNK)[0]

    def label(self, value: float) -> str:
        """Return the network's text form at one knob value."""
        if f"{self.knob}=" in self.name:
            return self.name
        return f"{self.name}{',' if ':' in self.name else ':'}{self.knob}={value:g}"


def families(look: Look, settings: FitSettings) -> tuple[Family, ...]:
    """List the families worth measuring for this data.

    Small pictures: plain 3x3 networks beside MobileNetV2, sized by width at the native
    resolution. Photographs: networks with installed weights, sized by resolution; without
    weights the zoo's networks, also by resolution (small inputs train faster too).

    Raises:
        UsageError: `model` names no network, or `pretrained` names a file without `model`.
    """
    if settings.pretrained not in ("auto", "none") and settings.model is None:
        raise UsageError(
            f"--pretrained {settings.pretrained} needs --model",
            allowed="auto, none, or a file together with --model NAME",
            hint="name the network the weights belong to",
        )
    if settings.model is not None:
        return (_asked(settings.model, look, settings),)
    if look.small:
        return tuple(_by_width(name, look) for name in _SMALL)
    if look.weights:
        return tuple(_by_resolution(name, look, source="auto") for name in look.weights)
    return tuple(_by_resolution(name, look, source=None) for name in _SCRATCH_PHOTOS)


def stored_family(folder: Path, *, source: str | None, whole: bool = True) -> tuple[Family, float]:
    """Return a network saved in a run directory as a family of its own, and its resolution.

    Args:
        folder: written by `save_network`.
        source: where its weights came from before.
        whole: whether its norms' statistics fit its weights.

    Raises:
        RecordError: the folder holds no network.
    """
    architecture = read_architecture(folder / "architecture.json")
    own = architecture.resolution
    sizes = range(min(64, own), int(_STORED_GROWTH * own) + 1, 8)
    family = Family(
        name=architecture.name,
        knob="resolution",
        values=tuple(sorted({float(own), *map(float, sizes)})),
        build=lambda resolution: architecture.at_resolution(int(resolution)),
        source=source,
        preprocessing=read_network_record(folder).preprocessing,
        start=folder,
        whole=whole,
    )
    return family, float(own)


def _by_width(name: str, look: Look) -> Family:
    def build(width: float) -> Architecture:
        return create_architecture(
            name, width=width, resolution=look.resolution, classes=look.classes, form="small"
        )

    values: list[float] = []
    seen: set[str] = set()
    for width in _WIDTHS:  # widths are rounded to multiples of 8: skip repeats
        digest = build(width).digest
        if digest not in seen:
            seen.add(digest)
            values.append(width)
    return Family(name, "width", tuple(values), build, None, _SCRATCH_PREPROCESSING)


def _by_resolution(name: str, look: Look, *, source: str | None) -> Family:
    def build(resolution: float) -> Architecture:
        return create_architecture(
            name, resolution=int(resolution), classes=look.classes, form="standard"
        )

    largest = _largest(MODELS[name].default_resolution, look)
    values = tuple(float(value) for value in range(64, max(largest, 64) + 1, 8))
    preprocessing = _SCRATCH_PREPROCESSING
    if source is not None and name in PRETRAINED:
        preprocessing = PRETRAINED[name].preprocessing
    return Family(name, "resolution", values, build, source, preprocessing)


def _largest(default: int, look: Look) -> int:
    return min(look.resolution, int(_GROWTH * default))


def _asked(model: str, look: Look, settings: FitSettings) -> Family:
    """The one family the user named; settings written out are kept fixed."""
    start = resolve_architecture(model).changed(num_classes=look.classes)
    given = given_settings(model)
    source = None if settings.pretrained == "none" else settings.pretrained
    if source == "auto" and start.name not in look.weights:
        source = None
        _say_scratch(model, start, look)
    if look.small and not given and source is None:
        return _by_width(start.name, look)
    preprocessing, whole = _prepare(start, source, small=look.small, seed=settings.seed)
    if look.small and "resolution" not in given:
        start = resolve_architecture(with_resolution(model, look.resolution))
        start = start.changed(num_classes=look.classes)
    fixed = look.small or "resolution" in given

    def build(resolution: float) -> Architecture:
        return start if fixed else start.at_resolution(int(resolution))

    largest = max(64, _largest(start.resolution, look))
    values = (start.resolution,) if fixed else tuple(range(64, largest + 1, 8))
    return Family(
        model, "resolution", tuple(float(v) for v in values), build, source, preprocessing,
        whole=whole,
    )  # fmt: skip


def _say_scratch(model: str, start: Architecture, look: Look) -> None:
    """Say that a network starts without the weights that `auto` looks for, and what brings them."""
    if look.small:
        logger.info(
            "%s starts from scratch: pictures this small use ImageNet weights only with "
            "--pretrained FILE",
            model,
        )
    else:
        logger.warning(
            "%s starts from scratch, which costs accuracy: --pretrained auto finds no weights "
            "for it; %s",
            model,
            weights_hint(start),
        )


def _prepare(
    start: Architecture, source: str | None, *, small: bool, seed: int
) -> tuple[Preprocessing, bool]:
    """Return how the weights expect pictures, and whether they are of the whole network."""
    if source is None:
        return _SCRATCH_PREPROCESSING, True
    found = read_pretrained(start, source=source, seed=seed)
    return fine_tuning_preprocessing(found.preprocessing, small=small), not found.sliced
