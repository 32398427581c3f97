"""Parameters, multiply-adds, exact operations and memory of a network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable

from featherweight.architecture import Architecture
from featherweight.layers import INPUT, Layer, layers
from featherweight.profiling.count import COUNTERS, Count
from featherweight.profiling.liveness import BYTES_PER_VALUE, peak_activation_bytes
from featherweight.records import Record

__all__ = ["LayerProfile", "Profile", "profile", "profile_layers"]


class LayerProfile(Record):
    """What one layer costs for one picture; `None` = its operator is unknown.

    Attributes:
        name: name of the layer.
        op: its primitive.
        output_shape: without the batch axis.
        params: learned numbers, norms included.
        macs: multiply-adds (see `featherweight.profiling.count`).
        flops: multiplications plus additions, exact.
        memory_access_bytes: fp32 bytes of everything it reads (inputs and params) and writes
            (output), each once, as if nothing were fused.
    """

    name: str
    op: str
    output_shape: tuple[int, ...]
    params: int | None
    macs: int | None
    flops: int | None
    memory_access_bytes: int | None


class Profile(Record):
    """What a network costs for one picture; a total is `None` while an operator is unknown.

    Attributes:
        name: of the architecture.
        input_shape: (C, H, W).
        params: learned numbers, norms included.
        macs: multiply-adds of convolutions and linear layers.
        flops: their multiplications plus additions, exact.
        peak_activation_bytes: fp32, layer order, norms and activations fused.
        unknown_ops: operators nobody can count, sorted.
        layers: the rows, in order of execution.
    """

    name: str
    input_shape: tuple[int, int, int]
    params: int | None
    macs: int | None
    flops: int | None
    peak_activation_bytes: int | None
    unknown_ops: tuple[str, ...]
    layers: tuple[LayerProfile, ...]


def profile(architecture: Architecture) -> Profile:
    """Count a network; needs neither weights nor torch.

    Raises:
        ArchitectureError: the blocks do not fit together.
    """
    return profile_layers(
        layers(architecture), name=architecture.name, input_shape=architecture.input_shape
    )


def profile_layers(
    network_layers: tuple[Layer, ...], *, name: str, input_shape: tuple[int, int, int]
) -> Profile:
    """Count a list of layers, for instance an imported one with operators of its own."""
    shapes: dict[str, tuple[int, ...]] = {INPUT: input_shape}
    rows = []
    for layer in network_layers:
        shapes[layer.name] = layer.output_shape
        rows.append(_profile_layer(layer, shapes))
    unknown = sorted({layer.op for layer in network_layers} - set(COUNTERS))
    return Profile(
        name=name,
        input_shape=input_shape,
        params=_total(row.params for row in rows),
        macs=_total(row.macs for row in rows),
        flops=_total(row.flops for row in rows),
        peak_activation_bytes=None if unknown else peak_activation_bytes(network_layers),
        unknown_ops=tuple(unknown),
        layers=tuple(rows),
    )


def _profile_layer(layer: Layer, shapes: dict[str, tuple[int, ...]]) -> LayerProfile:
    counter = COUNTERS.get(layer.op)
    count: Count | None = None if counter is None else counter(layer)
    values = sum(math.prod(shapes[source]) for source in layer.inputs)
    values += math.prod(layer.output_shape)
    return LayerProfile(
        name=layer.name,
        op=layer.op,
        output_shape=layer.output_shape,
        params=None if count is None else count.params,
        macs=None if count is None else count.macs,
        flops=None if count is None else count.flops,
        memory_access_bytes=(None if count is None else (values + count.params) * BYTES_PER_VALUE),
    )


def _total(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
