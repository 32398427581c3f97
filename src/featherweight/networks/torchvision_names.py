"""What torchvision calls the weights of our layers, one function per network."""

from __future__ import annotations

from collections.abc import Callable

from featherweight.architecture import Architecture
from featherweight.networks.timm_names import Names

__all__ = ["TORCHVISION_FAMILIES"]


def _mobilenet_v2(architecture: Architecture) -> Names:
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


def _mobilenet_v3(architecture: Architecture) -> Names:
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


def _mnasnet(architecture: Architecture) -> Names:
    """Return the names of torchvision.models.mnasnet (B1): a list of layers, then stacks."""
    names = {
        "blocks.0.main": ("layers.0", "layers.1"),
        "blocks.1.depthwise": ("layers.3", "layers.4"),
        "blocks.1.project": ("layers.6", "layers.7"),
        f"blocks.{len(architecture.blocks) - 1}.main": ("layers.14", "layers.15"),
        "classifier": ("classifier.1", ""),
    }
    index = 2
    for stack, count in enumerate((3, 3, 3, 2, 4, 1), start=8):
        for within in range(count):
            theirs = f"layers.{stack}.{within}.layers"
            for number, mine in zip((0, 3, 6), ("expand", "depthwise", "project"), strict=True):
                names[f"blocks.{index}.{mine}"] = (f"{theirs}.{number}", f"{theirs}.{number + 1}")
            index += 1
    return names


def _shufflenet_v2(architecture: Architecture) -> Names:
    """Return the names of torchvision.models.shufflenetv2."""
    last = len(architecture.blocks) - 1
    names = {
        "blocks.0.main": ("conv1.0", "conv1.1"),
        f"blocks.{last}.main": ("conv5.0", "conv5.1"),
        "classifier": ("fc", ""),
    }
    places = [(stage, i) for stage, n in ((2, 4), (3, 8), (4, 4)) for i in range(n)]
    first = 1 if architecture.blocks[1].op == "shuffle_v2" else 2  # the max pool may be dropped
    for index, (stage, within) in enumerate(places, start=first):
        ours, theirs = f"blocks.{index}", f"stage{stage}.{within}"
        for mine, branch, number in (
            ("shortcut.depthwise", 1, 0),
            ("shortcut.project", 1, 2),
            ("expand", 2, 0),
            ("depthwise", 2, 3),
            ("project", 2, 5),
        ):
            names[f"{ours}.{mine}"] = (
                f"{theirs}.branch{branch}.{number}",
                f"{theirs}.branch{branch}.{number + 1}",
            )
    return names


TORCHVISION_FAMILIES: dict[str, Callable[[Architecture], Names]] = {
    "mnasnet": _mnasnet,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3": _mobilenet_v3,
    "shufflenet_v2": _shufflenet_v2,
}
"""Family -> names of its layers."""
