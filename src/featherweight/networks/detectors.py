"""From what people type to a Detector, or to whatever network it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector, Head, SsdLite, ThunderNet, backbone_of
from featherweight.detection.parts import backbone_strides
from featherweight.errors import UsageError
from featherweight.networks.kinds import AnyArchitecture, read_any_architecture
from featherweight.networks.resolve import (
    create_architecture,
    holds_architecture,
    parse_settings,
    resolve_architecture,
)
from featherweight.zoo.model import MODELS

__all__ = [
    "DETECTORS",
    "classifier_of",
    "create_detector",
    "names_detector",
    "resolve_network",
]

DETECTORS = {"thundernet": "snet49", "ssdlite": "mobilenet_v2"}
"""Heads, and the backbone of each that is meant where none is named."""
_RESOLUTION = 320
_CLASSES = 80
"""Of COCO."""


def names_detector(text: str) -> bool:
    """Whether `text` begins with the name of a head: `thundernet_snet146:resolution=224`."""
    name = text.partition(":")[0]
    return any(name == head or name.startswith(f"{head}_") for head in DETECTORS)


def create_detector(
    name: str,
    *,
    resolution: int | None = None,
    classes: int | None = None,
    **settings: Any,
) -> Detector:
    """Build a detector of a head and a network of the zoo.

    Args:
        name: `thundernet` or `ssdlite`, alone or with a backbone: `ssdlite_mobilenet_v3_large`.
        resolution: height and width of the input in pixels, a multiple of 32; 320 if left out.
        classes: without the background; 80 if left out.
        settings: of the backbone, as `create_architecture` takes them.

    Raises:
        UsageError: an unknown name, a setting out of range, or a backbone without maps whose cells
            are 16 and 32 pixels apart.
    """
    head_name, base = _parts_of(name)
    resolution = _RESOLUTION if resolution is None else resolution
    if resolution < 32 or resolution % 32:
        raise UsageError(f"{name} at {resolution} pixels", allowed="a multiple of 32")
    if classes is not None and classes < 1:
        raise UsageError(f"{name} with {classes} classes", allowed="1 or more")
    settings.setdefault("form", "standard")
    network = create_architecture(base, resolution=resolution, **settings)
    head: Head = ThunderNet() if head_name == "thundernet" else SsdLite()
    backbone = backbone_of(network, keep_last=base.startswith("snet"))
    if missing := {16, 32} - backbone_strides(backbone):
        cells = " and of ".join(map(str, sorted(missing)))
        raise UsageError(
            f"{network.name} has no map with cells of {cells} pixels, which {head_name} reads",
            allowed="a backbone that halves its maps five times, as mobilenet_v2",
        )
    return Detector(
        name=f"{head_name}_{network.name}",
        backbone=backbone,
        head=head,
        num_classes=_CLASSES if classes is None else classes,
    )


def _parts_of(name: str) -> tuple[str, str]:
    """Return the head and the backbone that a name stands for."""
    head = next(head for head in DETECTORS if name == head or name.startswith(f"{head}_"))
    base = name.removeprefix(head).removeprefix("_") or DETECTORS[head]
    return head, f"snet{base}" if f"snet{base}" in MODELS else base


def classifier_of(detector: Detector) -> Architecture:
    """Return the classifier of the zoo that a detector's backbone was cut from, of 1000 classes."""
    name, settings = parse_settings(detector.backbone.name)
    known: dict[str, Any] = {"form": "standard", "resolution": detector.resolution} | settings
    return create_architecture(name, **known)


def resolve_network(text: str) -> AnyArchitecture:
    """Return the classifier or detector that `text` names; see `resolve_architecture`.

    Raises:
        UsageError: no such name, setting or file; the nearest spelling is suggested.
        RecordError: the file describes neither.
    """
    path = Path(text)
    if holds_architecture(path):
        return read_any_architecture(path / "architecture.json")
    if path.suffix == ".json" and path.is_file():
        return read_any_architecture(path)
    if names_detector(text) and "/" not in text:
        name, settings = parse_settings(text)
        return create_detector(name, **settings)
    return resolve_architecture(text)
