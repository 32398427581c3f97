"""Kill a fit with kill -9 at random moments, continue it, and look for what was lost or doubled.

    python benchmarks/kills.py --kills 15
    python benchmarks/kills.py --kills 15 --photos ../shared/data/clothing

Runs `featherweight fit` on the bundled digits, or on 500 pictures of a folder of photographs (its
train split). A run is killed, with its worker processes, and continued by the same command until
it ends by itself; then a new one begins, until all kills are done. Every finished run must have
the verdict of an undisturbed one; no stage that was finished may run again; no journal may hold a
record twice or a torn line. Adds its findings to results/kills.json and exits with 1 if any
invariant broke.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "kills.json"
DIGITS = ["demo", "--latency", "0.5ms", "--epochs", "3", "--model", "convnet"]
PHOTOS = ["--latency", "8ms", "--epochs", "1", "--model", "efficientnet_lite0"]
PICTURES = 500
MOMENTS_S = (1.0, 30.0)
_ENVIRONMENT = ("python", "platform", "cpu", "cores", "versions")


def sample_photos(source: Path, to: Path) -> Path:
    """Copy evenly spaced pictures of every class, `PICTURES` in all, as one folder of classes."""
    train = source / "train" if (source / "train").is_dir() else source
    files = sorted(p for p in train.glob("*/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    count = min(PICTURES, len(files))
    for k in range(count):
        file = files[k * len(files) // count]
        folder = to / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.name)
    return to


def start(arguments: list[str], output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "featherweight", "fit", *arguments, "--output", str(output)]
    return subprocess.Popen(
        [*command, "--json"], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def finish(arguments: list[str], output: Path) -> dict[str, Any]:
    """Run to the end and return the summary."""
    process = start(arguments, output)
    text, _ = process.communicate()
    if process.returncode not in (0, 3):
        raise SystemExit(f"exit code {process.returncode} in {output}")
    return dict(json.loads(text))


def stages(output: Path) -> list[str]:
    file = output / "stages.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line)["stage"] for line in lines if line.endswith("}")]


def faults(output: Path, *, finished_before: list[str]) -> list[str]:
    """Return what is wrong with a finished run that was killed."""
    found = []
    done = stages(output)
    if done[: len(finished_before)] != finished_before:
        found.append("a finished stage is gone or changed its place")
    found += [f"stage {name} ran {n} times" for name, n in Counter(done).items() if n > 1]
    for file in sorted(output.glob("*.jsonl")):
        lines = file.read_text().splitlines()
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                found.append(f"{file.name} has a torn line")
        if file.name == "train.jsonl":
            keys = [(r["network"], r["phase"], r["epoch"]) for r in records]
            found += [f"epoch {key} is told {n} times" for key, n in Counter(keys).items() if n > 1]
        elif file.name == "measurements.jsonl":
            texts = Counter(lines)
            found += [f"{file.name} holds a record {n} times" for n in texts.values() if n > 1]
        elif file.name == "verifications.jsonl" and len(records) > 1:
            found.append(f"the test split was read {len(records)} times")
    return found


def kill_often(
    arguments: list[str], work: Path, *, kills: int, seed: int, verdict: str
) -> dict[str, Any]:
    """Kill and continue runs until all kills are done."""
    draw = random.Random(seed)
    moments, broken, runs = [], [], 0
    while len(moments) < kills:
        output = work / f"run-{runs}"
        runs += 1
        before: list[str] = []
        while len(moments) < kills:
            process = start(arguments, output)
            wait_s = draw.uniform(*MOMENTS_S)
            try:
                process.communicate(timeout=wait_s)
                break  # it ended by itself
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            now = stages(output)
            if now[: len(before)] != before:
                broken.append(f"run {runs}: stages {before} became {now}")
            before = now
            moments.append({"run": runs, "after_s": round(wait_s, 1), "stages_done": len(now)})
            print(json.dumps(moments[-1]), flush=True)
        summary = finish(arguments, output)
        broken += [f"run {runs}: {text}" for text in faults(output, finished_before=before)]
        if summary["verdict"] != verdict:
            broken.append(f"run {runs}: {summary['verdict']} instead of {verdict}")
    return {"kills": len(moments), "runs": runs, "broken": broken, "moments": moments}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--photos", type=Path, help="folder of photographs; default: the digits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        arguments = DIGITS
        if options.photos is not None:
            arguments = [str(sample_photos(options.photos, work / "photos")), *PHOTOS]
        started = time.perf_counter()
        whole = finish(arguments, work / "whole")
        whole_s = time.perf_counter() - started
        found = kill_often(
            arguments, work, kills=options.kills, seed=options.seed, verdict=whole["verdict"]
        )
        environment = json.loads((work / "whole" / "environment.json").read_text())
    name = "digits" if options.photos is None else f"{PICTURES} photographs"
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results[name] = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {key: environment[key] for key in _ENVIRONMENT if key in environment},
        "verdict": whole["verdict"],
        "undisturbed_s": round(whole_s, 1),
        **found,
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{name}: {found['kills']} kills in {found['runs']} runs, broken: {found['broken']}")
    raise SystemExit(1 if found["broken"] else 0)


if __name__ == "__main__":
    main()
