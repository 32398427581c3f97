"""What each layer of a network takes inside its file, as the runtime's profiler splits the time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from featherweight.devices.known import find_device
from featherweight.exporting.platforms import Platform
from featherweight.layers import Graph
from featherweight.measuring.latency import answer_of_device
from featherweight.runtimes.artifact import Artifact

__all__ = ["NodeTime", "layer_times", "node_times", "tells_node_times"]

_NODE_TIMES = Path(__file__).with_name("node_times.py")
_NODE_RUNS = 40
_TIMEOUT_S = 300.0
_ENDINGS = re.compile(r"(\.d?q|_nchwc|_token_\d+)+$")
"""What onnxruntime appends to the name of a node that it rewrites, and our own int8 nodes."""


class NodeTime(NamedTuple):
    """A node of a file as the runtime executed it: its name, its operator, and median ms."""

    name: str
    operator: str
    ms: float


def tells_node_times(platform: Platform) -> bool:
    """Whether a platform can say how long each node of a file takes: onnxruntime with Python."""
    return platform.runtime == "onnxruntime" and find_device(platform.device).python is not None


def node_times(artifacts: Sequence[Artifact], platform: Platform) -> list[list[NodeTime]]:
    """Return the nodes of every file; none where the platform does not tell."""
    if not tells_node_times(platform):
        return [[] for _ in artifacts]
    job = {"num_threads": platform.num_threads, "runs": _NODE_RUNS}
    device = find_device(platform.device)
    answer = answer_of_device(device, artifacts, job, timeout_s=_TIMEOUT_S, program=_NODE_TIMES)
    return [
        [NodeTime(str(name), str(operator), float(ms)) for name, operator, ms in nodes]
        for nodes in answer["nodes"]
    ]


def layer_times(plan: Graph, nodes: Sequence[NodeTime]) -> dict[str, float]:
    """Return layer -> ms, from the times of a file's nodes.

    A convolution that the runtime computes together with its activation has that one's name: the
    time is said of both.
    """
    ms: dict[str, float] = {}
    for node in nodes:
        name = _ENDINGS.sub("", node.name)
        ms[name] = ms.get(name, 0.0) + node.ms
    ms.update({one.layer: ms[one.name] for one in plan.outputs if one.name in ms})
    for layer in plan.layers:
        if layer.op == "activation" and layer.inputs[0] not in ms and layer.name in ms:
            ms[layer.inputs[0]] = ms[layer.name]
    return ms
