"""An ONNX file as a graph that can be counted: read, functions written out, nodes in order.

What a file may do to whoever reads it ends here: functions that call themselves or each other
without end, nodes in a circle, two nodes that write one tensor, constants whose sizes are not
those of their data.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto, defs, helper, inliner

from featherweight.errors import UsageError
from featherweight.records import read_bounded

__all__ = ["ONNX_DOMAINS", "load_graph", "own_opset", "subgraphs"]

ONNX_DOMAINS = ("", "ai.onnx")
"""The two names of ONNX's own operators."""

_LARGEST_BYTES = 2 * 1024**3
"""What protobuf can read."""
_MOST_NODES = 200_000
"""With all functions written out; networks have some thousands."""
_DEEPEST = 100

_Function = tuple[str, str, str]


def load_graph(path: Path) -> onnx.ModelProto:
    """Read a file; weights kept in other files are neither needed nor looked for.

    Returns:
        The model without functions, its nodes in an order in which they can run.

    Raises:
        UsageError: the file cannot be read, or is no graph that could run.
    """
    try:
        content = read_bounded(path, limit_bytes=_LARGEST_BYTES)
        model = onnx.load_from_string(content)
        if model.functions:
            _check_functions(model)
            model = inliner.inline_local_functions(model)
    except Exception as error:  # a missing file, and whatever protobuf says of other content
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"cannot read {path} as an ONNX file: {reason}") from error
    if not model.graph.node:
        raise UsageError(f"{path} holds no ONNX graph")
    try:
        _check_opset(model)
        for constant in model.graph.initializer:
            _check_constant(constant)
        for node in model.graph.node:
            _check_node(node, own_opset(model))
        ordered = _in_order(model.graph)
    except ValueError as error:
        raise UsageError(f"{path} is no ONNX graph that can run: {error}") from error
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


def own_opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a file is written in."""
    versions = [o.version for o in model.opset_import if o.domain in ONNX_DOMAINS]
    return int(max(versions, default=1))


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs a node holds: the branches of an If, the body of a Loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and those of their subgraphs, however deep."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for graph in subgraphs(node):
            waiting.extend(graph.node)


def _check_functions(model: onnx.ModelProto) -> None:
    """Raise for functions that cannot be written out; each is looked at once."""
    bodies = {_name(f.domain, f.name, f): f for f in model.functions}
    if len(bodies) < len(model.functions):
        raise ValueError("it defines a function twice")
    called = {
        key: [c for c in map(_called, _all_nodes(body.node)) if c in bodies]
        for key, body in bodies.items()
    }
    own = {key: sum(1 for _ in _all_nodes(body.node)) for key, body in bodies.items()}
    sizes: dict[_Function, tuple[int, int]] = {}  # nodes, depth
    for start in bodies:
        path = [start]
        while path:
            key = path[-1]
            missing = [c for c in called[key] if c not in sizes]
            if key in sizes or not missing:
                path.pop()
                inner = [sizes[c] for c in called[key]]
                sizes[key] = (
                    own[key] + sum(nodes for nodes, _ in inner),
                    1 + max((depth for _, depth in inner), default=0),
                )
                continue
            if missing[0] in path:
                raise ValueError(f"its function {missing[0][1]!r} calls itself")
            path.append(missing[0])
    calls = [sizes[c] for c in map(_called, _all_nodes(model.graph.node)) if c in sizes]
    if sum(nodes for nodes, _ in calls) > _MOST_NODES:
        raise ValueError(f"its functions stand for more than {_MOST_NODES} nodes")
    if max((depth for _, depth in calls), default=0) > _DEEPEST:
        raise ValueError(f"its functions call each other more than {_DEEPEST} deep")


def _name(domain: str, name: str, proto: onnx.FunctionProto | onnx.NodeProto) -> _Function:
    own = "" if domain in ONNX_DOMAINS else domain
    return (own, name, str(getattr(proto, "overload", "")))


def _called(node: onnx.NodeProto) -> _Function:
    return _name(node.domain, node.op_type, node)


def _check_opset(model: onnx.ModelProto) -> None:
    opset, newest = own_opset(model), int(defs.onnx_opset_version())
    if not 1 <= opset <= newest:
        raise ValueError(f"it has opset {opset}, the installed onnx knows 1 to {newest}")


def _check_node(node: onnx.NodeProto, opset: int) -> None:
    """Raise when a node has no readable names, or one of ONNX's own lacks what it needs."""
    for text in (node.name, node.op_type, node.domain, *node.input, *node.output):
        if not _is_text(text):
            raise ValueError(f"a name in it is no text: {text!r}")
    if node.domain not in ONNX_DOMAINS or not defs.has(node.op_type, opset, ""):
        return
    schema = defs.get_schema(node.op_type, opset, "")
    place = f"node {node.name or node.op_type!r} ({node.op_type})"
    needed = list(node.input[: schema.min_input])
    if len(needed) < schema.min_input or "" in needed or len(node.input) > schema.max_input:
        raise ValueError(f"{place} reads {list(node.input)}")
    if not schema.min_output <= len(node.output) <= schema.max_output:
        raise ValueError(f"{place} writes {list(node.output)}")
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        given = AttributeProto.AttributeType.Name(attribute.type)
        if known is not None and not str(known.type).endswith(f".{given}"):
            raise ValueError(f"{place} has another type of attribute {attribute.name!r}")


def _is_text(text: str | bytes) -> bool:
    """Protobuf hands over whatever bytes stand where a name should be."""
    try:
        return isinstance(text, str) and len(text.encode()) >= len(text)
    except UnicodeEncodeError:
        return False


def _check_constant(constant: TensorProto) -> None:
    """Raise when a constant has other sizes than its data; data may be elsewhere or left out."""
    if min(constant.dims, default=0) < 0:
        raise ValueError(f"constant {constant.name!r} has sizes {list(constant.dims)}")
    external = constant.data_location == TensorProto.EXTERNAL
    if external or not constant.raw_data or constant.data_type in _PACKED:
        return
    try:
        value_bytes = helper.tensor_dtype_to_np_dtype(constant.data_type).itemsize
    except KeyError:
        raise ValueError(f"constant {constant.name!r} has type {constant.data_type}") from None
    if len(constant.raw_data) != math.prod(constant.dims) * value_bytes:
        raise ValueError(f"constant {constant.name!r} holds other data than its sizes say")


_PACKED = {
    getattr(TensorProto, name)
    for name in ("UINT4", "INT4", "FLOAT4E2M1", "UINT2", "INT2")
    if hasattr(TensorProto, name)
}
"""Types with several values in a byte."""


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes so that each comes after what it reads; else as in the file."""
    sources = _sources(graph)
    waiting = [len(before) for before in sources]
    readers: dict[int, list[int]] = {}
    for position, before in enumerate(sources):
        for source in before:
            readers.setdefault(source, []).append(position)
    ready = [position for position, count in enumerate(waiting) if not count]
    ordered = []
    while ready:
        position = heapq.heappop(ready)
        ordered.append(graph.node[position])
        for reader in readers.get(position, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(ordered) < len(graph.node):
        stuck = next(n for n, count in zip(graph.node, waiting, strict=True) if count)
        raise ValueError(f"node {stuck.name or stuck.op_type!r} waits for itself")
    return ordered


def _sources(graph: onnx.GraphProto) -> list[set[int]]:
    """Return, for each node, the nodes that write what it or its subgraphs read."""
    given = {value.name for value in (*graph.input, *graph.initializer)}
    given |= {constant.values.name for constant in graph.sparse_initializer}
    writers: dict[str, int] = {}
    for position, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in writers or name in given:
                raise ValueError(f"tensor {name!r} is written twice")
            writers[name] = position
    sources = []
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in writers and name not in given:
                raise ValueError(f"nothing writes tensor {name!r}")
        inner = _all_nodes(n for body in subgraphs(node) for n in body.node)
        names = {*node.input, *(name for deeper in inner for name in deeper.input)}
        sources.append({writers[name] for name in names if name in writers})
    return sources
