"""The parts of a detector that compute on tensors of one size, each as a graph with named outputs.

A writer, a counter or a runtime takes a part as any network; what lies between the parts (choosing
proposals, cutting regions, suppressing duplicates) has no layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from featherweight.architecture import Architecture, NamedOutput
from featherweight.detection.detector import Detector, SsdLite, ThunderNet
from featherweight.layers import INPUT, Builder, Layer, Value, as_primitives, layers

__all__ = [
    "BOX_DELTAS",
    "BOX_SCORES",
    "DELTAS",
    "FEATURES",
    "SCORES",
    "backbone_strides",
    "box_head",
    "dense_part",
]

SCORES = "anchor_scores"
"""Output of the dense part; those of a head with several maps are numbered: `anchor_scores.0`."""
DELTAS = "anchor_deltas"
"""Offsets from the anchors, likewise."""
FEATURES = "features"
"""What regions are cut from."""
BOX_SCORES = "box_scores"
"""Output of the box head: logits of the classes."""
BOX_DELTAS = "box_deltas"
"""Offsets from the regions."""
_KERNEL = 5
"""Of ThunderNet's proposal network."""
_TWO = 2
"""Logits of an anchor: background and object."""


class _Maps(NamedTuple):
    """Maps of a backbone, by the multiple of a pixel that their cells are apart."""

    builder: Builder
    by_stride: dict[int, Value]


def dense_part(detector: Detector) -> Architecture:
    """Return what is computed once for a picture: backbone, proposals or predictions, features.

    Outputs of ThunderNet, H x W cells of 16 pixels and A anchors in each: `anchor_scores`
    (2 A, H, W), background and object of every anchor in turn; `anchor_deltas` (4 A, H, W);
    `features` (C, H, W), which regions are cut from. Of SSDLite, for each map k:
    `anchor_scores.k` (A (classes + 1), H, W) with the background first, `anchor_deltas.k`.
    """
    part: Callable[[Detector, _Maps], list[tuple[str, Value]]] = {
        "thundernet": _thundernet,
        "ssdlite": _ssdlite,
    }[detector.head.kind]
    maps = _backbone_maps(detector.backbone)
    outputs = part(detector, maps)
    return Architecture(
        name=f"{detector.name}-dense",
        input_shape=detector.input_shape,
        primitives=as_primitives(maps.builder.layers, same=detector.backbone.padding == "same"),
        outputs=tuple(NamedOutput(name=name, layer=value.name) for name, value in outputs),
        num_classes=0,
        norm_eps=detector.backbone.norm_eps,
        padding=detector.backbone.padding,
    )


def box_head(detector: Detector) -> Architecture | None:
    """Return what is computed for each region of ThunderNet, (alpha, 7, 7); `None` = no such part.

    Outputs: `box_scores` (classes + 1,), the background first; `box_deltas` (4,), whatever the
    class.
    """
    head = detector.head
    if not isinstance(head, ThunderNet):
        return None
    shape = (head.position_channels, head.bins, head.bins)
    given = Architecture.model_construct(padding="symmetric", norm_eps=1e-5)
    builder = Builder(given)
    x = builder.linear(Value(INPUT, shape), "connected", head.features)
    x = builder.activation(x, "connected.act", "relu")
    scores = builder.linear(x, BOX_SCORES, detector.num_classes + 1)
    deltas = builder.linear(x, BOX_DELTAS, 4)
    return Architecture(
        name=f"{detector.name}-boxes",
        input_shape=shape,
        primitives=as_primitives(builder.layers),
        outputs=tuple(NamedOutput(name=one.name, layer=one.name) for one in (scores, deltas)),
        num_classes=0,
    )


def backbone_strides(backbone: Architecture) -> set[int]:
    """Return how many pixels the cells of the maps are apart that a head can read."""
    return set(_backbone_maps(backbone).by_stride)


def _backbone_maps(backbone: Architecture) -> _Maps:
    """Lower the blocks; of the maps of one size the last one counts."""
    builder = Builder(backbone)
    listed = layers(backbone)[:-1]  # the last one pools the whole map
    builder.layers.extend(listed)
    by_stride: dict[int, Value] = {}
    for layer in _ends_of_blocks(listed):
        stride = math.ceil(backbone.input_shape[1] / layer.output_shape[1])
        by_stride[stride] = Value(layer.name, layer.output_shape)
    return _Maps(builder, by_stride)


def _ends_of_blocks(listed: Sequence[Layer]) -> list[Layer]:
    ends = {layer.name.split(".")[1]: layer for layer in listed}
    return list(ends.values())


def _thundernet(detector: Detector, maps: _Maps) -> list[tuple[str, Value]]:
    head = detector.head
    assert isinstance(head, ThunderNet)
    builder, fine, coarse = maps.builder, maps.by_stride[16], maps.by_stride[32]

    def lateral(x: Value, name: str) -> Value:
        return builder.conv(x, name, head.channels, norm=False)

    context = builder.resize(lateral(coarse, "context.coarse"), "context.resized", factor=2)
    context = builder.add(lateral(fine, "context.fine"), context, "context.maps")
    whole = lateral(builder.global_pool(coarse, "context.pool"), "context.whole")
    context = builder.add(context, whole, "context.sum")

    x = builder.depthwise(context, "proposal.depthwise", kernel_size=_KERNEL)
    x = builder.activation(x, "proposal.depthwise.act", "relu")
    x = builder.conv(x, "proposal.pointwise", head.proposal_channels)
    proposal = builder.activation(x, "proposal.pointwise.act", "relu")
    scores = builder.conv(proposal, "proposal.scores", _TWO * head.anchors, norm=False)
    deltas = builder.conv(proposal, "proposal.deltas", 4 * head.anchors, norm=False)

    attention = builder.conv(proposal, "attention", head.channels)
    attention = builder.activation(attention, "attention.act", "sigmoid")
    features = builder.multiply(context, attention, "attention.scaled")
    return [(SCORES, scores), (DELTAS, deltas), (FEATURES, features)]


def _ssdlite(detector: Detector, maps: _Maps) -> list[tuple[str, Value]]:
    head = detector.head
    assert isinstance(head, SsdLite)
    builder = maps.builder
    levels = [maps.by_stride[16], maps.by_stride[32]]
    for index, width in enumerate(head.extra_channels):
        name, inner = f"extra.{index}", width // 2
        x = builder.activation(
            builder.conv(levels[-1], f"{name}.reduce", inner), f"{name}.reduce.act", "relu6"
        )
        x = builder.depthwise(x, f"{name}.depthwise", kernel_size=3, stride=2)
        x = builder.activation(x, f"{name}.depthwise.act", "relu6")
        x = builder.conv(x, f"{name}.expand", width)
        levels.append(builder.activation(x, f"{name}.expand.act", "relu6"))
    anchors_of_levels = [head.anchors] * len(levels)
    if head.fine_channels:
        levels.insert(0, _fine_map(maps, head.fine_channels))
        anchors_of_levels.insert(0, len(head.fine_anchors))
    else:
        anchors_of_levels[0] += len(head.fine_anchors)
    outputs = []
    for level, (x, anchors) in enumerate(zip(levels, anchors_of_levels, strict=True)):
        widths = {SCORES: anchors * (detector.num_classes + 1), DELTAS: 4 * anchors}
        for output, width in widths.items():
            name = f"{output}.{level}"
            y = builder.depthwise(x, f"{name}.depthwise", kernel_size=3)
            y = builder.activation(y, f"{name}.depthwise.act", "relu6")
            outputs.append((name, builder.conv(y, f"{name}.predict", width, norm=False)))
    return outputs


def _fine_map(maps: _Maps, width: int) -> Value:
    """Return the sum of the maps with cells of 8 and of 16 pixels, each brought to one width."""
    builder = maps.builder
    coarse = builder.conv(maps.by_stride[16], "fine.coarse", width)
    own = builder.conv(maps.by_stride[8], "fine.own", width)
    x = builder.add(own, builder.resize(coarse, "fine.resized", factor=2), "fine.sum")
    return builder.activation(x, "fine.act", "relu6")
