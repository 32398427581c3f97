"""What a network asks of a device, layer by layer, as numbers that add up to its time.

A layer's time is taken to be a sum of terms, each a count of work times a cost that the device
has for it: multiply-adds (also as the runtime's blocks of channels pad them), values read and
written, weights read, and one for being called at all. Costs differ between kinds of layers. ReLU
and ReLU6 after a convolution or an addition are part of it in every runtime here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture
from featherweight.layers import Layer, layers

__all__ = ["TERMS", "kind_of", "terms_matrix", "terms_of"]

_ALIGNMENTS = (16, 4, 1)
"""Runtimes have faster code for channels that are multiples of 16, or of 4: one cost for all
misses 11 % on average, one for each of these 7 % (240 networks, onnxruntime on AVX-512)."""
_ALIGNED = ("dense", "pointwise", "depthwise", "grouped")
_CONVOLUTIONS = (
    *(f"{kind}{multiple}" for kind in _ALIGNED for multiple in _ALIGNMENTS), "squeeze", "linear"
)  # fmt: skip
_OTHERS = (
    "pool", "global_pool", "add", "multiply", "concat", "select", "shuffle", "pad", "sigmoid",
    "hard_sigmoid", "hard_swish", "silu", "relu",
)  # fmt: skip
_WORK = ("calls", "macs", "padded_macs", "inputs", "outputs", "weights")
_FUSED = ("relu", "relu6")
_AFTER = ("conv", "linear", "add")
_FEW = 4
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


def terms_of(architecture: Architecture) -> NDArray[np.float64]:
    """Return how much of each term a network asks for, (len(TERMS),); all are 0 or above."""
    asked = np.zeros(len(TERMS))
    asked[0] = 1.0
    plan = layers(architecture)
    by_name = {layer.name: layer for layer in plan}
    for layer in plan:
        if not _is_fused(layer, by_name):
            for name, amount in _terms(layer):
                asked[_PLACE[name]] += amount
    return asked


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
    channels = math.prod(layer.input_shape) if kind == "linear" else layer.input_shape[0]
    per_group, window = channels / layer.groups, layer.kernel_size**2
    weights = per_group * layer.output_shape[0] * window
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


def _padded(channels: float) -> float:
    return math.ceil(channels / _BLOCK) * _BLOCK


def terms_matrix(architectures: Sequence[Architecture]) -> NDArray[np.float64]:
    """Return the terms of several networks, (networks, len(TERMS))."""
    return np.stack([terms_of(one) for one in architectures])
