"""Dense convolutions as ghost modules: a part is computed, cheap filters give the rest.

Two forms. `ghost` (GhostNet, arXiv 1911.11907, section 3.1): ceil(n / s) channels are convolved,
d x d depthwise filters of them give the others, all are concatenated. `rep` (RepGhost, arXiv
2211.06088): what is convolved and what the filters give are added, which is one depthwise
convolution in the file; the map has n / s channels then, so that its readers have less to do too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from featherweight.adapting.changes import changed
from featherweight.adapting.groups import Narrow, width_groups
from featherweight.architecture import Architecture, Primitive
from featherweight.errors import UsageError
from featherweight.layers import INPUT, Layer, layers
from featherweight.networks.graphs import as_graph, used_primitives
from featherweight.records import Record

__all__ = [
    "GhostForm",
    "activation_of",
    "compression",
    "ghost_groups",
    "ghost_layers",
    "ghosted",
    "narrows",
    "speed_up",
]

_NORM_EPS = 1e-5
_FEWEST = 16
"""Channels that a convolution reads and writes at least: below, there is nothing to save."""


class GhostForm(Record):
    """How convolutions become ghost modules.

    Attributes:
        form: `ghost` or `rep`, see the module.
        ratio: s: channels of the map per channel that is convolved; 2 or more.
        kernel_size: d: side of the cheap filters, odd.
    """

    form: Literal["ghost", "rep"] = "ghost"
    ratio: int = 2
    kernel_size: int = 3

    def check(self) -> None:
        """Raise UsageError for numbers that make no ghost module."""
        if self.ratio < 2:
            raise UsageError(
                f"a ghost ratio of {self.ratio} changes nothing", allowed="2 or more, such as 2"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise UsageError(
                f"cheap filters of side {self.kernel_size}", allowed="an odd side, such as 3"
            )


def speed_up(*, channels: int, kernel_size: int, ratio: int, cheap_kernel_size: int) -> float:
    """Return the theoretical speed-up of one convolution: its multiply-adds over the module's.

    Source: GhostNet, arXiv 1911.11907, equation 4: c k^2 / (c k^2 / s + (s - 1) d^2 / s), for c
    channels read, a k x k convolution, and d x d cheap filters.
    """
    dense = channels * kernel_size**2
    return dense / (dense / ratio + (ratio - 1) * cheap_kernel_size**2 / ratio)


def compression(*, channels: int, kernel_size: int, ratio: int, cheap_kernel_size: int) -> float:
    """Return the weights of one convolution over the module's; the same as its speed-up.

    Source: GhostNet, arXiv 1911.11907, equation 5.
    """
    return speed_up(
        channels=channels,
        kernel_size=kernel_size,
        ratio=ratio,
        cheap_kernel_size=cheap_kernel_size,
    )


def ghost_layers(architecture: Architecture, form: GhostForm) -> tuple[str, ...]:
    """Return the dense convolutions that can be ghost modules and have less work so.

    The first convolution stays. In the form `rep` maps become narrower: of those that are added to
    each other all must be written by such convolutions (`ghost_groups`).
    """
    network = as_graph(architecture)
    return tuple(name for names in ghost_groups(network, form) for name in names)


def ghost_groups(architecture: Architecture, form: GhostForm) -> tuple[tuple[str, ...], ...]:
    """Return `ghost_layers` in groups that can only become modules together."""
    network = as_graph(architecture)
    possible = [layer.name for layer in layers(network) if _can_be_module(layer, form)]
    if form.form == "ghost":
        return tuple((name,) for name in possible)
    return tuple(
        group.layers
        for group in width_groups(network, step=1)
        if group.copies == 1
        and set(group.layers) <= set(possible)
        and -(-group.channels // form.ratio) % group.step == 0  # else groups of a reader break
    )


def _can_be_module(layer: Layer, form: GhostForm) -> bool:
    return (
        layer.op == "conv"
        and layer.groups == 1
        and layer.inputs[0] != INPUT
        and math.prod(layer.output_shape[1:]) > 1
        and min(layer.input_shape[0], layer.output_shape[0]) >= _FEWEST
        and _weights_of_module(layer, form)
        < layer.input_shape[0] * layer.kernel_size**2 * layer.output_shape[0]
    )


def _weights_of_module(layer: Layer, form: GhostForm) -> int:
    """Return the multiply-adds of a module at each position, as it is drawn."""
    computed = -(-layer.output_shape[0] // form.ratio)
    each = form.ratio - 1 if form.form == "ghost" else 1
    dense = layer.input_shape[0] * layer.kernel_size**2
    return computed * (dense + each * form.kernel_size**2)


def ghosted(architecture: Architecture, names: Iterable[str], form: GhostForm) -> Architecture:
    """Return a network with some convolutions as ghost modules, as a graph of primitives.

    Args:
        architecture: of blocks, or a graph.
        names: of `ghost_layers`.
        form: of the modules.

    Raises:
        UsageError: a layer that can be none.
    """
    form.check()
    network, names = as_graph(architecture), tuple(names)
    possible = ghost_layers(network, form)
    for name in names:
        if name not in possible:
            raise UsageError(
                f"{name} of {architecture.name} cannot be a ghost module",
                allowed=", ".join(possible) or "none here",
            )
    for together in ghost_groups(network, form):
        if set(together) & set(names) and not set(together) <= set(names):
            raise UsageError(
                f"{together[0]} of {architecture.name} becomes narrower only together with others",
                allowed=", ".join(together),
            )
    if form.form == "rep":
        network = changed(network, narrows(network, names, form))
    listed = {layer.name: layer for layer in layers(network)}
    chosen = {name: activation_of(network.primitives, listed[name]) for name in names}
    last = {chosen[name] or name: name for name in names}
    found: list[Primitive] = []
    for one in network.primitives:
        if chosen.get(one.name):
            continue  # the module is put where its activation is
        if one.name in last:
            conv = next(p for p in network.primitives if p.name == last[one.name])
            act = one if one is not conv else None
            found += _module(conv, act, listed[conv.name].output_shape[0], form)
        else:
            found.append(one)
    return network.changed(
        primitives=used_primitives(found), name=f"{architecture.name}-{form.form}"
    )


def narrows(network: Architecture, names: Sequence[str], form: GhostForm) -> list[Narrow]:
    """Return the narrower widths of the form `rep`."""
    return [
        Narrow(group=group.name, channels=-(-group.channels // form.ratio))
        for group in width_groups(network, step=1)
        if set(group.layers) <= set(names)
    ]


def activation_of(primitives: Sequence[Primitive], layer: Layer) -> str:
    """Return the activation that alone reads a convolution; empty = there is none."""
    readers = [one for one in primitives if layer.name in one.inputs]
    if len(readers) == 1 and readers[0].op == "activation":
        return readers[0].name
    return ""


def _module(conv: Primitive, act: Primitive | None, width: int, form: GhostForm) -> list[Primitive]:
    """Return the primitives of a module; the last has the name of what it stands for."""
    primary, cheap = f"{conv.name}_primary", f"{conv.name}_cheap"
    own = act.name if act is not None else conv.name
    half = form.kernel_size // 2
    computed = -(-width // form.ratio) if form.form == "ghost" else width

    def filters(name: str, source: str, each: int) -> Primitive:
        return Primitive(
            name=name,
            op="conv",
            inputs=(source,),
            out_channels=computed * each,
            kernel_size=form.kernel_size,
            padding=(half, half, half, half),
            groups=computed,
            norm_eps=conv.norm_eps or _NORM_EPS,
        )

    def activated(source: str, name: str) -> list[Primitive]:
        return [] if act is None else [act.model_copy(update={"name": name, "inputs": (source,)})]

    first = conv.model_copy(update={"name": primary, "out_channels": computed})
    if form.form == "rep":
        last = own if act is None else cheap
        return [first, filters(last, primary, 1), *activated(last, own)]
    one = primary if act is None else f"{primary}_act"
    other = cheap if act is None else f"{cheap}_act"
    exact = computed * form.ratio == width
    joined = own if exact else f"{conv.name}_concat"
    found = [
        first,
        *activated(primary, one),
        filters(cheap, one, form.ratio - 1),
        *activated(cheap, other),
        Primitive(name=joined, op="concat", inputs=(one, other)),
    ]
    if not exact:
        found.append(Primitive(name=own, op="select", inputs=(joined,), out_channels=width))
    return found
