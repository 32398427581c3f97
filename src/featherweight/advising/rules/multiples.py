"""Widths that are no multiple of what a runtime handles together leave part of it empty."""

from __future__ import annotations

from collections.abc import Iterator

from featherweight.adapting.groups import CHANNEL_STEP, WidthGroup
from featherweight.advising.drafts import EQUAL, macs_of, with_widths
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal

__all__ = ["odd_widths"]


def odd_widths(plan: Plan) -> Iterator[Proposal]:
    """Propose the nearest multiples of eight, up or down, so that the work stays the same."""
    odd: dict[tuple[int, ...], list[WidthGroup]] = {}
    for group in dict.fromkeys(plan.groups.values()):
        shape = plan.layers[group.layers[0]].output_shape[1:]
        can_be = CHANNEL_STEP % group.step == 0  # else groups of convolutions ask for more
        if can_be and group.channels % CHANNEL_STEP and shape not in ((), (1, 1)):
            odd.setdefault(shape, []).append(group)
    every = [group for groups in odd.values() for group in groups]
    chosen = _rounded(plan, every)
    if chosen is None:
        return
    yield Proposal(
        "width",
        tuple(name for group in every for name in group.layers),
        "widths that are no multiples of 8: "
        + ", ".join(map(str, sorted({group.channels for group in every}))),
        "multiples: " + ", ".join(map(str, sorted(set(chosen.values())))),
        with_widths(plan.network, chosen),
    )


def _rounded(plan: Plan, groups: list[WidthGroup]) -> dict[WidthGroup, int] | None:
    """Return a multiple for each width, such that the work is the same; `None` = there is none.

    All go down first; then whichever brings the work nearest goes up, one after the other.
    """
    if not groups:
        return None
    widths = {group: max(1, group.channels // CHANNEL_STEP) * CHANNEL_STEP for group in groups}

    def distance(chosen: dict[WidthGroup, int]) -> int:
        return abs(macs_of(with_widths(plan.network, chosen)) - plan.macs)

    best = distance(widths)
    while best > EQUAL * plan.macs / 4:
        raised = [
            {**widths, group: width + CHANNEL_STEP}
            for group, width in widths.items()
            if width < group.channels
        ]
        nearest = min(raised, key=distance, default=widths)
        if distance(nearest) >= best:
            break
        widths, best = nearest, distance(nearest)
    return widths if best <= EQUAL * plan.macs else None


GUIDELINES.add("width", odd_widths)
