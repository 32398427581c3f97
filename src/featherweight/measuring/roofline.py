"""The roofline of a platform, and how near to it networks and their layers come.

A layer can be no faster than its arithmetic at the peak rate, nor than its bytes at the peak
bandwidth (Williams, Waterman and Patterson, "Roofline", CACM 2009). Both peaks are measured with
the runtime itself: networks that differ by some equal layers are timed, and the difference of
their times is those layers' alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from featherweight.architecture import Architecture, Primitive
from featherweight.errors import DeviceError
from featherweight.exporting.platforms import Platform, parse_platform
from featherweight.layers import INPUT, graph
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.layer_times import NodeTime, layer_times, node_times
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import LayerProfile, Profile, profile
from featherweight.records import Record
from featherweight.runtimes.artifact import Artifact

__all__ = ["Roof", "Roofline", "Spot", "measure_roofline"]

_FEW, _MANY = 2, 8
"""Equal layers in the two probes whose times are compared."""
_CHANNELS, _SIDE = 512, 28
"""Of the 1x1 convolutions that measure arithmetic: 205 M multiply-adds each, weights of 1 MB."""
_CACHED = (64, 56)
_UNCACHED = (64, 512)
"""Channels and side of the maps whose additions measure bandwidth: 0.8 MB and 67 MB in fp32."""
_SAMPLES, _MOST_S_EACH = 30, 4.0


class Roof(Record):
    """What a platform can do at best.

    Attributes:
        gflop_per_s: multiplications and additions of 1x1 convolutions with 512 channels.
        cache_gb_per_s: bytes read and written by fp32 additions of maps that fit a cache.
        memory_gb_per_s: the same, of maps that fit none.
    """

    gflop_per_s: float
    cache_gb_per_s: float
    memory_gb_per_s: float


class Spot(Record):
    """A network or one of its layers under the roof.

    Attributes:
        network: its text form.
        layer: name of the layer; `None` = the whole network.
        op: the layer's primitive, "network" for a whole one.
        flops: multiplications and additions.
        memory_bytes: everything the layers read and write, each once, in the platform's precision.
        ms: measured; of layers a part of the network's time as the runtime's profiler splits it.
        gflop_per_s: achieved.
        intensity: flops per byte.
        attainable_gflop_per_s: what the roof allows at that intensity, its bytes from a cache.
        share: achieved of attainable.
    """

    network: str
    layer: str | None
    op: str
    flops: int
    memory_bytes: float
    ms: float
    gflop_per_s: float
    intensity: float
    attainable_gflop_per_s: float
    share: float


class Roofline(Record):
    """The roof of a platform and what lies under it.

    Attributes:
        platform: text form.
        roof: what was measured of the platform.
        networks: one spot each.
        layers: of every network, where the runtime tells how long its nodes take (onnxruntime);
            activations belong to the convolution before them.
    """

    platform: str
    roof: Roof
    networks: tuple[Spot, ...]
    layers: tuple[Spot, ...]


def measure_roofline(networks: Sequence[str], *, on: str, seed: int = 0) -> Roofline:
    """Measure the roof of a platform and how near to it networks come.

    Args:
        networks: in text form.
        on: platform in text form.
        seed: of the order of the runs.

    Raises:
        UsageError: an unknown network or platform.
        UnsupportedError: the runtime cannot hold a network.
        DeviceError: the device could not measure.
    """
    platform = parse_platform(on)
    chosen = [resolve_architecture(network) for network in networks]
    # Bytes are bytes, but int8 additions are slow for their arithmetic: fp32 moves them.
    moving = platform.with_precision("fp32")
    convolutions = [_convolutions(count) for count in (_FEW, _MANY)]
    additions = [_additions(*size, n) for size in (_CACHED, _UNCACHED) for n in (_FEW, _MANY)]
    with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:

        def files(drawn: Sequence[Architecture], on: Platform, name: str) -> list[Artifact]:
            return [
                export_untrained(architecture, platform=on, out=Path(folder) / f"{name}{k}")
                for k, architecture in enumerate(drawn)
            ]

        # The big maps of the probes would empty the caches between the turns of the networks.
        computed = _medians_ms(files(convolutions, platform, "c"), platform, seed=seed)
        moved = _medians_ms(files(additions, moving, "a"), moving, seed=seed)
        artifacts = files(chosen, platform, "n")
        measured = _medians_ms(artifacts, platform, seed=seed)
        nodes = node_times(artifacts, platform)
    scale = _bytes_scale(platform)
    roof = Roof(
        gflop_per_s=_difference(convolutions, computed)[0],
        cache_gb_per_s=_difference(additions[:2], moved[:2])[1],
        memory_gb_per_s=_difference(additions[2:], moved[2:])[1],
    )
    profiles = [profile(architecture) for architecture in chosen]
    whole = [
        _spot(name, None, "network", counted, ms, roof=roof, scale=scale)
        for name, counted, ms in zip(networks, profiles, measured, strict=True)
    ]
    parts = [
        _spot(name, layer.name, layer.op, layer, ms, roof=roof, scale=scale)
        for name, architecture, counted, times in zip(
            networks, chosen, profiles, nodes, strict=True
        )
        for layer, ms in _layer_times(architecture, counted, times)
    ]
    return Roofline(platform=str(platform), roof=roof, networks=tuple(whole), layers=tuple(parts))


def _convolutions(count: int) -> Architecture:
    """Return `count` equal 1x1 convolutions behind one that makes their channels."""
    first = Primitive(
        name="first", op="conv", inputs=(INPUT,), out_channels=_CHANNELS, kernel_size=1
    )
    rest = [
        Primitive(
            name=f"equal{k}",
            op="conv",
            inputs=(f"equal{k - 1}" if k else "first",),
            out_channels=_CHANNELS,
            kernel_size=1,
        )
        for k in range(count)
    ]
    return _probe("convolutions", _SIDE, [first, *rest])


def _additions(channels: int, side: int, count: int) -> Architecture:
    """Return `count` equal additions of maps behind a convolution that makes the map."""
    first = Primitive(
        name="first", op="conv", inputs=(INPUT,), out_channels=channels, kernel_size=1
    )
    rest = [
        Primitive(name=f"equal{k}", op="add", inputs=(f"equal{k - 1}" if k else "first", "first"))
        for k in range(count)
    ]
    return _probe("additions", side, [first, *rest])


def _probe(name: str, side: int, primitives: Sequence[Primitive]) -> Architecture:
    last = [
        Primitive(name="pooled", op="global_pool", inputs=(primitives[-1].name,)),
        Primitive(name="classifier", op="linear", inputs=("pooled",), out_channels=2),
    ]
    return Architecture(
        name=name, input_shape=(3, side, side), primitives=(*primitives, *last), num_classes=2
    )


def _medians_ms(artifacts: Sequence[Artifact], platform: Platform, *, seed: int) -> list[float]:
    names = [str(k) for k in range(len(artifacts))]
    measured = measure_artifacts(
        artifacts,
        platform=platform,
        names=names,
        samples=_SAMPLES,
        max_s_each=_MOST_S_EACH,
        seed=seed,
    )
    return [one.median_ms for one in measured]


def _difference(
    networks: Sequence[Architecture], milliseconds: Sequence[float]
) -> tuple[float, float]:
    """Return GFLOP/s and GB/s of the layers that the second network has more than the first."""
    few_ms, many_ms = milliseconds
    seconds = (many_ms - few_ms) * 1e-3
    if seconds <= 0:
        raise DeviceError(
            f"{_MANY} equal layers took no longer than {_FEW} ({many_ms:.3f}, {few_ms:.3f} ms)",
            hint="the runtime skips them, or the device is too busy to be measured",
        )
    one, two = (profile(network) for network in networks)
    flops = (two.flops or 0) - (one.flops or 0)
    moved = (two.memory_access_bytes or 0) - (one.memory_access_bytes or 0)
    return flops / seconds * 1e-9, moved / seconds * 1e-9


def _bytes_scale(platform: Platform) -> float:
    """Return bytes of a value over the four that profiles count."""
    return {"int8": 0.25, "fp16": 0.5, "bf16": 0.5}.get(platform.precision, 1.0)


def _spot(
    network: str,
    layer: str | None,
    op: str,
    counted: Profile | LayerProfile,
    ms: float,
    *,
    roof: Roof,
    scale: float,
) -> Spot:
    flops, moved = counted.flops or 0, scale * (counted.memory_access_bytes or 0)
    achieved, intensity = flops / ms * 1e-6, flops / moved
    attainable = min(roof.gflop_per_s, intensity * roof.cache_gb_per_s)
    return Spot(
        network=network,
        layer=layer,
        op=op,
        flops=flops,
        memory_bytes=moved,
        ms=ms,
        gflop_per_s=achieved,
        intensity=intensity,
        attainable_gflop_per_s=attainable,
        share=achieved / attainable if attainable else 0.0,
    )


def _layer_times(
    architecture: Architecture, counted: Profile, nodes: Sequence[NodeTime]
) -> list[tuple[LayerProfile, float]]:
    """Return the layers that compute something, with the times of their nodes."""
    ms = layer_times(graph(architecture), nodes)
    return [(layer, ms[layer.name]) for layer in counted.layers if layer.flops and layer.name in ms]
