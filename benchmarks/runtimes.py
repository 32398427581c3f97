"""Which runtime and precision wins for which network, and whether all compute the same.

    python benchmarks/runtimes.py
    python benchmarks/runtimes.py --runtime openvino

One network of every family of the zoo, 128 pixels (small ones 32), ten classes, one thread. Parity:
the largest difference of a logit from PyTorch over the largest logit, on eight pictures, with
drawn weights whose norms have the statistics of drawn pictures. Time: all networks of a platform
interleaved in one fresh process. Writes results/runtimes.json.
"""

from __future__ import annotations

import argparse
import json
import platform as host
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featherweight.architecture import Architecture
from featherweight.errors import FeatherweightError
from featherweight.exporting.export import export_network
from featherweight.exporting.platforms import parse_platform
from featherweight.exporting.verify import network_answers
from featherweight.measuring.latency import measure_artifacts
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.networks.slicing import recalibrate_norms
from featherweight.nn.network import Network, build_network
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.zoo.model import MODELS

RESULT = Path(__file__).parent / "results" / "runtimes.json"
SMALL = ("convnet", "resnet", "vgg")
CLASSES = 10
PICTURES = 8


def networks() -> dict[str, Network]:
    """Return the first network of every family, with norms that fit pictures."""
    chosen: dict[str, str] = {}
    for name in MODELS:
        chosen.setdefault(MODELS[name].family, name)
    found = {}
    for family, name in chosen.items():
        side = 32 if family in SMALL else 128
        network = build_network(create_architecture(name, resolution=side, classes=CLASSES), seed=0)
        seen = torch.from_numpy(pictures(network.architecture, 64)).permute(0, 3, 1, 2).float()
        recalibrate_norms(network, [(seen / 255 - 0.5) / 0.5])
        found[name] = network.eval()
    return found


def pictures(architecture: Architecture, count: int) -> np.ndarray:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    side = architecture.resolution
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (fine * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def examine(chosen: dict[str, Network], platform_text: str) -> dict[str, dict[str, Any]]:
    """Return parity and time of every network on one platform."""
    platform = parse_platform(platform_text)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        artifacts, names = [], []
        for name, network in chosen.items():
            images = pictures(network.architecture, PICTURES)
            try:
                artifact = export_network(
                    network,
                    runtime=platform.runtime,
                    precision=platform.precision,
                    out=Path(folder) / name,
                    preprocessing=Preprocessing(),
                    labels=tuple(str(k) for k in range(CLASSES)),
                    calibration=images,
                )
            except FeatherweightError as refusal:
                found[name] = {"refused": str(refusal)}
                continue
            run = RUNTIMES[platform.runtime].load(artifact, num_threads=1)
            logits = np.concatenate([run(image[None])["logits"] for image in images])
            expected = network_answers(network, images, preprocessing=Preprocessing())["logits"]
            found[name] = {
                "difference": float(np.abs(logits - expected).max() / np.abs(expected).max())
            }
            artifacts.append(artifact)
            names.append(name)
        for one in measure_artifacts(artifacts, platform=platform, names=names):
            found[one.network] |= {
                "median_ms": one.median_ms,
                "interval_ms": one.interval_ms,
                "disturbed": one.disturbed,
            }
    return found


def rank_correlation(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Return Spearman's, over the networks that both have."""
    both = [k for k in first if "median_ms" in first[k] and "median_ms" in second[k]]
    ranks = [
        np.array([table[k]["median_ms"] for k in both]).argsort().argsort()
        for table in (first, second)
    ]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runtime", action="append", help="only this one; the rest of the file stays"
    )
    options = parser.parse_args()
    chosen = networks()
    table: dict[str, dict[str, dict[str, Any]]] = {}
    if options.runtime:
        table = json.loads(RESULT.read_text())["table"]
    for runtime in options.runtime or RUNTIMES:
        for precision in RUNTIMES[runtime].precisions:
            key = f"{runtime} {precision}"
            table[key] = examine(chosen, f"local/{runtime}:precision={precision}")
            print(key, json.dumps(table[key]), flush=True)
    winners = {
        name: min(
            (table[key][name]["median_ms"], key) for key in table if "median_ms" in table[key][name]
        )[1]
        for name in chosen
    }
    fp32 = [
        one["difference"]
        for key in table
        if key.endswith("fp32")
        for one in table[key].values()
        if "difference" in one
    ]
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": host.platform(),
        "versions": {name: version(name) for name in ("featherweight", "torch", "onnxruntime")}
        | {name: RUNTIMES[name].version() for name in RUNTIMES},
        "largest_difference_fp32": max(fp32),
        "winners": winners,
        "rank_correlation_fp32_int8": {
            runtime: rank_correlation(table[f"{runtime} fp32"], table[f"{runtime} int8"])
            for runtime in RUNTIMES
            if "int8" in RUNTIMES[runtime].precisions
        },
        "rank_correlation_of_runtimes_fp32": {
            f"onnxruntime and {runtime}": rank_correlation(
                table["onnxruntime fp32"], table[f"{runtime} fp32"]
            )
            for runtime in RUNTIMES
            if runtime != "onnxruntime"
        },
        "table": table,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: found[k] for k in found if k != "table"}, indent=1))


if __name__ == "__main__":
    main()
