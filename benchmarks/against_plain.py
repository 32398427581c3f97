"""A fit against the plain script in the same time, and how well a fit keeps its time.

    python benchmarks/against_plain.py versus ../untuned/birds100
    python benchmarks/against_plain.py versus ../shared/data/clothing --seeds 0 --disturbed-seeds 0
    python benchmarks/against_plain.py overrun ../untuned/birds100 --times 60s 2m 4m

`versus`: for every seed `featherweight fit DATA --latency 3ms --time 8m --json` and benchmarks/
plain.py with the same budget and time, one after the other, the fit first for even seeds. Every fit
begins without anything kept from an earlier one (its own FEATHERWEIGHT_HOME and run directory).
Disturbed: a busy loop is pinned to every core meanwhile. `overrun`: fits alone, once quiet and once
disturbed for every time; a time that fit refuses up front is kept, and marked as refused.

Seconds are the wall clock of the whole process. The training share is what the stages of training
took (of fit: those with epochs in train.jsonl; races are told apart) of the time given. The foreign
share is what other processes, the busy loops among them, used of the machine. Accuracy is that of
the exported file on the whole test split, with Wilson's interval; that of a fit is checked with the
bundle it ships, after the clock. The difference is paired by seed and has two intervals: over seeds
(Student), and over test pictures, each the mean over seeds of what one side gets right and the
other not. Writes results/plain_NAME.json, or results/overrun_NAME.json, after every run; what the
file has already is not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from photographs import about, paired_difference

from featherweight.budget import parse_duration_s, parse_latency_ms

HERE = Path(__file__).parent
BUSY = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""
ENDED = (0, 3)  # exit codes of a fit that answered
REFUSED = 2  # of one that says up front how much time it needs


# --------------------------------------------------------------------------------- the machine


@contextlib.contextmanager
def machine(condition: str) -> Iterator[None]:
    """Keep every core busy for a while, if the condition says so."""
    cores = sorted(os.sched_getaffinity(0)) if condition == "disturbed" else []
    loops = [subprocess.Popen([sys.executable, "-c", BUSY, str(core)]) for core in cores]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def cpu_seconds() -> tuple[float, float]:
    """Return the processor time that was used, and that there was, since the machine began."""
    line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    ticks = [int(value) for value in line.split()[1:9]]
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[3] - ticks[4]) * tick_s, sum(ticks) * tick_s


def own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else "unknown"


def observed(command: list[str], environment: dict[str, str]) -> tuple[int, str, dict[str, Any]]:
    """Run a command; return its exit code, its standard output and what it took."""
    before, own_before, started = cpu_seconds(), own_seconds(), time.monotonic()
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=False
    )
    wall_s, own_s, after = time.monotonic() - started, own_seconds() - own_before, cpu_seconds()
    there_s = max(after[1] - before[1], 1e-9)
    seen = {
        "wall_s": round(wall_s, 2),
        "foreign_cpu_share": round(max(0.0, after[0] - before[0] - own_s) / there_s, 4),
    }
    return done.returncode, done.stdout, seen


# --------------------------------------------------------------------------------- the two sides


def fit(data: Path, *, latency: str, given: str, seed: int) -> dict[str, Any]:
    """Fit once from nothing and return what the run directory says."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        code, text, seen = observed(
            [
                sys.executable,
                "-m",
                "featherweight",
                "fit",
                str(data),
                "--latency",
                latency,
                "--time",
                given,
                "--seed",
                str(seed),
                "--json",
                "--output",
                str(run),
            ],
            {"FEATHERWEIGHT_HOME": str(Path(folder) / "home")},
        )
        if code == REFUSED and "is too short" in text:
            return {"exit_code": code, **seen, "verdict": "refused"}
        if code not in ENDED:
            return {"exit_code": code, **seen, "error": text[-400:]}
        summary = json.loads(text)
        stages = [
            {"stage": line["stage"], "seconds": round(line["seconds"], 1)}
            for line in lines_of(run / "stages.jsonl")
        ]
        epochs = lines_of(run / "train.jsonl") if (run / "train.jsonl").exists() else []
        right = bundle_answers(run, summary, data)
    time_s = parse_duration_s(given)
    accuracy = summary.get("accuracy") or {}
    seen_by: dict[tuple[str, str], int] = {}
    for epoch in epochs:
        key = epoch["network"], epoch["phase"]
        seen_by[key] = max(seen_by.get(key, 0), epoch["images_seen"])
    phases = {phase for _, phase in seen_by}
    races = {phase for phase in phases if phase.startswith("race")}
    return {
        "exit_code": code,
        "verdict": summary["verdict"],
        "accuracy": accuracy.get("artifact"),
        "interval": accuracy.get("interval"),
        "n": accuracy.get("n"),
        "network": f"{summary.get('network')}, {summary.get('precision')}",
        "median_ms": (summary.get("measured") or {}).get("median_ms"),
        "utilisation": summary.get("utilisation"),
        "pictures_seen": summary.get("images_seen"),
        "pictures_seen_by_all": sum(seen_by.values()),
        **seen,
        "overrun_s": round(seen["wall_s"] - time_s, 2),
        "training_share": share_of(stages, phases - races, time_s),
        "race_share": share_of(stages, races, time_s),
        "stages": stages,
        "accuracy_of_the_bundle": None if right is None else sum(right) / len(right),
        "right": None if right is None else f"{int(''.join('01'[one] for one in right), 2):x}",
    }


def bundle_answers(run: Path, summary: dict[str, Any], data: Path) -> list[bool] | None:
    """Return which test pictures the shipped bundle gets right, in the order of plain.py."""
    if summary.get("bundle") is None:
        return None
    files = sorted((data / "test").glob("*/*"), key=lambda path: (path.parent.name, path.name))
    done = subprocess.run(
        [
            sys.executable,
            str(run / summary["bundle"] / "run.py"),
            "--json",
            "--top",
            "1",
            "--threads",
            str(os.cpu_count()),
            *map(str, files),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return None
    answers = {one["image"]: one["label"] for one in json.loads(done.stdout)}
    return [answers[str(file)] == file.parent.name for file in files]


def share_of(stages: list[dict[str, Any]], phases: set[str], time_s: float) -> float:
    """Return the share of the time that the stages of some phases took."""
    names = [(line["stage"].partition(":")[0], line["seconds"]) for line in stages]
    return round(sum(seconds for name, seconds in names if name in phases) / time_s, 4)


def plain(data: Path, *, latency: str, given: str, seed: int) -> dict[str, Any]:
    """Run the plain script once."""
    time_s = parse_duration_s(given)
    code, text, seen = observed(
        [
            sys.executable,
            "-W",
            "ignore",
            str(HERE / "plain.py"),
            str(data),
            "--latency",
            str(parse_latency_ms(latency)),
            "--time",
            str(time_s),
            "--seed",
            str(seed),
        ],
        {},
    )
    if code != 0:
        return {"exit_code": code, **seen, "error": text[-400:]}
    found = {"exit_code": code, **json.loads(text), **seen}
    return found | {"overrun_s": round(seen["wall_s"] - time_s, 2)}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


SIDES = {"fit": fit, "plain": plain}


# --------------------------------------------------------------------------------- the results


def about_all(task: dict[str, Any]) -> dict[str, Any]:
    found = about("local/onnxruntime:threads=1")
    found["versions"] |= {name: version(name) for name in ("timm", "torchvision", "onnx")}
    return found | {"processor": processor()} | task


def opened(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Return what a result file has, if it is of the same task."""
    if not path.exists():
        return about_all(task) | {"runs": []}
    found = json.loads(path.read_text(encoding="utf-8"))
    if differing := [key for key, value in task.items() if found.get(key) != value]:
        raise SystemExit(f"{path.name} is of another {differing[0]}: move it away first")
    failed = [run for run in found["runs"] if "error" in run]
    found["runs"] = [run for run in found["runs"] if run not in failed]  # they are run again
    return dict(found)


def keep(path: Path, found: dict[str, Any], run: dict[str, Any]) -> None:
    """Add a run and write the file whole."""
    of = {key: about("-")[key] for key in ("collected", "code")}
    found["runs"].append({**of, **run})
    found["differences"] = differences(found["runs"])
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    short = {key: value for key, value in run.items() if key not in ("stages", "interval", "right")}
    print(json.dumps(short), flush=True)


def differences(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return fit minus plain for each condition, over the seeds that both have."""
    found = {}
    for condition in ("quiet", "disturbed"):
        sides = {
            side: {
                run["seed"]: run
                for run in runs
                if (run["side"], run["condition"]) == (side, condition)
                and run.get("accuracy") is not None
            }
            for side in SIDES
        }
        seeds = sorted(set(sides["fit"]) & set(sides["plain"]))
        if not seeds:
            continue
        ours, others = ([sides[side][seed] for seed in seeds] for side in ("fit", "plain"))
        found[condition] = paired_difference(ours, others, key="accuracy")
        if all(run.get("right") for run in ours):
            each = np.mean(
                [bits(one) - bits(other) for one, other in zip(ours, others, strict=True)], axis=0
            )
            half = 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5
            middle = float(each.mean())
            found[condition]["interval_of_pictures"] = (middle - half, middle + half)
    return found


def bits(run: dict[str, Any]) -> NDArray[np.float64]:
    """Return 1 for every test picture that was right and 0 for the others."""
    return np.array([float(bit) for bit in f"{int(run['right'], 16):0{run['n']}b}"])


def versus(options: argparse.Namespace, path: Path) -> None:
    """Run both sides for all seeds and conditions that the file lacks."""
    task = {"data": options.name, "latency": options.latency, "time": options.time}
    found = opened(path, task)
    wanted = [("quiet", seed) for seed in options.seeds]
    wanted += [("disturbed", seed) for seed in options.disturbed_seeds]
    done = {(run["side"], run["condition"], run["seed"]) for run in found["runs"]}
    for condition, seed in wanted:
        for side in ("fit", "plain") if seed % 2 == 0 else ("plain", "fit"):
            if (side, condition, seed) in done:
                continue
            with machine(condition):
                run = SIDES[side](
                    options.data, latency=options.latency, given=options.time, seed=seed
                )
            keep(path, found, {"side": side, "condition": condition, "seed": seed, **run})
    print(json.dumps(found["differences"], indent=1))


def overrun(options: argparse.Namespace, path: Path) -> None:
    """Run the fits of all times and conditions that the file lacks."""
    found = opened(path, {"data": options.name, "latency": options.latency})
    done = {(run["time"], run["condition"]) for run in found["runs"]}
    for given in options.times:
        for condition in options.conditions:
            if (given, condition) in done:
                continue
            with machine(condition):
                run = fit(options.data, latency=options.latency, given=given, seed=0)
            allowed_s = 0.1 * parse_duration_s(given) + 5.0
            kept = run["wall_s"] <= parse_duration_s(given) + allowed_s and "error" not in run
            head = {"side": "fit", "time": given, "condition": condition, "seed": 0, "kept": kept}
            keep(path, found, {**head, **run})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("versus", "overrun"))
    parser.add_argument("data", type=Path, help="folder with class folders in train and test")
    parser.add_argument("--latency", default="3ms")
    parser.add_argument("--time", default="8m", help="of versus")
    parser.add_argument("--times", nargs="+", default=["60s", "2m", "4m"], help="of overrun")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="quiet")
    parser.add_argument("--disturbed-seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument(
        "--conditions",
        nargs="+",
        choices=("quiet", "disturbed"),
        default=["quiet", "disturbed"],
        help="of overrun",
    )
    parser.add_argument("--name", help="of the result file; default: the folder's name")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.name = options.name or options.data.resolve().name
    if options.what == "versus":
        versus(options, options.results / f"plain_{options.name}.json")
    else:
        overrun(options, options.results / f"overrun_{options.name}.json")


if __name__ == "__main__":
    main()
