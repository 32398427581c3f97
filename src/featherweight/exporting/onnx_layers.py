"""The layers of an ONNX file as an Architecture, without its weights: for timing its variants.

What only prepares the picture (casts, transposes, arithmetic with constants) or converts numbers
is left out; norms are part of the convolution before them. A node that no primitive computes is
named. It is left out where it keeps its map, else the layers end before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import onnx

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError
from featherweight.exporting.onnx_graph import load_graph
from featherweight.exporting.onnx_inputs import fix_inputs
from featherweight.exporting.onnx_reader import OnnxReader
from featherweight.layers import layers

__all__ = ["OPEN_SIZE", "OnnxLayers", "read_onnx_layers"]

OPEN_SIZE = 224
"""Height and width that stand for open ones."""


class OnnxLayers(NamedTuple):
    """What was read of a file.

    Attributes:
        architecture: its layers; what it answers is pooled into two classes where it is no vector.
        unknown: nodes that no primitive computes, as `operator (name)`.
        open_sizes: whether the file leaves its height and width open; they are 224 then.
    """

    architecture: Architecture
    unknown: tuple[str, ...]
    open_sizes: bool


def read_onnx_layers(path: Path) -> OnnxLayers:
    """Return the layers of a file.

    Raises:
        UsageError: the file cannot be read, or is no graph that could run.
        UnsupportedError: nothing of it is a convolution of a picture.
    """
    model = load_graph(path)
    shape = _open_shape(model)
    fix_inputs(model, path, input_shape=shape)
    reader = OnnxReader(model)
    for node in model.graph.node:
        reader.visit(node)
    if not any(one.op == "conv" for one in reader.primitives):
        raise UnsupportedError(
            f"{path} holds no convolution of a picture that can be read"
            + (f": {reader.unknown[0]}" if reader.unknown else ""),
            allowed="a convolutional network that takes pictures",
        )
    primitives = reader.ended(model)
    architecture = Architecture(
        name=path.stem,
        input_shape=reader.input_shape,
        primitives=primitives,
        num_classes=primitives[-1].classes,
    )
    layers(architecture)
    return OnnxLayers(architecture, tuple(reader.unknown), shape is not None)


def _open_shape(model: onnx.ModelProto) -> tuple[int, int, int] | None:
    """Return sizes for a picture whose height or width is open; `None` = they are not."""
    constants = {constant.name for constant in model.graph.initializer}
    first = next((one for one in model.graph.input if one.name not in constants), None)
    if first is None or not first.type.HasField("tensor_type"):
        return None
    sizes = [size.dim_value or 0 for size in first.type.tensor_type.shape.dim]
    if len(sizes) != 4 or all(sizes[1:]):
        return None
    last = sizes[3] in (1, 3, 4) and sizes[1] not in (1, 3, 4)
    channels = sizes[3] if last else sizes[1] or 3
    sides = [size or OPEN_SIZE for size in (sizes[1:3] if last else sizes[2:])]
    return (sides[0], sides[1], channels) if last else (channels, sides[0], sides[1])
