"""G2: convolutions in groups have little arithmetic for every value that they move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featherweight.adapting.groups import WidthGroup
from featherweight.advising.drafts import edited, with_equal_macs, without
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal
from featherweight.layers import Layer
from featherweight.networks.channels import is_depthwise

__all__ = ["grouped_convolutions"]


def grouped_convolutions(plan: Plan) -> Iterator[Proposal]:
    """Propose dense convolutions, without the shuffles between groups, that are narrower.

    Source: ShuffleNetV2, arXiv 1807.11164, guideline G2.
    """
    grouped = [
        layer
        for layer in plan.layers.values()
        if layer.op == "conv" and layer.groups > 1 and not is_depthwise(layer)
    ]
    for groups in sorted({layer.groups for layer in grouped}, reverse=True):
        found = [layer for layer in grouped if layer.groups == groups]
        names = {layer.name for layer in found}
        shuffles = [
            layer.name
            for layer in plan.layers.values()
            if layer.op == "shuffle" and names & {one.name for one in _around(plan, layer)}
        ]
        dense = without(edited(plan.network, {name: {"groups": 1} for name in names}), shuffles)
        variant = with_equal_macs(dense, _widths_of(Plan(dense), names), plan.macs)
        if variant is None:
            continue
        before, after = (_widths(one.layers, found) for one in (plan, Plan(variant)))
        yield Proposal(
            "G2",
            tuple(layer.name for layer in found),
            f"{len(found)} convolutions in {groups} groups, of {before} channels",
            f"dense ones of {after} channels" + (", without the shuffles" if shuffles else ""),
            variant,
        )


def _around(plan: Plan, layer: Layer) -> list[Layer]:
    """Return the convolutions next to a shuffle, through what keeps the channels' places."""
    found, open_ = [], [*plan.readers[layer.name]]
    while open_:
        one = open_.pop()
        if one.op == "conv" and not is_depthwise(one):
            found.append(one)
        elif one.op in ("conv", "activation", "pool"):
            open_ += plan.readers[one.name]
    source = plan.source(layer.inputs[0])
    return [*found, *([source] if source else [])]


def _widths_of(plan: Plan, names: set[str]) -> list[WidthGroup]:
    """Return widths that these convolutions write or read: those of one layer, else all."""
    found = []
    for name in sorted(names):
        source = plan.source(plan.layers[name].inputs[0])
        for one in (name, source.name if source else ""):
            if one in plan.groups:
                found.append(plan.groups[one])
    return [group for group in found if len(group.layers) == 1] or found


def _widths(layers: dict[str, Layer], found: Sequence[Layer]) -> str:
    widths = sorted({layers[one.name].output_shape[0] for one in found})
    return str(widths[0]) if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"


GUIDELINES.add("G2", grouped_convolutions)
