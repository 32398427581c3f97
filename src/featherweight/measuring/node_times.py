"""The program that asks onnxruntime how long each node of a file takes.

Run by path like worker.py (`python -P node_times.py < job.json`), here or on a device, so it
imports only the standard library, numpy and onnxruntime.

Job (JSON on stdin): `num_threads`, `networks` (list of `{directory, files, input_shape}`), `runs`.
Answer (one JSON line on stdout): `nodes` (per network a list of `[name, operator, median ms]` in
order of execution). Whatever onnxruntime prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

__all__ = ["main", "node_times"]

WARM_UP_RUNS = 10
_END = "_kernel_time"


def node_times(network: Mapping[str, Any], *, num_threads: int, runs: int) -> list[list[Any]]:
    """Return [name, operator, median ms] of every node that onnxruntime executes."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "nodes")  # noqa: PTH118
        session = onnxruntime.InferenceSession(
            os.path.join(network["directory"], network["files"][0]),  # noqa: PTH118
            sess_options=options,
            providers=["CPUExecutionProvider"],
        )
        picture = np.zeros((1, *network["input_shape"]), dtype=np.uint8)
        feed = {session.get_inputs()[0].name: picture}
        for _ in range(WARM_UP_RUNS + runs):
            session.run(None, feed)
        with open(session.end_profiling(), encoding="utf-8") as stream:  # noqa: PTH123
            events = json.load(stream)
    taken: dict[str, list[float]] = {}
    operators = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_END):
            node = name[: -len(_END)]
            operators[node] = event["args"].get("op_name", "")
            taken.setdefault(node, []).append(event["dur"] * 1e-3)
    return [
        [node, operators[node], statistics.median(times[WARM_UP_RUNS:])]
        for node, times in taken.items()
    ]


def main() -> None:
    """Read a job from stdin, do it, write the answer."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
    answer = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    found = [
        node_times(network, num_threads=job["num_threads"], runs=job["runs"])
        for network in job["networks"]
    ]
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        stream.write(json.dumps({"nodes": found}) + "\n")


if __name__ == "__main__":
    main()
