"""The registry of networks, and the settings every one of them understands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, cast

from featherweight.architecture import Activation, Architecture, small_form
from featherweight.errors import UsageError
from featherweight.registry import Registry
from featherweight.zoo.published import Published, find_published

__all__ = [
    "MODELS",
    "BuildModel",
    "ModelEntry",
    "Settings",
    "add_model",
    "base_name",
    "published_variants",
    "skip_if_equal",
]

Padding = Literal["symmetric", "same"]

_CHOICES = {
    "padding": ("symmetric", "same"),
    "activation": ("relu", "relu6", "hard_swish"),
    "form": ("standard", "small"),
}


class Settings(NamedTuple):
    """Checked settings, as the function that draws a network receives them.

    Attributes:
        width: multiplier of the widths; what it does not scale is said by each network.
        resolution: height and width of the input in pixels.
        classes: outputs of the classifier; 0 leaves it out.
        channels: channels of the input.
        padding: rule for the borders.
        activation: replaces every non-linearity of the table; `None` keeps the table's.
    """

    width: float
    resolution: int
    classes: int
    channels: int
    padding: Padding
    activation: Activation | None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return (self.channels, self.resolution, self.resolution)


class BuildModel(Protocol):
    """Build one network; a setting left at `None` takes the network's own default."""

    def __call__(
        self,
        *,
        width: float | None = None,
        resolution: int | None = None,
        classes: int | None = None,
        channels: int | None = None,
        padding: str | None = None,
        activation: str | None = None,
        form: str | None = None,
    ) -> Architecture:
        """Return the Architecture.

        Raises:
            UsageError: a setting out of range; says what is allowed.
        """


class ModelEntry(NamedTuple):
    """One network of the zoo.

    Attributes:
        build: settings -> Architecture. Defaults: width 1, `default_resolution`, 1000 classes,
            3 channels, the network's own padding and activations, form `standard`.
        family: networks of one paper share it.
        default_resolution: pixels of the square input the network was drawn for.
        published: what the authors report.
    """

    build: BuildModel
    family: str
    default_resolution: int
    published: tuple[Published, ...]


MODELS: Registry[ModelEntry] = Registry("network", plugins="featherweight.zoo")


def add_model(
    name: str,
    draw: Callable[[Settings], Architecture],
    *,
    family: str,
    default_resolution: int = 224,
    default_padding: Padding = "symmetric",
    published: tuple[Published, ...] = (),
) -> ModelEntry:
    """Register a network.

    Args:
        name: what people type; `draw` need not know it.
        draw: checked settings -> Architecture in its standard form.
        family: networks of one paper share it.
        default_resolution: pixels of the square input.
        default_padding: rule for the borders of the published weights.
        published: rows of published tables.
    """

    def build(
        *,
        width: float | None = None,
        resolution: int | None = None,
        classes: int | None = None,
        channels: int | None = None,
        padding: str | None = None,
        activation: str | None = None,
        form: str | None = None,
    ) -> Architecture:
        settings = Settings(
            width=_width(1.0 if width is None else width),
            resolution=_whole(
                "resolution", resolution, default=default_resolution, limits=(8, 4096)
            ),
            classes=_whole("classes", classes, default=1000, limits=(0, 1_000_000)),
            channels=_whole("channels", channels, default=3, limits=(1, 1024)),
            padding=cast(Padding, _choice("padding", padding or default_padding)),
            activation=None if activation is None else _activation(activation),
        )
        chosen_form = _choice("form", form or "standard")
        architecture = draw(settings).changed(
            name=_full_name(name, settings, default_padding=default_padding)
        )
        return small_form(architecture) if chosen_form == "small" else architecture

    return MODELS.add(name, ModelEntry(build, family, default_resolution, published))


def base_name(architecture: Architecture) -> str:
    """Return the zoo name of a network, without the settings its name may carry."""
    return architecture.name.partition(":")[0]


def published_variants(name: str) -> list[tuple[str, Published]]:
    """Return what is published of a network, each with the text that names the variant.

    The network at its own settings comes first when nobody published it (its row is empty).
    """
    entry = MODELS[name]
    default = Published(resolution=entry.default_resolution, source="")
    rows = list(entry.published)
    if find_published(rows, width=default.width, resolution=default.resolution) is None:
        rows.insert(0, default)
    variants = []
    for row in rows:
        settings = []
        if row.width != default.width:
            settings.append(f"width={row.width:g}")
        if row.resolution != default.resolution:
            settings.append(f"resolution={row.resolution}")
        variants.append((f"{name}:{','.join(settings)}" if settings else name, row))
    return variants


def skip_if_equal(stride: int, in_channels: int, out_channels: int) -> Literal["none", "identity"]:
    """Return the skip of an inverted residual: identity at stride 1 and equal widths.

    Source: MobileNetV2, arXiv 1801.04381, figure 4.
    """
    return "identity" if stride == 1 and in_channels == out_channels else "none"


def _full_name(name: str, settings: Settings, *, default_padding: str) -> str:
    """Add to the name what the input shape and the number of classes do not say."""
    extra = []
    if settings.width != 1.0:
        extra.append(f"width={settings.width:g}")
    if settings.padding != default_padding:
        extra.append(f"padding={settings.padding}")
    if settings.activation is not None:
        extra.append(f"activation={settings.activation}")
    return f"{name}:{','.join(extra)}" if extra else name


def _width(value: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not 0.1 <= value <= 8.0
    ):
        raise UsageError(f"width={value!r} is not a width multiplier", allowed="0.1 to 8")
    return float(value)


def _whole(name: str, value: int | None, *, default: int, limits: tuple[int, int]) -> int:
    if value is None:
        return default
    smallest, largest = limits
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise UsageError(
            f"{name}={value!r} cannot be built", allowed=f"whole numbers {smallest} to {largest}"
        )
    return value


def _activation(value: str) -> Activation:
    return cast(Activation, _choice("activation", value))


def _choice(name: str, value: str) -> str:
    if value not in _CHOICES[name]:
        raise UsageError(f"{name}={value!r} does not exist", allowed=", ".join(_CHOICES[name]))
    return value
