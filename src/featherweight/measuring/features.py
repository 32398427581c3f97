"""What a network asks of a device, layer by layer, as numbers that add up to its time.

A layer's time is taken to be a sum of terms, each a count of work times a cost that the device
has for it: multiply-adds (also as the runtime's blocks of channels pad them), values read and
written, weights read, and one for being called at all. Costs differ between kinds of layers. ReLU
and ReLU6 after a convolution or an addition are part of it in every runtime here.

What such a sum cannot say depends on shapes: each layer is also described by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture
from featherweight.layers import Layer, layers

__all__ = ["DESCRIPTORS", "TERMS", "Work", "base_kind", "kind_of", "work_of"]

_ALIGNMENTS = (16, 4, 1)
"""Runtimes have faster code for channels that are multiples of 16, or of 4: one cost for all
misses 11 % on average, one for each of these 7 % (240 networks, onnxruntime on AVX-512)."""
_ALIGNED = ("dense", "pointwise", "depthwise", "grouped")
_CONVOLUTIONS = (
    *(f"{kind}{multiple}" for kind in _ALIGNED for multiple in _ALIGNMENTS),
    "squeeze",
    "linear",
)
_OTHERS = (
    "pool",
    "global_pool",
    "add",
    "multiply",
    "concat",
    "select",
    "shuffle",
    "pad",
    "resize",
    "sigmoid",
    "hard_sigmoid",
    "hard_swish",
    "silu",
    "relu",
)
_WORK = ("calls", "macs", "padded_macs", "inputs", "outputs", "weights")
_FUSED = ("relu", "relu6")
_AFTER = ("conv", "linear", "add")
_FEW = 4
_MULTIPLES = (16, 8, 4)
_BLOCK = 16
"""Channels that runtimes handle together (AVX-512 holds 16 float32)."""

TERMS: tuple[str, ...] = (
    "network",
    *(f"{kind}.{work}" for kind in _CONVOLUTIONS for work in _WORK),
    *(f"depthwise.outputs_{size}x{size}" for size in (3, 5, 7)),
    "depthwise.strided_inputs",
    *(f"{kind}.{work}" for kind in _OTHERS for work in ("calls", "outputs")),
)
"""Names of the terms, in the order of `terms_of`."""

_PLACE = {name: place for place, name in enumerate(TERMS)}


DESCRIPTORS: tuple[str, ...] = (
    "channels",
    "out_channels",
    "places",
    "input_places",
    "kernel_size",
    "stride",
    "groups",
    "weights",
    "maps",
    "of_16",
    "of_8",
    "of_4",
    "out_of_16",
    "out_of_8",
    "out_of_4",
    "padding",
    "out_padding",
    "width_padding",
    "network_weights",
)
"""Names of what describes a layer; counts as log2, multiples as 0 or 1."""


class Work(NamedTuple):
    """What a network asks for; the first row is the network as a whole, then its layers.

    Attributes:
        terms: (rows, len(TERMS)), all 0 or above.
        descriptors: (rows, len(DESCRIPTORS)).
        kinds: base kind of each row.
    """

    terms: NDArray[np.float64]
    descriptors: NDArray[np.float64]
    kinds: tuple[str, ...]


def work_of(architecture: Architecture) -> Work:
    """Return what a network asks for, layer by layer."""
    plan = layers(architecture)
    by_name = {layer.name: layer for layer in plan}
    counted = [layer for layer in plan if not _is_fused(layer, by_name)]
    terms = np.zeros((1 + len(counted), len(TERMS)))
    terms[0, 0] = 1.0
    for row, layer in zip(terms[1:], counted, strict=True):
        for name, amount in _terms(layer):
            row[_PLACE[name]] += amount
    all_weights = math.log2(max(1.0, sum(_weights(layer) for layer in plan)))
    described = [[0.0] * (len(DESCRIPTORS) - 1)] + [_descriptors(layer) for layer in counted]
    return Work(
        terms,
        np.array([[*row, all_weights] for row in described]),
        ("network", *(base_kind(kind_of(layer)) for layer in counted)),
    )


def base_kind(kind: str) -> str:
    """Return a kind without the multiple that its channels are of."""
    return kind.rstrip("0123456789")


def kind_of(layer: Layer) -> str:
    """Return which costs apply to a layer.

    The kind of a convolution ends with the multiple that its channels are of.
    """
    if layer.op == "activation":
        return "relu" if layer.function in _FUSED else layer.function
    if layer.op != "conv":
        return layer.op
    if math.prod(layer.output_shape[1:]) == 1 and layer.kernel_size == 1:
        return "squeeze"
    return _kind_of_convolution(layer)


def _kind_of_convolution(layer: Layer) -> str:
    channels, outputs = layer.input_shape[0], layer.output_shape[0]
    if layer.groups == channels == outputs > 1:
        return f"depthwise{_alignment(channels)}"
    if layer.groups > 1:
        return f"grouped{_alignment(channels // layer.groups, outputs // layer.groups)}"
    if layer.kernel_size == 1:
        return f"pointwise{_alignment(channels, outputs)}"
    # The picture's channels are few: that convolution has code of its own.
    return f"dense{_alignment(outputs) if channels <= _FEW else _alignment(channels, outputs)}"


def _alignment(*channels: int) -> int:
    """Return the largest of the multiples that all of them are of."""
    return next(m for m in _ALIGNMENTS if all(count % m == 0 for count in channels))


def _is_fused(layer: Layer, by_name: dict[str, Layer]) -> bool:
    if layer.op != "activation" or layer.function not in _FUSED:
        return False
    source = by_name.get(layer.inputs[0])
    return source is not None and source.op in _AFTER


def _terms(layer: Layer) -> Iterator[tuple[str, float]]:
    kind = kind_of(layer)
    outputs = float(math.prod(layer.output_shape))
    yield f"{kind}.calls", 1.0
    yield f"{kind}.outputs", outputs
    if kind not in _CONVOLUTIONS:
        return
    inputs = float(math.prod(layer.input_shape))
    yield f"{kind}.inputs", inputs
    channels, per_group = _channels(layer), _channels(layer) / layer.groups
    window, weights = layer.kernel_size**2, _weights(layer)
    places = float(math.prod(layer.output_shape[1:]))
    yield f"{kind}.weights", weights
    yield f"{kind}.macs", weights * places
    if kind.startswith("depthwise"):
        padded = _padded(channels) * window
        size = min(max(layer.kernel_size, 3), 7)
        yield f"depthwise.outputs_{size}x{size}", outputs
        if layer.stride > 1:
            yield "depthwise.strided_inputs", inputs
    else:
        rows = layer.output_shape[0] / layer.groups
        padded = layer.groups * _padded(per_group) * _padded(rows) * window
    yield f"{kind}.padded_macs", padded * places


def _channels(layer: Layer) -> int:
    return math.prod(layer.input_shape) if layer.op == "linear" else layer.input_shape[0]


def _weights(layer: Layer) -> float:
    if layer.op not in ("conv", "linear"):
        return 0.0
    return _channels(layer) / layer.groups * layer.output_shape[0] * layer.kernel_size**2


def _padded(channels: float, block: int = _BLOCK) -> float:
    return math.ceil(channels / block) * block


def _descriptors(layer: Layer) -> list[float]:
    """Return all but the last of DESCRIPTORS."""
    channels, outputs = layer.input_shape[0], layer.output_shape[0]
    per_group, rows = channels / layer.groups, outputs / layer.groups
    places, read = math.prod(layer.output_shape[1:]), math.prod(layer.input_shape[1:])
    side = layer.output_shape[-1] if len(layer.output_shape) > 1 else 1
    counts = (channels, outputs, places, read)
    return [
        *(math.log2(count) for count in counts),
        float(layer.kernel_size),
        float(layer.stride),
        math.log2(layer.groups),
        math.log2(max(1.0, _weights(layer))),
        math.log2(channels * read + outputs * places),
        *(float(per_group % m == 0) for m in _MULTIPLES),
        *(float(rows % m == 0) for m in _MULTIPLES),
        math.log2(_padded(per_group) / per_group),
        math.log2(_padded(rows) / rows),
        math.log2(_padded(side, 4) / side),
    ]
