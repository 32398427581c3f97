"""FLOPs are not latency: prune by Torch-Pruning, count, and time the files.

    pip install torch-pruning && python benchmarks/pruning_by_flops.py

torchvision's MobileNetV2 and MobileNetV3-Small (drawn weights: their values do not matter for
time) are pruned with Torch-Pruning's magnitude pruner at two ratios, with its default settings and
with channels rounded to multiples of 8. Every network is exported by torch.onnx, with cast, layout
and normalisation inside, and timed by the measuring worker in onnxruntime and OpenVINO, one thread,
all of one runtime interleaved in one process. Changes are relative to the unpruned network.
Writes results/pruning_by_flops.json.
"""

from __future__ import annotations

import argparse
import json
import platform as host
import tempfile
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch_pruning
import torchvision
from torch import Tensor, nn

import featherweight as fw
from featherweight.measuring.measurement import Measurement, ratio_interval
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.artifact import Artifact, digest_files, write_artifact

RESULT = Path(__file__).parent / "results" / "pruning_by_flops.json"
SIDE = 224
NETWORKS = {
    "mobilenet_v2": torchvision.models.mobilenet_v2,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
}
CASES: dict[str, dict[str, Any]] = {
    "ratio 0.1": {"pruning_ratio": 0.1},
    "ratio 0.3": {"pruning_ratio": 0.3},
    "ratio 0.1, round_to 8": {"pruning_ratio": 0.1, "round_to": 8},
    "ratio 0.3, round_to 8": {"pruning_ratio": 0.3, "round_to": 8},
}
RUNTIMES = ("onnxruntime", "openvino")


class Shipped(nn.Module):
    """A network behind the input that our files have: uint8 (1, H, W, 3)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        """Answer one picture, (1, classes)."""
        answer: Tensor = self.network((picture.permute(0, 3, 1, 2).float() - 116.0) / 58.0)
        return answer


def pruned(name: str, settings: dict[str, Any] | None) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name](weights=None).eval()
    if settings is not None:
        torch_pruning.pruner.MagnitudePruner(
            network,
            torch.zeros(1, 3, SIDE, SIDE),
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            ignored_layers=[network.classifier[-1]],
            **settings,
        ).step()
    return network.eval()


def write(network: nn.Module, folder: Path, runtime: str) -> Artifact:
    folder.mkdir(parents=True)
    file = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Shipped(network).eval(),
            (torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8),),
            str(file),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    size_bytes, sha256 = digest_files(folder, (file.name,))
    artifact = Artifact(
        runtime=runtime,
        precision="fp32",
        files=(file.name,),
        directory=str(folder),
        input_shape=(SIDE, SIDE, 3),
        preprocessing=Preprocessing(),
        labels=tuple(str(k) for k in range(1000)),
        size_bytes=size_bytes,
        sha256=sha256,
        architecture_digest=sha256,
    )
    write_artifact(artifact)
    return artifact


def change(one: Measurement, base: Measurement) -> dict[str, Any]:
    low, high = ratio_interval(one.samples_ms, over=base.samples_ms)
    return {
        "median_ms": one.median_ms,
        "change": one.median_ms / base.median_ms - 1.0,
        "interval": [low - 1.0, high - 1.0],
        "disturbed": one.disturbed,
    }


def compare(name: str, work: Path) -> dict[str, Any]:
    networks = {"unpruned": pruned(name, None)}
    networks |= {case: pruned(name, settings) for case, settings in CASES.items()}
    macs = {
        case: fw.profile(network, input_shape=(3, SIDE, SIDE)).macs
        for case, network in networks.items()
    }
    rows: dict[str, dict[str, Any]] = {
        case: {"macs": count, "macs_change": count / macs["unpruned"] - 1.0}
        for case, count in macs.items()
    }
    for runtime in RUNTIMES:
        artifacts = [
            write(network, work / f"{name}-{index}-{runtime}", runtime)
            for index, network in enumerate(networks.values())
        ]
        measured = fw.measure_artifacts(
            artifacts,
            platform=fw.parse_platform(f"local/{runtime}"),
            names=list(networks),
            samples=100,
            max_s_each=8.0,
        )
        for case, one in zip(networks, measured, strict=True):
            rows[case][runtime] = change(one, measured[0])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: compare(name, Path(folder)) for name in NETWORKS}
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": host.platform(),
        "versions": {
            name: version(name)
            for name in ("featherweight", "torch", "torch-pruning", "onnxruntime", "openvino")
        },
        "networks": rows,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    for name, cases in rows.items():
        for case, row in cases.items():
            times = ", ".join(f"{r} {row[r]['change']:+.0%}" for r in RUNTIMES)
            print(f"{name} {case}: MACs {row['macs_change']:+.0%}, {times}")


if __name__ == "__main__":
    main()
