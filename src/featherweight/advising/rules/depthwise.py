"""Depthwise convolutions of large windows: no runtime has code as fast for them as for 3x3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featherweight.advising.drafts import edited, with_equal_macs
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal
from featherweight.architecture import Architecture, Primitive
from featherweight.layers import Layer
from featherweight.networks.channels import is_depthwise

__all__ = ["large_windows", "strided"]

_SIDE = 3


def large_windows(plan: Plan) -> Iterator[Proposal]:
    """Propose 3x3 windows over wider maps, at equal multiply-adds."""
    chosen = [one for one in plan.layers.values() if is_depthwise(one) and one.kernel_size > _SIDE]
    for found in plan.by_map(chosen):
        small = edited(plan.network, {one.name: _smaller(one) for one in found})
        own = Plan(small)
        sources = [own.source(one.inputs[0]) for one in found]
        groups = [own.groups[one.name] for one in sources if one and one.name in own.groups]
        variant = with_equal_macs(small, groups, plan.macs)
        if variant is not None:
            sides = " and ".join(
                f"{side}x{side}" for side in sorted({one.kernel_size for one in found})
            )
            yield Proposal(
                "depthwise",
                tuple(one.name for one in found),
                f"{len(found)} depthwise windows of {sides}",
                "3x3 over wider maps, at equal work",
                variant,
            )


def _smaller(layer: Layer) -> dict[str, Any]:
    """Return the fields of a 3x3 window that writes a map of the same size."""
    fields: dict[str, Any] = {"kernel_size": _SIDE}
    if not layer.same:
        less = layer.kernel_size - _SIDE
        top, left, bottom, right = layer.padding
        fields["padding"] = (
            max(0, top - less // 2),
            max(0, left - less // 2),
            max(0, bottom - (less - less // 2)),
            max(0, right - (less - less // 2)),
        )
    return fields


def strided(plan: Plan) -> Iterator[Proposal]:
    """Propose to halve a map by pooling before a depthwise window, not by its stride."""
    chosen = [
        one
        for one in plan.layers.values()
        if is_depthwise(one) and one.stride > 1 and len(plan.readers[one.inputs[0]]) == 1
    ]
    for one in chosen:
        variant = _pooled_first(plan, one)
        if variant is not None:
            yield Proposal(
                "depthwise",
                (one.name,),
                f"a depthwise {one.kernel_size}x{one.kernel_size} window of stride {one.stride}",
                f"a {one.stride}x{one.stride} maximum before it, and no stride",
                variant,
            )


def _pooled_first(plan: Plan, layer: Layer) -> Architecture | None:
    """Return the network with a pooling before a window; `None` where the map would differ."""
    sides = layer.input_shape[1:]
    if any(side % layer.stride for side in sides) or layer.kernel_size % 2 == 0:
        return None
    pooled, half = f"{layer.name}.pooled", layer.kernel_size // 2
    found: list[Primitive] = []
    for one in plan.network.primitives:
        if one.name != layer.name:
            found.append(one)
            continue
        found.append(
            Primitive(
                name=pooled,
                op="pool",
                inputs=one.inputs,
                function="max",
                kernel_size=one.stride,
                stride=one.stride,
            )
        )
        fields = {"inputs": (pooled,), "stride": 1, "padding": (half, half, half, half)}
        found.append(one.model_copy(update=fields))
    return plan.network.changed(primitives=tuple(found))


GUIDELINES.add("depthwise windows", large_windows)
GUIDELINES.add("depthwise strides", strided)
