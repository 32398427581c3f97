"""From what people type to an Architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from featherweight.architecture import Architecture, read_architecture
from featherweight.errors import UnsupportedError, UsageError
from featherweight.registry import unknown_name
from featherweight.zoo.model import MODELS

__all__ = [
    "ALIASES",
    "SMALL_RESOLUTION",
    "create_architecture",
    "given_settings",
    "holds_architecture",
    "parse_settings",
    "resolve_architecture",
    "with_resolution",
]

_TIMM = "timm:"

SMALL_RESOLUTION = 64
"""Pixels up to which a network takes its small form unless told otherwise."""

ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenetv1_100": ("mobilenet_v1", {}),
    "mobilenetv1_125": ("mobilenet_v1", {"width": 1.25}),
    "mobilenetv2_035": ("mobilenet_v2", {"width": 0.35}),
    "mobilenetv2_050": ("mobilenet_v2", {"width": 0.5}),
    "mobilenetv2_075": ("mobilenet_v2", {"width": 0.75}),
    "mobilenetv2_100": ("mobilenet_v2", {}),
    "mobilenetv2_140": ("mobilenet_v2", {"width": 1.4}),
    "mobilenetv3_large_075": ("mobilenet_v3_large", {"width": 0.75}),
    "mobilenetv3_large_100": ("mobilenet_v3_large", {}),
    "mobilenetv3_small_075": ("mobilenet_v3_small", {"width": 0.75}),
    "mobilenetv3_small_100": ("mobilenet_v3_small", {}),
    "tf_mobilenetv3_large_075": ("mobilenet_v3_large", {"width": 0.75, "padding": "same"}),
    "tf_mobilenetv3_large_100": ("mobilenet_v3_large", {"padding": "same"}),
    "tf_mobilenetv3_small_075": ("mobilenet_v3_small", {"width": 0.75, "padding": "same"}),
    "tf_mobilenetv3_small_100": ("mobilenet_v3_small", {"padding": "same"}),
    "tf_efficientnet_lite0": ("efficientnet_lite0", {"padding": "same"}),
    "tf_efficientnet_lite1": ("efficientnet_lite1", {"padding": "same"}),
    "tf_efficientnet_lite2": ("efficientnet_lite2", {"padding": "same"}),
    "tf_efficientnet_lite3": ("efficientnet_lite3", {"padding": "same"}),
    "tf_efficientnet_lite4": ("efficientnet_lite4", {"padding": "same"}),
    "tf_mobilenetv3_large_minimal_100": ("mobilenet_v3_large_minimalistic", {"padding": "same"}),
    "tf_mobilenetv3_small_minimal_100": ("mobilenet_v3_small_minimalistic", {"padding": "same"}),
    "mobilenetv4_conv_small": ("mobilenet_v4_conv_small", {}),
    "mobilenetv4_conv_small_050": ("mobilenet_v4_conv_small", {"width": 0.5}),
    "mobilenetv4_conv_medium": ("mobilenet_v4_conv_medium", {}),
    "mobilenetv4_conv_large": ("mobilenet_v4_conv_large", {}),
    "mnasnet_050": ("mnasnet_b1", {"width": 0.5}),
    "mnasnet_075": ("mnasnet_b1", {"width": 0.75}),
    "mnasnet_100": ("mnasnet_b1", {}),
    "mnasnet_140": ("mnasnet_b1", {"width": 1.4}),
    "mnasnet0_5": ("mnasnet_b1", {"width": 0.5}),
    "mnasnet0_75": ("mnasnet_b1", {"width": 0.75}),
    "mnasnet1_0": ("mnasnet_b1", {}),
    "mnasnet1_3": ("mnasnet_b1", {"width": 1.3}),
    "semnasnet_050": ("mnasnet_a1", {"width": 0.5}),
    "semnasnet_075": ("mnasnet_a1", {"width": 0.75}),
    "semnasnet_100": ("mnasnet_a1", {}),
    "semnasnet_140": ("mnasnet_a1", {"width": 1.4}),
    "shufflenet_v2_x0_5": ("shufflenet_v2", {"width": 0.5}),
    "shufflenet_v2_x1_0": ("shufflenet_v2", {}),
    "shufflenet_v2_x1_5": ("shufflenet_v2", {"width": 1.5}),
    "shufflenet_v2_x2_0": ("shufflenet_v2", {"width": 2.0}),
    "ghostnet_050": ("ghostnet", {"width": 0.5}),
    "ghostnet_100": ("ghostnet", {}),
    "ghostnet_130": ("ghostnet", {"width": 1.3}),
}
"""timm's and torchvision's spellings -> our name and the settings they stand for.

timm's mobilenetv3_small_050 and mobilenetv2_110d|120d are other networks and have no alias.
"""

_MOST = 10**6
_WHOLE = frozenset({"resolution", "classes", "channels"})

_SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "width": (float, "a number such as 0.5"),
    "resolution": (int, f"a whole number of pixels up to {_MOST}"),
    "classes": (int, f"a whole number up to {_MOST}"),
    "channels": (int, f"a whole number up to {_MOST}"),
    "padding": (str, "symmetric or same"),
    "activation": (str, "relu, relu6 or hard_swish"),
    "form": (str, "standard or small"),
}


def resolve_architecture(text: str) -> Architecture:
    """Return the Architecture that `text` names.

    Args:
        text: `mobilenet_v2:width=0.5,resolution=160,classes=10` (a name of the zoo or an alias,
            with settings), `timm:NAME` (any network of timm made of known layers, with resolution,
            classes and channels), an architecture.json, or a directory that holds one (a run).

    Raises:
        UsageError: no such name, setting or file; the nearest spelling is suggested.
        RecordError: the file does not describe an Architecture.
        UnsupportedError: an .onnx file.
    """
    if text.startswith(_TIMM):
        return _import_timm(text.removeprefix(_TIMM))
    path = Path(text)
    if path.suffix == ".onnx":
        raise UnsupportedError(
            f"{text}: an ONNX file cannot be read as a network yet",
            allowed="a zoo name, a run directory or an architecture.json",
        )
    if holds_architecture(path):
        return read_architecture(path / "architecture.json")
    if path.suffix == ".json":
        return read_architecture(path)
    if "/" in text:
        hint = "it holds no architecture.json" if path.exists() else "there is no such path"
        raise UsageError(
            f"cannot read a network from {text!r}",
            allowed="a zoo name, a run directory or an architecture.json",
            hint=hint,
        )
    name, settings = parse_settings(text)
    return create_architecture(name, **settings)


def create_architecture(
    name: str,
    *,
    width: float | None = None,
    resolution: int | None = None,
    classes: int | None = None,
    channels: int | None = None,
    padding: str | None = None,
    activation: str | None = None,
    form: str | None = None,
) -> Architecture:
    """Build a network of the zoo.

    Args:
        name: of the zoo, or torchvision's or timm's spelling.
        width: multiplier of the widths.
        resolution: height and width of the input in pixels.
        classes: outputs of the classifier.
        channels: channels of the input.
        padding: `symmetric` or `same`.
        activation: replaces every non-linearity of the network's table.
        form: `standard` or `small`; left out, inputs up to 64 pixels take the small form, unless
            the network was drawn for that size.

    A setting left out takes the network's own default (1000 classes, mostly 224 pixels).

    Raises:
        UsageError: unknown name, or a setting out of range.
    """
    base, implied = ALIASES.get(name, (name, {}))
    if base not in MODELS:
        raise unknown_name("network", name, [*MODELS, *ALIASES])
    for key, given in (("width", width), ("padding", padding)):
        if given is not None and key in implied and given != implied[key]:
            raise UsageError(
                f"{name!r} stands for {key}={implied[key]}, not {given}",
                hint=f"write {base}:{key}={given}",
            )
    entry = MODELS[base]
    if form is None:
        side = resolution or entry.default_resolution
        small = side <= SMALL_RESOLUTION and side < entry.default_resolution
        form = "small" if small else "standard"
    return entry.build(
        width=implied.get("width", width),
        resolution=resolution,
        classes=classes,
        channels=channels,
        padding=implied.get("padding", padding),
        activation=activation,
        form=form,
    )


def _import_timm(text: str) -> Architecture:
    from featherweight.networks.importing import import_timm

    name, settings = parse_settings(text)
    other = sorted(settings.keys() - {"resolution", "classes", "channels"})
    if other:
        raise UsageError(
            f"{other[0]} cannot be set for a network of timm",
            allowed="resolution, classes, channels",
            hint="its names say the width: mobilenetv2_050",
        )
    imported = import_timm(
        name,
        resolution=settings.get("resolution"),
        classes=settings.get("classes"),
        channels=settings.get("channels"),
    )
    return imported.architecture


def with_resolution(text: str, resolution: int) -> str:
    """Return the text form of the same network at another resolution."""
    separator = "," if ":" in text.removeprefix(_TIMM) else ":"
    return f"{text}{separator}resolution={resolution}"


def given_settings(text: str) -> frozenset[str]:
    """Return the settings that `text` fixes: those written out, and those an alias implies.

    A run directory or an architecture.json fixes all of them.
    """
    text = text.removeprefix(_TIMM)
    if "/" in text or text.endswith(".json") or holds_architecture(Path(text)):
        return frozenset(_SETTINGS)
    name, settings = parse_settings(text)
    return frozenset(settings) | frozenset(ALIASES.get(name, (name, {}))[1])


def holds_architecture(path: Path) -> bool:
    """Whether a path is a folder with an architecture.json: a run."""
    try:
        return (path / "architecture.json").is_file()
    except OSError:  # a name that no file can have, such as one of 300 letters
        return False


def parse_settings(text: str) -> tuple[str, dict[str, Any]]:
    """Split `name:key=value,...` and read the values."""
    name, colon, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in _SETTINGS and (equals or key):
            raise unknown_name("setting", key, _SETTINGS)
        if not equals or not value:
            raise UsageError(
                f"{part!r} in {text!r} is not a setting",
                allowed="key=value with " + ", ".join(_SETTINGS),
            )
        if key in settings:
            raise UsageError(f"{key!r} is given twice in {text!r}")
        read, allowed = _SETTINGS[key]
        try:
            settings[key] = read(value)
            if key in _WHOLE and not 0 <= settings[key] <= _MOST:
                raise ValueError("out of range")
        except ValueError as error:
            raise UsageError(f"cannot read {key}={value} in {text!r}", allowed=allowed) from error
    return name.strip(), settings
