"""What timm calls the weights of our layers, one function per kind of network."""

from __future__ import annotations

from collections.abc import Callable

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.zoo.model import base_name

__all__ = ["TIMM_FAMILIES", "Names"]

Names = dict[str, tuple[str, str]]
"""Our layer -> (their convolution or linear layer, their norm)."""

_STAGES = {
    "mobilenet_v1": (1, 2, 2, 6, 2),
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "mobilenet_v3_large": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small": (1, 2, 3, 2, 3),
    "mobilenet_v3_large_minimalistic": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small_minimalistic": (1, 2, 3, 2, 3),
    "mobilenet_v4_conv_small": (2, 2, 6, 6, 1),
    "mobilenet_v4_conv_medium": (1, 2, 8, 11, 1),
    "mobilenet_v4_conv_large": (1, 2, 11, 13, 1),
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite3": (1, 3, 3, 5, 5, 6, 1),
    "efficientnet_lite4": (1, 4, 4, 6, 6, 8, 1),
    "mnasnet_a1": (1, 2, 3, 4, 2, 3, 1),
    "mnasnet_b1": (1, 3, 3, 3, 2, 4, 1),
    "mnasnet_small": (1, 1, 2, 4, 3, 3, 1),
    "ghostnet": (1, 1, 1, 1, 1, 1, 5, 1, 4),
}
"""Blocks in each of timm's stages. Source: the arch_def lists of timm/models/efficientnet.py and
mobilenetv3.py, and the cfgs of ghostnet.py."""


def _places(name: str) -> list[tuple[int, int]]:
    return [(stage, i) for stage, count in enumerate(_STAGES[name]) for i in range(count)]


def _inverted_residuals(architecture: Architecture) -> Names:
    """Return the names of the networks of separable blocks and inverted residuals."""
    name = base_name(architecture)
    places = _places(name)
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


def _mobilenet_v4(architecture: Architecture) -> Names:
    """Return the names of MobileNetV4; a fused bottleneck is one block there and two here."""
    names = {
        "blocks.0.main": ("conv_stem", "bn1"),
        "head.0.main": ("conv_head", "norm_head"),
        "classifier": ("classifier", ""),
    }
    parts = {"start": "dw_start", "expand": "pw_exp", "depthwise": "dw_mid", "project": "pw_proj"}
    index = 1
    for stage, within in _places(base_name(architecture)):
        theirs = f"blocks.{stage}.{within}"
        block = architecture.blocks[index]
        if block.op != "conv":
            for ours, part in parts.items():
                names[f"blocks.{index}.{ours}"] = (f"{theirs}.{part}.conv", f"{theirs}.{part}.bn")
        elif architecture.blocks[index + 1 :] and (
            architecture.blocks[index + 1].activation == "none"
            and architecture.blocks[index + 1].op == "conv"
        ):
            names[f"blocks.{index}.main"] = (f"{theirs}.conv_exp", f"{theirs}.bn1")
            names[f"blocks.{index + 1}.main"] = (f"{theirs}.conv_pwl", f"{theirs}.bn2")
            index += 1
        else:
            names[f"blocks.{index}.main"] = (f"{theirs}.conv", f"{theirs}.bn1")
        index += 1
    return names


def _ghostnet(architecture: Architecture) -> Names:
    last, stages = len(architecture.blocks) - 1, len(_STAGES["ghostnet"])
    names = {
        "blocks.0.main": ("conv_stem", "bn1"),
        f"blocks.{last}.main": (f"blocks.{stages}.0.conv", f"blocks.{stages}.0.bn1"),
        "head.0.linear": ("conv_head", ""),
        "classifier": ("classifier", ""),
    }
    for index, (stage, within) in enumerate(_places("ghostnet"), start=1):
        ours, theirs = f"blocks.{index}", f"blocks.{stage}.{within}"
        for mine, part in (("expand", "ghost1"), ("project", "ghost2")):
            primary, cheap = f"{theirs}.{part}.primary_conv", f"{theirs}.{part}.cheap_operation"
            names[f"{ours}.{mine}"] = (f"{primary}.0", f"{primary}.1")
            names[f"{ours}.{mine}_cheap"] = (f"{cheap}.0", f"{cheap}.1")
        names[f"{ours}.depthwise"] = (f"{theirs}.conv_dw", f"{theirs}.bn_dw")
        names[f"{ours}.se.reduce"] = (f"{theirs}.se.conv_reduce", "")
        names[f"{ours}.se.expand"] = (f"{theirs}.se.conv_expand", "")
        shortcut = f"{theirs}.shortcut"
        names[f"{ours}.shortcut.depthwise"] = (f"{shortcut}.0", f"{shortcut}.1")
        names[f"{ours}.shortcut.project"] = (f"{shortcut}.2", f"{shortcut}.3")
    return names


TIMM_FAMILIES: dict[str, Callable[[Architecture], Names]] = {
    "efficientnet_lite": _inverted_residuals,
    "ghostnet": _ghostnet,
    "mnasnet": _inverted_residuals,
    "mobilenet_v1": _inverted_residuals,
    "mobilenet_v2": _inverted_residuals,
    "mobilenet_v3": _inverted_residuals,
    "mobilenet_v4": _mobilenet_v4,
}
"""Family -> names of its layers."""
