"""Which networks a fit considers, and what sizes each of them: its resolution or its width."""

from __future__ import annotations

import logging
from pathlib import Path

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.detection.table import DETECTION
from featherweight.errors import UsageError
from featherweight.fitting.detector_families import detector_families
from featherweight.fitting.family import Family
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import Look
from featherweight.networks.kinds import read_any_architecture
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

__all__ = ["families", "stored_family"]

logger = logging.getLogger(__name__)

_SCRATCH_PHOTOS = (
    "mobilenet_v4_conv_small",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
)
_SMALL = ("convnet", "resnet", "mobilenet_v2")
_WIDTHS = tuple(step / 16 for step in range(2, 17)) + tuple(1 + step / 8 for step in range(1, 17))
_SCRATCH_PREPROCESSING = Preprocessing()
_GROWTH = 1.5
"""Largest multiple of the resolution that a network was made for that it is offered at: what
resolution alone gains saturates (EfficientNet, arXiv 1905.11946, figure 3)."""
_STORED_GROWTH = 1.25
"""Largest multiple of the resolution a network was saved at that it is offered at."""


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
    if look.task == DETECTION:
        return detector_families(look, settings)
    if settings.model is not None:
        return (_asked(settings.model, look, settings),)
    if look.small:
        return tuple(_by_width(name, look) for name in _SMALL)
    if look.weights:
        return tuple(_by_resolution(name, look, source="auto") for name in look.weights)
    return tuple(_by_resolution(name, look, source=None) for name in _SCRATCH_PHOTOS)


def stored_family(
    folder: Path, *, source: str | None, weights_of: str, weights_unsliced: bool = True
) -> tuple[Family, float]:
    """Return a network saved in a run directory as a family of its own, and its resolution.

    Args:
        folder: written by `save_network`.
        source: where its weights came from before.
        weights_of: zoo name of the network that they were made for.
        weights_unsliced: whether its norms' statistics fit its weights.

    Raises:
        RecordError: the folder holds no network.
    """
    architecture = read_any_architecture(folder / "architecture.json")
    own, anchored = architecture.resolution, isinstance(architecture, Detector)
    has_one_size = isinstance(architecture, Detector) or architecture.fixed_size
    sizes = range(0) if has_one_size else range(min(64, own), int(_STORED_GROWTH * own) + 1, 8)
    family = Family(
        name=architecture.name,
        axis="resolution",
        sizes=tuple(sorted({float(own), *map(float, sizes)})),
        build=lambda resolution: architecture.at_resolution(int(resolution)),
        source=source,
        preprocessing=read_network_record(folder).preprocessing,
        start=folder,
        weights_unsliced=weights_unsliced,
        weights_of=weights_of,
        anchored=anchored,
    )
    return family, float(own)


def _by_width(name: str, look: Look) -> Family:
    def build(width: float) -> Architecture:
        return create_architecture(
            name, width=width, resolution=look.resolution, classes=look.classes, form="small"
        )

    widths: list[float] = []
    seen: set[str] = set()
    for width in _WIDTHS:  # widths are rounded to multiples of 8: skip repeats
        digest = build(width).digest
        if digest not in seen:
            seen.add(digest)
            widths.append(width)
    return Family(
        name, "width", tuple(widths), build, None, _SCRATCH_PREPROCESSING, weights_of=name
    )


def _by_resolution(name: str, look: Look, *, source: str | None) -> Family:
    def build(resolution: float) -> Architecture:
        return create_architecture(
            name, resolution=int(resolution), classes=look.classes, form="standard"
        )

    largest = _largest(MODELS[name].default_resolution, look)
    sizes = tuple(float(side) for side in range(64, max(largest, 64) + 1, 8))
    preprocessing = _SCRATCH_PREPROCESSING
    if source is not None and name in PRETRAINED:
        preprocessing = PRETRAINED[name].preprocessing
    return Family(name, "resolution", sizes, build, source, preprocessing, weights_of=name)


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
    weights_of = start.name
    preprocessing, unsliced = _prepare(start, source, small=look.small, seed=settings.seed)
    if look.small and "resolution" not in given:
        start = resolve_architecture(with_resolution(model, look.resolution))
        start = start.changed(num_classes=look.classes)
    fixed = look.small or "resolution" in given

    def build(resolution: float) -> Architecture:
        return start if fixed else start.at_resolution(int(resolution))

    largest = max(64, _largest(start.resolution, look))
    sizes = (start.resolution,) if fixed else tuple(range(64, largest + 1, 8))
    return Family(
        model,
        "resolution",
        tuple(float(side) for side in sizes),
        build,
        source,
        preprocessing,
        weights_unsliced=unsliced,
        weights_of=weights_of,
    )


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
