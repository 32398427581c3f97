"""Attributes of ONNX nodes: by name, and of windows that are square."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx
from onnx import helper

__all__ = ["Window", "attributes_of", "window_of"]


class Window(NamedTuple):
    """Side (0 = not said), stride, and padding (top, left, bottom, right) or `same`."""

    side: int
    stride: int
    padding: Any


def window_of(node: onnx.NodeProto) -> Window | None:
    """Return side, stride and padding; `None` = dilated, or not the same along both axes."""
    attributes = attributes_of(node)
    strides = list(attributes.get("strides", (1, 1)))
    kernel = list(attributes.get("kernel_shape", ()))
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    dilated = any(one != 1 for one in attributes.get("dilations", (1, 1)))
    uneven = len(set(strides)) > 1 or len(set(kernel)) > 1 or len(pads) != 4
    if dilated or uneven or attributes.get("ceil_mode"):
        return None
    automatic = str(attributes.get("auto_pad", b"NOTSET"))
    padding = "same" if "SAME" in automatic else tuple(pads)
    return Window(kernel[0] if kernel else 0, strides[0], padding)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return attributes by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}
