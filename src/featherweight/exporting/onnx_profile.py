"""Count what an ONNX file computes, from the shapes alone: nothing in it is executed.

The file's own truth. Where an exporter folded norms into convolutions they have a bias: flops
are 2K instead of 2K - 1 per output, and params are fewer by one per output channel. A quantised
file (QuantizeLinear, DequantizeLinear) has the multiply-adds of the float file; its weights count
once, wherever they are converted. Memory traffic is that of the nodes as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import helper

from featherweight.exporting.onnx_graph import ONNX_DOMAINS, load_graph, subgraphs
from featherweight.exporting.onnx_inputs import InputShape, fix_inputs
from featherweight.exporting.onnx_learned import Learned, stated_kinds
from featherweight.exporting.onnx_rules import COUNTED, FREE, METADATA, NodeShapes
from featherweight.exporting.onnx_shapes import infer_tensors
from featherweight.profiling.profile import LayerProfile, Profile, layer_profile, network_profile
from featherweight.profiling.rules import NOTHING, Arithmetic

__all__ = ["profile_onnx"]


def profile_onnx(path: Path, *, input_shape: InputShape = None) -> Profile:
    """Count an ONNX file for one picture; weights kept in other files need not be there.

    Args:
        path: the file.
        input_shape: sizes without the batch axis for a file that leaves them open: of its first
            input, or of several by name. A batch axis that is open is taken as 1, and a symbol
            has one size wherever it stands.

    Returns:
        One row per node that computes or moves data. A node whose shapes do not follow from those
        of the inputs is unknown, like one with an operator in no table.

    Raises:
        UsageError: the file cannot be read or could not run, an input has open sizes, or
            `input_shape` contradicts it.
    """
    model = load_graph(path)
    kinds = stated_kinds(model)
    inputs = fix_inputs(model, path, input_shape=input_shape)
    file = _File(model, kinds)
    rows = list(file.rows())
    first = file.tensors.get(inputs[0]) if inputs else None
    params = file.learned.params
    return network_profile(
        rows,
        name=path.stem,
        input_shape=() if first is None else first.shape[1:],
        params=None if None in params else sum(count or 0 for count in params),
        unknown_ops={row.op for row in rows if row.macs is None},
    )


class _File:
    """A graph with the shape of every tensor that can be known."""

    def __init__(self, model: onnx.ModelProto, kinds: dict[str, str]) -> None:
        self.tensors = infer_tensors(model)
        self.learned = Learned(model.graph, self.tensors, kinds)
        self._nodes = list(model.graph.node)

    def rows(self) -> Iterator[LayerProfile]:
        """Yield a row for each node that computes or moves data, in the order of the file."""
        for position, node in enumerate(self._nodes):
            own = node.domain in ONNX_DOMAINS
            op = node.op_type if own else f"{node.domain}.{node.op_type}"
            if op in METADATA:
                continue
            arithmetic = self._arithmetic(position, node, op)
            written = next(filter(None, node.output), "")
            output = self.tensors.get(written)
            yield layer_profile(
                node.name or written or op,
                op,
                output_shape=None if output is None else output.shape,
                params=self.learned.params[position],
                macs=None if arithmetic is None else arithmetic.macs,
                flops=None if arithmetic is None else arithmetic.flops,
                memory_access_bytes=None if arithmetic is None else self._memory(node),
            )

    def _arithmetic(self, position: int, node: onnx.NodeProto, op: str) -> Arithmetic | None:
        """`None` = unknown operator, or one that is counted and has a shape nobody knows."""
        if op in FREE:
            if position not in self.learned.biases:
                return NOTHING
            return Arithmetic(0, math.prod(self.tensors[node.output[0]].shape))
        if op not in COUNTED or any(subgraphs(node)):
            return None
        outputs = [name for name in node.output if name][:1]
        names = [name for name in (*node.input, *outputs) if name]
        # An empty tensor is none that a network computes: the sizes do not fit each other.
        if not outputs or any(
            name not in self.tensors or 0 in self.tensors[name].shape for name in names
        ):
            return None
        shapes = NodeShapes(
            inputs=tuple(self.tensors[name].shape if name else None for name in node.input),
            attributes={item.name: helper.get_attribute_value(item) for item in node.attribute},
            output=self.tensors[outputs[0]].shape,
        )
        return COUNTED[op](shapes)

    def _memory(self, node: onnx.NodeProto) -> int | None:
        names = {name for name in node.input if name}
        tensors = [self.tensors.get(name) for name in (*names, *filter(None, node.output))]
        if any(tensor is None for tensor in tensors):
            return None
        return sum(tensor.size_bytes for tensor in tensors if tensor is not None)
