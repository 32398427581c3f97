"""Fit real photographs and CIFAR-10 to budgets and keep what came out.

    python benchmarks/fit_runs.py clothing --data ../shared/data
    python benchmarks/fit_runs.py clothing_scratch cifar10 --data ../shared/data
    python benchmarks/fit_runs.py clothing --data ../shared/data --collect RUN_DIRECTORY

Runs the `featherweight fit` command of each case in this process's environment and writes
results/fit_<case>.json: the command, its summary, all candidates, environment and date. With
--collect the run directory of a finished run is read instead of fitting again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CASES = {
    "clothing": ["clothing", "--latency", "2.5ms", "--time", "30m"],
    "clothing_15m": ["clothing", "--latency", "2.5ms", "--time", "15m"],
    "clothing_3m": ["clothing", "--latency", "2.5ms", "--time", "3m"],
    "clothing_4ms": ["clothing", "--latency", "4ms", "--time", "20m"],
    "clothing_11ms": ["clothing", "--latency", "11ms", "--time", "30m"],
    "clothing_scratch": [
        "clothing",
        "--latency",
        "2.5ms",
        "--time",
        "10m",
        "--pretrained",
        "none",
    ],
    "cifar10": ["cifar10", "--latency", "0.5ms", "--time", "40m"],
}


def fit(case: str, *, data: Path, work: Path) -> Path:
    """Run one case and return its run directory."""
    name, *flags = CASES[case]
    output = work / case
    command = [sys.executable, "-m", "featherweight", "fit", str(data / name), *flags]
    done = subprocess.run([*command, "--output", str(output), "--json"], check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{case}: exit code {done.returncode}")
    return output


def collect(case: str, run: Path) -> dict[str, Any]:
    """Read what a finished run found; paths of this machine are left out."""
    summary = json.loads((run / "summary.json").read_text())
    summary["run_directory"] = case
    name, *flags = CASES[case]
    environment = json.loads((run / "environment.json").read_text())
    return {
        "command": " ".join(["featherweight fit", name, *flags, "--json"]),
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "summary": summary,
        "verifications": _lines(run / "verifications.jsonl"),
        "candidates": _latest(_lines(run / "candidates.jsonl")),
        "stages": [
            {"stage": line["stage"], "seconds": line["seconds"]}
            for line in _lines(run / "stages.jsonl")
        ],
        "epochs": [{key: line[key] for key in EPOCH_KEYS} for line in _lines(run / "train.jsonl")],
        "measured": [
            {key: line[key] for key in MEASURED_KEYS} for line in _lines(run / "measurements.jsonl")
        ],
    }


EPOCH_KEYS = (
    "network",
    "phase",
    "epoch",
    "images_seen",
    "images_per_s",
    "val_loss",
    "val_accuracy",
    "foreign_cpu_share",
)
MEASURED_KEYS = (
    "network",
    "platform",
    "purpose",
    "median_ms",
    "interval_ms",
    "relative_iqr",
    "disturbed",
    "foreign_cpu_share",
    "started",
)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _latest(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({(line["name"], line["precision"]): line for line in lines}.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", choices=sorted(CASES))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--collect", type=Path, help="read this run directory instead")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for case in options.cases:
        run = options.collect or fit(case, data=options.data, work=options.work)
        path = RESULTS / f"fit_{case}.json"
        path.write_text(json.dumps(collect(case, run), indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
