"""Numbers of networks as the survey prints them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from featherweight.layers import Layer, layers
from featherweight.profiling.liveness import BYTES_PER_VALUE
from featherweight.profiling.profile import LayerProfile, Profile, profile
from featherweight.zoo.model import published_variants
from featherweight.zoo.published import Published
from survey.examples import architecture

__all__ = [
    "QUANTITIES",
    "accesses",
    "block_listing",
    "drawn",
    "macs",
    "percent",
    "table",
    "weights",
    "whole",
]


def whole(value: float) -> str:
    """Return a count with thousands separated."""
    return f"{round(value):,}"


def percent(share: float, *, digits: int = 2) -> str:
    """Return a share in [0, 1] in per cent."""
    return f"{100 * share:.{digits}f} %"


@cache
def drawn(network: str) -> tuple[Layer, ...]:
    """Return the layers of a network."""
    return layers(architecture(network))


@cache
def _counted(network: str) -> Profile:
    return profile(architecture(network))


def _rows(network: str, prefix: str) -> list[LayerProfile]:
    """Return the layers whose dotted name is `prefix` or below it; all for an empty one."""
    rows = [
        row
        for row in _counted(network).layers
        if not prefix or row.name == prefix or row.name.startswith(f"{prefix}.")
    ]
    if not rows:
        raise ValueError(f"{network} has no layer {prefix!r}")
    return rows


def macs(network: str, prefix: str = "") -> int:
    """Return the multiply-adds of a network or of a part of it."""
    return sum(row.macs or 0 for row in _rows(network, prefix))


def accesses(network: str, prefix: str = "") -> int:
    """Return how many values its layers read and write, params included, nothing fused."""
    return sum(row.memory_access_bytes or 0 for row in _rows(network, prefix)) // BYTES_PER_VALUE


def _params(network: str, prefix: str = "") -> int:
    return sum(row.params or 0 for row in _rows(network, prefix))


def _params_without_norms(network: str, prefix: str = "") -> int:
    names = {row.name for row in _rows(network, prefix)}
    norms = (
        2 * layer.output_shape[0]
        for layer in drawn(network)
        if layer.name in names and layer.norm_eps is not None
    )
    return _params(network, prefix) - sum(norms)


def _flops(network: str, prefix: str = "") -> int:
    return sum(row.flops or 0 for row in _rows(network, prefix))


QUANTITIES: dict[str, Callable[[str, str], int]] = {
    "accesses": accesses,
    "bare_params": _params_without_norms,
    "flops": _flops,
    "macs": macs,
    "params": _params,
}
"""Placeholder -> (network, prefix of layer names) -> number."""


def weights(layer: Layer) -> int:
    """Return the weights of a convolution or linear layer, without bias and norm."""
    if layer.op == "linear":
        return math.prod(layer.input_shape) * layer.output_shape[0]
    per_output = layer.kernel_size**2 * layer.input_shape[0] // layer.groups
    return per_output * layer.output_shape[0]


def block_listing(network: str, index: int) -> str:
    """Return the layers of one block, one a line: name, operation, shapes, multiply-adds."""
    prefix = f"blocks.{index}."
    found = [layer for layer in drawn(network) if layer.name.startswith(prefix)]
    if not found:
        raise ValueError(f"{network} has no block {index}")
    counts = {row.name: row.macs for row in _counted(network).layers}
    lines = []
    for layer in found:
        shapes = f"{_shape(layer.input_shape)} -> {_shape(layer.output_shape)}"
        name = layer.name.removeprefix(prefix)
        count = f"{counts[layer.name]:>12,}" if counts[layer.name] else ""
        lines.append(f"{name:<20} {_operation(layer):<28} {shapes:<26}{count}".rstrip())
    return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _operation(layer: Layer) -> str:
    side = f"{layer.kernel_size}x{layer.kernel_size}"
    stride = f" s{layer.stride}" if layer.stride > 1 else ""
    if layer.op == "conv":
        groups = f" g{layer.groups}" if layer.groups > 1 else ""
        return f"conv {side}{stride}{groups} + {'bias' if layer.bias else 'norm'}"
    if layer.op == "pool":
        return f"{layer.function} pool {side}{stride}"
    if layer.op == "shuffle":
        return f"shuffle g{layer.groups}"
    if layer.op == "select":
        last = layer.first_channel + layer.output_shape[0]
        return f"select {layer.first_channel}:{last}"
    return layer.function or layer.op


def table(names: list[str]) -> str:
    """Return a table with a row per published or default variant of zoo networks.

    Numbers of ours are placeholders, to be filled with all others. One source of all rows stands
    below the table, several stand in a column.
    """
    variants = [variant for name in names for variant in published_variants(name)]
    sources = {row.source for _network, row in variants if row.source}
    titles = ["网络", "参数量", "论文", "乘加次数", "论文", "论文 top-1 %", "毫秒"]
    lines = [_cells(network, row) for network, row in variants]
    if len(sources) > 1:
        titles.append("出处")
        lines = [
            [*cells, row.source or "-"] for cells, (_, row) in zip(lines, variants, strict=True)
        ]
    drawn_lines = [f"| {' | '.join(cells)} |" for cells in [titles, ["---"] * len(titles), *lines]]
    if len(sources) == 1:
        drawn_lines += ["", f"论文列的出处 {sources.pop()}"]
    return "\n".join(drawn_lines)


def _cells(network: str, row: Published) -> list[str]:
    return [
        f"`{network}`",
        f"{{{{params:{network}}}}}",
        _millions(row.params),
        f"{{{{macs:{network}}}}}",
        _millions(row.macs),
        "-" if row.top1 is None else f"{100 * row.top1:.1f}",
        f"{{{{ms:{network}}}}}",
    ]


def _millions(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:g}M"
