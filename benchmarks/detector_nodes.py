"""Where a detector's milliseconds go: backbone and heads, pooling, suppression.

    python benchmarks/detector_nodes.py RUN ../shared/data/bccd

The exported file of a trained detector answers test pictures in onnxruntime, one thread, with its
profiler on. Told is each part's share of the time of all nodes, and how many proposals and answers
there were. With 100 regions (ThunderNet), as issue 18 asks. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from featherweight.detection.detector import ThunderNet
from featherweight.detection.network import DetectorNetwork
from featherweight.detection.table import NO_OBJECT
from featherweight.exporting.export import export_network
from featherweight.networks.storage import load_network
from featherweight.tasks.task import load_data
from featherweight.training.pixels import open_store

REGIONS = 100


def part_of(name: str, operator: str) -> str:
    """Return which part of the file a node belongs to."""
    if operator in ("RoiAlign",):
        return "pooling"
    if operator in ("NonMaxSuppression", "TopK"):
        return "suppression"
    if name.startswith("detect."):
        return "between"
    if name.startswith(("connected", "box_")):
        return "box head"
    return "dense part"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--pictures", type=int, default=40)
    options = parser.parse_args()
    stored = load_network(options.run)
    network = stored.network
    assert isinstance(network, DetectorNetwork)
    drawn = network.architecture
    if isinstance(drawn.head, ThunderNet):
        head = drawn.head.model_copy(update={"regions": REGIONS})
        smaller = DetectorNetwork(drawn.changed(head=head))
        smaller.load_state_dict(network.state_dict())
        network = smaller.eval()
    store = open_store(load_data(options.data, quiet=True))
    test = store.held_out("test", drawn.resolution, stored.preprocessing)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        artifact = export_network(
            network,
            runtime="onnxruntime",
            out=folder,
            preprocessing=stored.preprocessing,
            labels=stored.classes,
            task=stored.task,
        )
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.enable_profiling = True
        settings.profile_file_prefix = str(folder / "nodes")
        session = onnxruntime.InferenceSession(
            str(artifact.paths[0]), settings, providers=["CPUExecutionProvider"]
        )
        answers = []
        for picture in test.pixels[: options.pictures]:
            (table,) = session.run(None, {"image": np.ascontiguousarray(picture[None])})
            answers.append(int((table[0, :, 5] != NO_OBJECT).sum()))
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            operator = event["args"].get("op_name", "")
            spent[part_of(name.removesuffix("_kernel_time"), operator)] += event["dur"] * 1e-3
    whole = sum(spent.values())
    told: dict[str, Any] = {
        "network": drawn.name,
        "regions": REGIONS if isinstance(drawn.head, ThunderNet) else None,
        "answers": float(np.mean(answers)),
        "milliseconds": whole / options.pictures,
        "shares": {name: value / whole for name, value in sorted(spent.items())},
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
