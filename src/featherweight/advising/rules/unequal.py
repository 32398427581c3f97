"""G1: 1x1 convolutions between unequal widths read and write more than their work needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from featherweight.adapting.groups import CHANNEL_STEP, WidthGroup
from featherweight.advising.drafts import with_equal_macs, with_widths
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal, is_pointwise
from featherweight.architecture import make_divisible
from featherweight.errors import ArchitectureError

__all__ = ["unequal_widths"]

_UNEQUAL = 2.0
"""Ratio of widths from which they count as unequal."""


def unequal_widths(plan: Plan) -> Iterator[Proposal]:
    """Propose equal widths on both sides of 1x1 convolutions, at equal multiply-adds.

    Source: ShuffleNetV2, arXiv 1807.11164, guideline G1: for a given work the memory traffic
    h w (c1 + c2) + c1 c2 is least where c1 = c2.
    """
    for pairs in _alike(plan):
        narrow, wide = pairs[0].narrow.channels, max(one.wide.channels for one in pairs)
        step = math.lcm(CHANNEL_STEP, *(one.narrow.step for one in pairs))
        equal = make_divisible(math.sqrt(narrow * wide), step)
        try:
            wider = with_widths(plan.network, {one.narrow: equal for one in pairs})
        except ArchitectureError:  # they are tied to what has another width
            continue
        again = Plan(wider).groups
        variant = with_equal_macs(wider, [again[one.wide.layers[0]] for one in pairs], plan.macs)
        if variant is None:
            continue
        other = Plan(variant).groups[pairs[0].wide.layers[0]].channels
        yield Proposal(
            "G1",
            tuple(one.layer for one in pairs),
            f"{len(pairs)} 1x1 convolutions between {narrow} and {wide} channels: "
            f"1:{wide / narrow:.3g}",
            f"{equal} and {other} channels instead",
            variant,
        )


class _Pair(NamedTuple):
    """A 1x1 convolution between a narrow and a wide map."""

    layer: str
    narrow: WidthGroup
    wide: WidthGroup


def _alike(plan: Plan) -> list[list[_Pair]]:
    """Return convolutions between unequal widths: together where the narrow one is one width."""
    found: dict[tuple[int, tuple[int, ...]], list[_Pair]] = {}
    for layer in filter(is_pointwise, plan.layers.values()):
        source = plan.source(layer.inputs[0])
        before = source and plan.groups.get(source.name)
        after = plan.groups.get(layer.name)
        if before is None or after is None:
            continue
        narrow, wide = sorted((before, after), key=lambda group: group.channels)
        if wide.channels >= _UNEQUAL * narrow.channels:
            size = plan.layers[narrow.layers[0]].output_shape[1:]
            found.setdefault((narrow.channels, size), []).append(_Pair(layer.name, narrow, wide))
    return list(found.values())


GUIDELINES.add("G1", unequal_widths)
