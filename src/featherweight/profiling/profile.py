"""Parameters, multiply-adds, exact operations and memory of a network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector, ThunderNet
from featherweight.detection.parts import box_head, dense_part
from featherweight.layers import INPUT, Layer, layers
from featherweight.networks.kinds import AnyArchitecture
from featherweight.profiling.count import COUNTERS, Count
from featherweight.profiling.liveness import BYTES_PER_VALUE, peak_activation_bytes
from featherweight.profiling.separable import SeparablePair, separable_pairs
from featherweight.records import Record

__all__ = [
    "LayerProfile",
    "Profile",
    "layer_profile",
    "network_profile",
    "profile",
    "profile_layers",
    "totals",
]


class LayerProfile(Record):
    """What one layer costs; `None` = its operator, or a shape it needs, is unknown.

    Attributes:
        name: name of the layer.
        op: its primitive; of a torch module the ATen operator, of a file the ONNX operator.
        output_shape: without the batch axis; of a torch module or a file as it is written.
        params: learned numbers, norms included.
        macs: multiply-adds (see `featherweight.profiling.count`).
        flops: multiplications plus additions, exact.
        multiplications: of the flops; the same number as `macs`.
        additions: of the flops.
        memory_access_bytes: bytes of everything it reads (inputs and params) and writes (output),
            each once, as if nothing were fused. fp32; of a torch module or a file in their types.
        arithmetic_intensity: flops per byte of `memory_access_bytes`.
    """

    name: str
    op: str
    output_shape: tuple[int, ...] | None
    params: int | None
    macs: int | None
    flops: int | None
    multiplications: int | None
    additions: int | None
    memory_access_bytes: int | None
    arithmetic_intensity: float | None


class Profile(Record):
    """What a network costs for one picture; a total is `None` while an operator is unknown.

    Attributes:
        name: of the architecture, the module's class or the file.
        input_shape: (C, H, W); of a torch module or a file its first input without batch axis.
        params: learned numbers, norms included.
        macs: multiply-adds of convolutions, linear layers and matrix products.
        flops: their multiplications plus additions, exact.
        multiplications: of the flops; the same number as `macs`.
        additions: of the flops.
        memory_access_bytes: sum over the layers.
        arithmetic_intensity: flops per byte of `memory_access_bytes`.
        peak_activation_bytes: fp32, layer order, norms and activations fused; known for an
            Architecture only.
        unknown_ops: operators nobody can count, sorted.
        separable_pairs: depthwise and pointwise convolutions that stand for a plain one; looked
            for in an Architecture only.
        layers: the rows, in order of execution.
    """

    name: str
    input_shape: tuple[int, ...]
    params: int | None
    macs: int | None
    flops: int | None
    multiplications: int | None
    additions: int | None
    memory_access_bytes: int | None
    arithmetic_intensity: float | None
    peak_activation_bytes: int | None
    unknown_ops: tuple[str, ...]
    separable_pairs: tuple[SeparablePair, ...]
    layers: tuple[LayerProfile, ...]


def profile(architecture: AnyArchitecture) -> Profile:
    """Count a network; needs neither weights nor torch.

    A detector is counted as in its papers: what lies between and behind its parts has no
    multiply-adds; rows of the box head, `boxes.*`, cost what all regions of a picture do together.

    Raises:
        ArchitectureError: the blocks do not fit together.
    """
    if isinstance(architecture, Detector):
        return _profile_detector(architecture)
    return profile_layers(
        layers(architecture), name=architecture.name, input_shape=architecture.input_shape
    )


def _profile_detector(detector: Detector) -> Profile:
    dense, head = profile(dense_part(detector)), box_head(detector)
    rows = list(dense.layers)
    if head is not None:
        assert isinstance(detector.head, ThunderNet)
        rows += [_of_regions(row, detector.head.regions) for row in profile(head).layers]
    return network_profile(
        rows,
        name=detector.name,
        input_shape=detector.input_shape,
        params=_total(row.params for row in rows),
        peak_activation_bytes=dense.peak_activation_bytes,
        unknown_ops=(),
        pairs=dense.separable_pairs,
    )


def _of_regions(row: LayerProfile, regions: int) -> LayerProfile:
    """Return what a layer costs that so many regions pass."""
    fields = ("macs", "flops", "multiplications", "additions", "memory_access_bytes")
    changes = {name: regions * (getattr(row, name) or 0) for name in fields}
    return row.model_copy(update={"name": f"boxes.{row.name}", **changes})


def totals(architecture: Architecture) -> Count:
    """Return the totals of a network alone: what choosing among thousands of networks needs.

    Raises:
        ArchitectureError: the blocks do not fit together.
    """
    counts = [COUNTERS[layer.op](layer) for layer in layers(architecture)]
    params, macs, flops = (sum(column) for column in zip(*counts, strict=True))
    return Count(params, macs, flops)


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
    return network_profile(
        rows,
        name=name,
        input_shape=input_shape,
        params=_total(row.params for row in rows),
        peak_activation_bytes=None if unknown else peak_activation_bytes(network_layers),
        unknown_ops=unknown,
        pairs=separable_pairs(network_layers),
    )


def layer_profile(
    name: str,
    op: str,
    *,
    output_shape: tuple[int, ...] | None,
    params: int | None,
    macs: int | None,
    flops: int | None,
    memory_access_bytes: int | None,
) -> LayerProfile:
    """Return a row with the columns that follow from the others."""
    return LayerProfile(
        name=name,
        op=op,
        output_shape=output_shape,
        params=params,
        macs=macs,
        flops=flops,
        multiplications=macs,
        additions=_additions(macs, flops),
        memory_access_bytes=memory_access_bytes,
        arithmetic_intensity=_intensity(flops, memory_access_bytes),
    )


def network_profile(
    rows: Sequence[LayerProfile],
    *,
    name: str,
    input_shape: tuple[int, ...],
    params: int | None,
    peak_activation_bytes: int | None = None,
    unknown_ops: Iterable[str],
    pairs: tuple[SeparablePair, ...] = (),
) -> Profile:
    """Return rows with their totals; a total is `None` when it is in one of the rows."""
    macs = _total(row.macs for row in rows)
    flops = _total(row.flops for row in rows)
    memory_access_bytes = _total(row.memory_access_bytes for row in rows)
    return Profile(
        name=name,
        input_shape=input_shape,
        params=params,
        macs=macs,
        flops=flops,
        multiplications=macs,
        additions=_additions(macs, flops),
        memory_access_bytes=memory_access_bytes,
        arithmetic_intensity=_intensity(flops, memory_access_bytes),
        peak_activation_bytes=peak_activation_bytes,
        unknown_ops=tuple(sorted(unknown_ops)),
        separable_pairs=pairs,
        layers=tuple(rows),
    )


def _profile_layer(layer: Layer, shapes: dict[str, tuple[int, ...]]) -> LayerProfile:
    if layer.op not in COUNTERS:
        return layer_profile(
            layer.name,
            layer.op,
            output_shape=layer.output_shape,
            params=None,
            macs=None,
            flops=None,
            memory_access_bytes=None,
        )
    params, macs, flops = COUNTERS[layer.op](layer)
    values = math.prod(layer.output_shape) + params
    for source in layer.inputs:
        values += math.prod(shapes[source])
    return layer_profile(
        layer.name,
        layer.op,
        output_shape=layer.output_shape,
        params=params,
        macs=macs,
        flops=flops,
        memory_access_bytes=values * BYTES_PER_VALUE,
    )


def _additions(macs: int | None, flops: int | None) -> int | None:
    return None if macs is None or flops is None else flops - macs


def _intensity(flops: int | None, memory_access_bytes: int | None) -> float | None:
    """Flops per byte; unknown where nothing is read or written."""
    return None if flops is None or not memory_access_bytes else flops / memory_access_bytes


def _total(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
