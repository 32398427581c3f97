"""What of an int8 file is computed in float32, and what converting between the two takes."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.measuring.layer_times import NodeTime

__all__ = ["float_notes"]

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_MOVES = frozenset({
    "Cast", "Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze", "ReorderInput", "ReorderOutput",
})  # fmt: skip
"""Operators that move values of any type."""
_LEAST = 0.01
"""Share of a network's ms from which something is worth a word."""
_NAMED = 5


def float_notes(nodes: Sequence[NodeTime], base_ms: float) -> list[str]:
    """Say what an int8 file spends on floats; nothing where that is below 1 % of its time.

    Args:
        nodes: of the file, as the runtime executed them.
        base_ms: of the whole.
    """
    notes = []
    converting = [node for node in nodes if node.operator in _CONVERSIONS]
    converted_ms = sum(node.ms for node in converting)
    if converted_ms >= _LEAST * base_ms:
        most = max(converting, key=lambda node: node.ms)
        notes.append(
            f"{converted_ms:.3f} ms ({converted_ms / base_ms:.0%}) go into {len(converting)} "
            f"conversions between integers and floats, most at {most.name}"
        )
    floats = [
        node
        for node in nodes
        if not node.operator.startswith("Q") and node.operator not in _CONVERSIONS | _MOVES
    ]
    float_ms = sum(node.ms for node in floats)
    if float_ms >= _LEAST * base_ms:
        worst = sorted(floats, key=lambda node: -node.ms)[:_NAMED]
        shown = ", ".join(f"{node.name} ({node.operator}, {node.ms:.3f} ms)" for node in worst)
        notes.append(
            f"{float_ms:.3f} ms ({float_ms / base_ms:.0%}) are computed in floats: {shown}"
            + ("" if len(floats) <= _NAMED else f" and {len(floats) - _NAMED} more")
        )
    return notes
