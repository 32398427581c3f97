"""G3: many small convolutions side by side keep a processor less busy than one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featherweight.advising.drafts import with_equal_macs
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal
from featherweight.architecture import Architecture, Primitive
from featherweight.layers import Layer
from featherweight.networks.channels import is_depthwise
from featherweight.networks.graphs import used_primitives

__all__ = ["fragments"]

_MAIN = ".main"
"""End of the name of a convolution whose activation has the name of what it replaces."""


def fragments(plan: Plan) -> Iterator[Proposal]:
    """Propose one convolution for several of one map, and a dense one for a ghost module.

    Source: ShuffleNetV2, arXiv 1807.11164, guideline G3. Ghost modules (arXiv 1911.11907) are two
    convolutions and a concatenation instead of one.
    """
    joins = [layer for layer in plan.layers.values() if _parts(plan, layer)]
    outer = [one for one in joins if not any(_is_inside(one, other) for other in joins)]
    for found in plan.by_map(outer):
        merged = plan.network
        for join in found:
            merged = _merged(Plan(merged), join.name)
        own = Plan(merged)
        names = [name for one in found for name in (one.name, one.name + _MAIN)]
        written = [own.groups[name] for name in names if name in own.groups]
        hidden = [one for one in written if len(one.layers) == 1]
        variant = with_equal_macs(merged, hidden or written, plan.macs)
        if variant is None:
            continue
        parts = _parts(plan, found[0])
        ghost = any(is_depthwise(one) for one in parts)
        yield Proposal(
            "G3",
            tuple(one.name for join in found for one in _parts(plan, join)),
            f"{len(found)} times {len(parts)} convolutions "
            + ("of a ghost module" if ghost else "side by side"),
            "one convolution in their place, at equal work",
            variant,
        )


def _parts(plan: Plan, join: Layer) -> list[Layer]:
    """Return the convolutions that end in a join and read one map; none = they are no fragments.

    Of a ghost module: the dense convolution, and the depthwise one that reads what it writes.
    """
    if join.op not in ("concat", "add") or len(join.inputs) < 2:
        return []
    ends = _operands(plan, join)
    found = [_convolution(plan, name) for name in ends]
    parts = [one for one in found if one is not None]
    if len(parts) < len(found) or len(set(parts)) < len(parts):
        return []
    first = parts[0]
    alike = all(
        one.inputs == first.inputs
        and not is_depthwise(one)
        and (one.kernel_size, one.stride, one.groups)
        == (first.kernel_size, first.stride, first.groups)
        for one in parts
    )
    ghost = (
        join.op == "concat"
        and len(parts) == 2
        and not is_depthwise(first)
        and is_depthwise(parts[1])
        and _convolution(plan, parts[1].inputs[0]) == first
    )
    return parts if alike or ghost else []


def _operands(plan: Plan, join: Layer) -> list[str]:
    """Return what is joined; sums of sums as one."""
    found: list[str] = []
    for name in join.inputs:
        layer = plan.layers.get(name)
        single = len(plan.readers[name]) == 1
        if layer is not None and layer.op == join.op == "add" and single:
            found += _operands(plan, layer)
        else:
            found.append(name)
    return found


def _convolution(plan: Plan, name: str) -> Layer | None:
    """Return the convolution that writes a map, through its activation."""
    layer = plan.layers.get(name)
    if layer is not None and layer.op == "activation":
        layer = plan.layers.get(layer.inputs[0])
    return layer if layer is not None and layer.op == "conv" else None


def _is_inside(one: Layer, other: Layer) -> bool:
    """Whether a sum is an operand of another sum of the same fragments."""
    return one is not other and one.op == other.op == "add" and one.name in other.inputs


def _merged(plan: Plan, join: str) -> Architecture:
    """Put one convolution, with the activation of the first part, where a join is.

    What is selected from all channels of a ghost module goes with it.
    """
    layer = plan.layers[join]
    parts = _parts(plan, layer)
    first, width = parts[0], layer.output_shape[0]
    selected = [one for one in plan.readers[join] if one.op == "select"]
    last = layer
    if len(plan.readers[join]) == len(selected) == 1 and selected[0].first_channel == 0:
        last, width = selected[0], selected[0].output_shape[0]
    written = {one.name: one for one in plan.network.primitives}
    act = next((one for one in plan.readers[first.name] if one.op == "activation"), None)
    name = join if act is None else join + _MAIN
    new = [written[first.name].model_copy(update={"name": name, "out_channels": width})]
    if act is not None:
        new.append(written[act.name].model_copy(update={"name": join, "inputs": (name,)}))
    return plan.network.changed(primitives=_replaced(plan.network.primitives, join, last.name, new))


def _replaced(
    primitives: Sequence[Primitive], join: str, last: str, new: Sequence[Primitive]
) -> tuple[Primitive, ...]:
    """Return primitives with others in the place of a join; who read `last` reads them."""
    found: list[Primitive] = []
    for one in primitives:
        if one.name == join:
            found += new
        elif one.name != last:
            inputs = tuple(new[-1].name if name == last else name for name in one.inputs)
            found.append(one.model_copy(update={"inputs": inputs}))
    return used_primitives(found)


GUIDELINES.add("G3", fragments)
