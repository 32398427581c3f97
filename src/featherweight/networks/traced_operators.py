"""The ATen operators of a trace, each as primitive layers: a new operator is one function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from featherweight.networks.traced_graph import TracedGraph, TracedMap, pair, shape_of, square

__all__ = ["OPERATORS", "PASSED", "Convert"]

Convert = Callable[[TracedGraph, fx.Node, dict[str, Any]], Any]
"""(graph, node, arguments by name) -> value; one of the arguments depends on the pictures."""

PASSED = frozenset({"contiguous", "clone", "alias", "detach", "lift_fresh_copy"})
"""Operators that give what they are given."""


def _activation(
    graph: TracedGraph, node: fx.Node, given: dict[str, Any], *, function: str
) -> TracedMap:
    return graph.add(node, "activation", [given["self"]], function=function)


def _hardtanh(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    if (given["min_val"], given["max_val"]) != (0, 6):
        raise graph.unsupported(node, "a hardtanh other than ReLU6")
    return _activation(graph, node, given, function="relu6")


def _dropout(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> Any:
    if given["train"] and given["p"]:
        raise graph.unsupported(node, "a dropout that is on in eval mode")
    return given["input" if "input" in given else "self"]


def _converted(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> Any:
    if node.meta["val"].dtype != torch.float32:
        raise graph.unsupported(node, f"a conversion to {node.meta['val'].dtype}")
    return given["self"]


def _conv2d(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    weight, bias, x = given["weight"], given["bias"], given["input"]
    stride = square(given["stride"])
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor | None):
        raise graph.unsupported(node, "a convolution whose weights depend on the picture")
    if stride is None or weight.shape[2] != weight.shape[3] or square(given["dilation"]) != 1:
        raise graph.unsupported(node, "a dilated or uneven convolution")
    own = _conv_padding(given["padding"], weight.shape[2])
    padding = own
    if isinstance(x, TracedMap):
        padding = tuple(a + b for a, b in zip(x.padding, own, strict=True))
        x = x._replace(padding=(0, 0, 0, 0))
    made = graph.add(
        node,
        "conv",
        [x],
        out_channels=len(weight),
        kernel_size=weight.shape[2],
        stride=stride,
        groups=given["groups"],
        padding=padding,
        bias=bias is not None,
    )
    graph.weights[f"{made.name}.conv.weight"] = weight
    if bias is not None:
        graph.weights[f"{made.name}.conv.bias"] = bias
    return made


def _conv_padding(own: Any, kernel_size: int) -> tuple[int, ...]:
    """Return (top, left, bottom, right); torch allows `same` without stride only."""
    if own == "valid":
        return (0, 0, 0, 0)
    if own == "same":
        before = (kernel_size - 1) // 2
        after = kernel_size - 1 - before
        return (before, before, after, after)
    rows, columns = pair(own)
    return (rows, columns, rows, columns)


def _batch_norm(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> Any:
    """Make the norm part of the convolution before it; a bias moves into the mean."""
    source, x = node.args[0], given["input"]
    conv = graph.primitives.get(getattr(x, "name", ""))
    if (
        conv is None
        or conv.op != "conv"
        or conv.norm_eps is not None
        or x != TracedMap(conv.name)
        or len(source.users) > 1  # type: ignore[union-attr]
    ):
        raise graph.unsupported(node, "a batch norm that does not follow its own convolution")
    if given["training"] or given["running_mean"] is None:
        raise graph.unsupported(node, "a batch norm without running statistics")
    graph.check_channels(node, x, "a batch norm")
    mean = given["running_mean"].clone()
    if conv.bias:
        mean -= graph.weights.pop(f"{conv.name}.conv.bias")
    ones = torch.ones_like(mean)
    parts = {
        "weight": ones if given["weight"] is None else given["weight"],
        "bias": ones * 0 if given["bias"] is None else given["bias"],
        "running_mean": mean,
        "running_var": given["running_var"],
    }
    graph.weights |= {f"{conv.name}.norm.{part}": value for part, value in parts.items()}
    graph.primitives[conv.name] = conv.model_copy(update={"norm_eps": given["eps"], "bias": False})
    return x


def _linear(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    weight, bias, shape = given["weight"], given["bias"], shape_of(node.args[0])
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor | None):
        raise graph.unsupported(node, "a linear layer whose weights depend on the picture")
    if len(shape) != 2:
        raise graph.unsupported(node, f"a linear layer on the last axis of {shape}")
    made = graph.add(node, "linear", [given["input"]], out_channels=len(weight), bias=True)
    graph.weights[f"{made.name}.weight"] = weight
    graph.weights[f"{made.name}.bias"] = torch.zeros(len(weight)) if bias is None else bias
    return made


def _add(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    if given.get("alpha", 1) != 1:
        raise graph.unsupported(node, "a scaled addition")
    return _of_two(graph, node, given, op="add")


def _of_two(graph: TracedGraph, node: fx.Node, given: dict[str, Any], *, op: str) -> TracedMap:
    """Combine two maps; a number for each channel comes second."""
    operands = [given["self"], given["other"]]
    shapes = [shape_of(argument) for argument in node.args]
    if all(isinstance(x, TracedMap) for x in operands) and len(shapes[0]) != len(shapes[1]):
        raise graph.unsupported(node, f"{op} of {shapes[0]} and {shapes[1]}")
    heights = [shape[2] if len(shape) == 4 else 0 for shape in shapes]
    if heights[0] == 1 and heights[1] > 1:
        operands = operands[::-1]
    return graph.add(node, op, operands)


def _resize(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    before, after = shape_of(node.args[0])[2:], shape_of(node)[2:]
    factor = after[0] // before[0]
    if after != tuple(factor * size for size in before):
        raise graph.unsupported(node, f"a resize from {before} to {after}")
    return graph.add(node, "resize", [given["input"]], factor=factor)


def _concat(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    if given["dim"] % len(shape_of(node)) != 1:
        raise graph.unsupported(node, "a concatenation along another axis than channels")
    return graph.add(node, "concat", given["tensors"])


def _adaptive_pool(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    if square(given["output_size"]) != 1:
        raise graph.unsupported(node, "an adaptive pooling to more than one pixel")
    return graph.add(node, "global_pool", [given["self"]])


def _mean(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    axes = sorted(axis % 4 for axis in given.get("dim") or ())
    if len(shape_of(node.args[0])) != 4 or axes != [2, 3]:
        raise graph.unsupported(node, "a mean over other axes than height and width")
    return graph.add(node, "global_pool", [given["self"]])


def _average_pool(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    padded = pair(given["padding"]) != (0, 0)
    if (padded and given["count_include_pad"]) or given["divisor_override"] is not None:
        raise graph.unsupported(node, "an average pooling that counts its padding")
    return _pool(graph, node, given, function="average")


def _pool(graph: TracedGraph, node: fx.Node, given: dict[str, Any], *, function: str) -> TracedMap:
    size = square(given["kernel_size"])
    stride = square(given["stride"]) if given["stride"] else size
    rows, columns = pair(given["padding"])
    dilated = square(given.get("dilation", 1)) != 1
    if size is None or stride is None or rows != columns or given["ceil_mode"] or dilated:
        raise graph.unsupported(node, "a dilated, uneven or ceiling pooling")
    return graph.add(
        node,
        "pool",
        [given["self"]],
        kernel_size=size,
        stride=stride,
        padding=(rows, columns, rows, columns),
        function=function,
    )


def _pad(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    x, amounts = given["self"], [*given["pad"], 0, 0, 0, 0][:6]
    left, right, top, bottom, before, after = amounts
    shape = shape_of(node.args[0])
    if given.get("mode", "constant") != "constant" or given.get("value") not in (None, 0, 0.0):
        raise graph.unsupported(node, "a padding with other values than zero")
    if (
        len(shape) != 4
        or before
        or min(amounts) < 0
        or (after and (left or right or top or bottom))
    ):
        raise graph.unsupported(node, f"the padding {given['pad']} of {shape}")
    if after:
        return graph.add(node, "pad", [x], out_channels=shape[1] + after)
    border = zip(x.padding, (top, left, bottom, right), strict=True)
    return x._replace(padding=tuple(a + b for a, b in border))  # type: ignore[no-any-return]


def _slice(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> Any:
    before, after = shape_of(node.args[0]), shape_of(node)
    if before == after:
        return given["self"]
    if given["dim"] % len(before) != 1 or given["step"] != 1:
        raise graph.unsupported(node, "a slice with steps, or along another axis than channels")
    start = given["start"] or 0
    first = start + before[1] if start < 0 else start
    return _select(graph, node, given["self"], first=first, count=after[1])


def _select(graph: TracedGraph, node: fx.Node, x: Any, *, first: int, count: int) -> TracedMap:
    graph.check_channels(node, x, "a selection")
    return graph.add(node, "select", [x], first_channel=first, out_channels=count)


def _split(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> list[TracedMap]:
    if given["dim"] % len(shape_of(node.args[0])) != 1:
        raise graph.unsupported(node, "a split along another axis than channels")
    first, parts = 0, []
    for part in node.meta["val"]:
        made = _select(graph, node, given["self"], first=first, count=part.shape[1])
        graph.shapes[made.name] = tuple(part.shape)
        parts.append(made)
        first += part.shape[1]
    return parts


def _channel_shuffle(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    return graph.add(node, "shuffle", [given["self"]], groups=given["groups"])


def _view(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> Any:
    """Flattening before a linear layer, or one of the steps of a channel shuffle."""
    x, before, after = given["self"], shape_of(node.args[0]), shape_of(node)
    if before == after:
        return x
    if x.transposed and len(after) == 4 and after[2:] == before[3:]:
        return graph.add(node, "shuffle", [TracedMap(x.name)], groups=x.groups)
    plain = x == TracedMap(x.name)
    if plain and len(before) == 4 and len(after) == 5 and before[2:] == after[3:]:
        return TracedMap(x.name, groups=after[1])
    flattened = before[0] == after[0] and len(after) == 2
    raised = len(before) == 2 and len(after) == 4 and after[2:] == (1, 1)
    if plain and (flattened or raised):
        return x
    raise graph.unsupported(node, f"the reshaping {before} -> {after}")


def _transpose(graph: TracedGraph, node: fx.Node, given: dict[str, Any]) -> TracedMap:
    x: TracedMap = given["self"]
    if not x.groups or {given["dim0"], given["dim1"]} != {1, 2}:
        raise graph.unsupported(node, "a transposition outside a channel shuffle")
    return x._replace(transposed=True)


def _ignored(_graph: TracedGraph, _node: fx.Node, _given: dict[str, Any]) -> None:
    return None


OPERATORS: dict[str, Convert] = {
    "_assert_tensor_metadata": _ignored,
    "_to_copy": _converted,
    "adaptive_avg_pool2d": _adaptive_pool,
    "add": _add,
    "avg_pool2d": _average_pool,
    "batch_norm": _batch_norm,
    "cat": _concat,
    "channel_shuffle": _channel_shuffle,
    "chunk": _split,
    "constant_pad_nd": _pad,
    "conv2d": _conv2d,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "flatten": _view,
    "hardsigmoid": partial(_activation, function="hard_sigmoid"),
    "hardswish": partial(_activation, function="hard_swish"),
    "hardtanh": _hardtanh,
    "linear": _linear,
    "max_pool2d": partial(_pool, function="max"),
    "mean": _mean,
    "mul": partial(_of_two, op="multiply"),
    "pad": _pad,
    "relu": partial(_activation, function="relu"),
    "relu6": partial(_activation, function="relu6"),
    "reshape": _view,
    "sigmoid": partial(_activation, function="sigmoid"),
    "silu": partial(_activation, function="silu"),
    "slice": _slice,
    "split": _split,
    "split_with_sizes": _split,
    "squeeze": _view,
    "to": _converted,
    "transpose": _transpose,
    "unsqueeze": _view,
    "upsample_nearest2d": _resize,
    "view": _view,
}
"""Operator, without the underscore of its in-place variant -> its conversion."""
