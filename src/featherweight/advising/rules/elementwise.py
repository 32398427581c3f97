"""G4: element-wise layers take time for which multiply-adds say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from featherweight.advising.drafts import edited, with_equal_macs, without
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal
from featherweight.layers import Layer

__all__ = ["costly_activations", "gates", "loose_activations", "shortcuts", "shuffles"]

_CHEAP = ("relu", "relu6")
"""Activations that every runtime here computes together with the convolution before them."""


def costly_activations(plan: Plan) -> Iterator[Proposal]:
    """Propose ReLU for activations that are passes of their own over a map.

    Source: MobileNetV3, arXiv 1905.02244, section 5.2: hard-swish costs time, most of it where
    maps are large.
    """
    chosen = [
        one
        for one in plan.layers.values()
        if one.op == "activation"
        and one.function not in _CHEAP
        and math.prod(one.output_shape[1:]) > 1
    ]
    for found in plan.by_map(chosen):
        functions = " and ".join(sorted({one.function.replace("_", "-") for one in found}))
        yield Proposal(
            "G4",
            _names(found),
            f"{functions} after {len(found)} layers, {_size(found)}",
            "ReLU there",
            edited(plan.network, {one.name: {"function": "relu"} for one in found}),
        )


def loose_activations(plan: Plan) -> Iterator[Proposal]:
    """Propose to leave out activations that no convolution can take along."""

    def is_loose(one: Layer) -> bool:
        source = plan.layers.get(one.inputs[0])
        return one.function in _CHEAP and (source is None or source.op not in ("conv", "linear"))

    yield from _left_out(
        plan,
        lambda one: one.op == "activation" and is_loose(one),
        "{count} activations behind no convolution, {size}",
        "none there",
    )


def shortcuts(plan: Plan) -> Iterator[Proposal]:
    """Propose to leave out additions of a map to what was computed from it."""
    order = {name: place for place, name in enumerate(plan.layers)}
    later = {
        one.name: max(one.inputs, key=lambda name: order.get(name, -1))
        for one in plan.layers.values()
        if one.op == "add" and _is_shortcut(plan, one)
    }
    for found in plan.by_map(plan.layers[name] for name in later):
        yield Proposal(
            "G4",
            _names(found),
            f"{len(found)} shortcuts, {_size(found)}",
            "no shortcuts there",
            without(plan.network, {one.name: later[one.name] for one in found}),
        )


def _is_shortcut(plan: Plan, add: Layer) -> bool:
    """Whether a map is added to another of its size, and read by something else as well."""
    alike = all(plan.shape(name) == add.output_shape for name in add.inputs)
    return alike and any(len(plan.readers[name]) > 1 for name in add.inputs)


def shuffles(plan: Plan) -> Iterator[Proposal]:
    """Propose to leave out channel shuffles, which copy a map without computing anything."""
    yield from _left_out(
        plan,
        lambda one: one.op == "shuffle",
        "{count} channel shuffles, {size}",
        "no shuffles there",
    )


def gates(plan: Plan) -> Iterator[Proposal]:
    """Propose to leave out squeeze-and-excitation, at equal multiply-adds."""
    chosen = [
        one
        for one in plan.layers.values()
        if one.op == "multiply" and plan.layers[one.inputs[1]].output_shape[1:] == (1, 1)
    ]
    for found in plan.by_map(chosen):
        plain = without(plan.network, _names(found))
        own = Plan(plain)
        variant = with_equal_macs(
            plain,
            []
            if abs(own.macs - plan.macs) < plan.macs / 100
            else [
                own.groups[name]
                for one in found
                if (source := own.source(one.inputs[0])) and (name := source.name) in own.groups
            ],
            plan.macs,
        )
        if variant is not None:
            kept = {one.name for one in plain.primitives}
            yield Proposal(
                "G4",
                tuple(name for name in plan.layers if name not in kept),
                f"{len(found)} squeeze-and-excitations, {_size(found)}",
                "none there"
                + ("" if variant == plain else ", what they computed in wider layers instead"),
                variant,
            )


def _left_out(
    plan: Plan, chosen: Callable[[Layer], bool], finding: str, advice: str
) -> Iterator[Proposal]:
    """Propose for every size of map to leave out some layers that give what they take."""
    for found in plan.by_map(filter(chosen, plan.layers.values())):
        yield Proposal(
            "G4",
            _names(found),
            finding.format(count=len(found), size=_size(found)),
            advice,
            without(plan.network, _names(found)),
        )


def _names(found: Sequence[Layer]) -> tuple[str, ...]:
    return tuple(one.name for one in found)


def _size(found: Sequence[Layer]) -> str:
    return "maps of " + " x ".join(map(str, found[0].output_shape[1:]))


for _name, _rule in (
    ("activations", costly_activations),
    ("loose activations", loose_activations),
    ("shortcuts", shortcuts),
    ("shuffles", shuffles),
    ("gates", gates),
):
    GUIDELINES.add(f"G4 {_name}", _rule)
