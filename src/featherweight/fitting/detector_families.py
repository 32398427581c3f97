"""Which detectors a fit considers: both heads over every backbone with weights, by resolution."""

from __future__ import annotations

from collections.abc import Callable

from featherweight.detection.detector import Detector
from featherweight.detection.suiting import ObjectShapes, suited_to
from featherweight.errors import UsageError
from featherweight.fitting.family import Family
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import Look
from featherweight.networks.detectors import DETECTORS, create_detector, resolve_network
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained_detector import read_pretrained_detector, stretched
from featherweight.networks.resolve import given_settings
from featherweight.networks.weight_sources import PRETRAINED

__all__ = ["detector_families"]

_SMALLEST, _LARGEST, _STEP = 96, 416, 32
"""Pixels: a detector takes multiples of 32."""
_SCRATCH = (
    "thundernet_snet49",
    "thundernet_snet146",
    "ssdlite_mobilenet_v2",
    "ssdlite_mobilenet_v3_large",
)


def detector_families(look: Look, settings: FitSettings) -> tuple[Family, ...]:
    """List the detectors worth measuring for pictures with boxes.

    Raises:
        UsageError: `model` names no detector.
    """
    if settings.model is not None:
        return (_asked(settings.model, look, settings),)
    if look.weights:
        backbones = dict.fromkeys((look.weights[0], look.weights[-1]))  # each is trained to choose
        return tuple(
            _family(f"{head}_{name}", look, source="auto", weights_of=name)
            for name in backbones
            for head in DETECTORS
        )
    return tuple(_family(name, look, source=None, weights_of=name) for name in _SCRATCH)


def _family(name: str, look: Look, *, source: str | None, weights_of: str) -> Family:
    objects = _objects(look)

    def build(resolution: float) -> Detector:
        drawn = create_detector(name, resolution=int(resolution), classes=look.classes)
        return suited_to(drawn, objects)

    preprocessing = Preprocessing() if source is None else PRETRAINED[weights_of].preprocessing
    return _of(name, build, _sizes(look), source, stretched(preprocessing), weights_of)


def _asked(model: str, look: Look, settings: FitSettings) -> Family:
    """The one detector that the user named; a resolution that is written out is kept."""
    start = resolve_network(model)
    if not isinstance(start, Detector):
        raise UsageError(
            f"{model} is a classifier, and the data has boxes",
            allowed=", ".join(f"{head}, {head}_BACKBONE" for head in DETECTORS),
        )
    start = start.changed(num_classes=look.classes)
    base = start.backbone.name
    source = None if settings.pretrained == "none" else settings.pretrained
    if source == "auto" and base not in look.weights:
        source = None
    preprocessing, unsliced = stretched(Preprocessing()), True
    if source is not None:
        found = read_pretrained_detector(start, source=source, seed=settings.seed)
        preprocessing, unsliced = found.preprocessing, not found.sliced
    objects = _objects(look)
    fixed = "resolution" in given_settings(model)
    sizes = (float(start.resolution),) if fixed else _sizes(look)
    return _of(
        model,
        lambda resolution: suited_to(start.at_resolution(int(resolution)), objects),
        sizes,
        source,
        preprocessing,
        base,
        unsliced=unsliced,
    )


def _of(
    name: str,
    build: Callable[[float], Detector],
    sizes: tuple[float, ...],
    source: str | None,
    preprocessing: Preprocessing,
    weights_of: str,
    *,
    unsliced: bool = True,
) -> Family:
    return Family(
        name,
        "resolution",
        sizes,
        build,
        source,
        preprocessing,
        weights_unsliced=unsliced,
        weights_of=weights_of,
        anchored=True,
    )


def _sizes(look: Look) -> tuple[float, ...]:
    largest = min(_LARGEST, max(_SMALLEST, -(-look.typical_size // _STEP) * _STEP))
    return tuple(float(side) for side in range(_SMALLEST, largest + 1, _STEP))


def _objects(look: Look) -> ObjectShapes:
    assert look.objects is not None, "the pictures have boxes"
    return look.objects
