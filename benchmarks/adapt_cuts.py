"""Cut `adapt` at five moments with kill -9 and continue it; kill one of two workers of Ray.

    python benchmarks/adapt_cuts.py

NetAdapt on the bundled digits, from a small network trained once. So that no clock chooses, times
come from the multiply-adds of the files (`tests/fakes.py`), and steps have few pictures. Every run
that was cut and continued must have the lines of adapt.jsonl, the choices and the accuracy of the
run that was not, none lost and none twice; so must a run whose proposals went to two workers of
Ray, one of which was killed while it tuned one. Writes results/adapt_cuts.json; exit code 1 where
something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from photographs import about

from featherweight.journal import Journal

RESULT = Path(__file__).parent / "results" / "adapt_cuts.json"
NETWORK = "convnet:width=0.25,resolution=16"
WORDS = ["--latency", "70%", "--method", "netadapt", "--epochs", "2", "--json"]
TRAIN = ["train", "demo", "--model", NETWORK, "--epochs", "6"]
STILL_S = 0.3
"""From the moment to the kill: it hits the middle of what was begun."""


def child(words: list[str]) -> int:
    """Run a command where multiply-adds tell the time and steps are short."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from fakes import PlayedDevice

    from featherweight.cli.app import run
    from featherweight.fitting import context
    from featherweight.fitting.policy import DEFAULT_POLICY
    from featherweight.measuring import latency

    class FineDevice(PlayedDevice):
        fixed_ms = 0.001

    latency.answer_of_device = FineDevice()
    few = replace(DEFAULT_POLICY.adapt, proposals=4, steps=8, tuning_pictures=(96,))
    context.DEFAULT_POLICY = replace(DEFAULT_POLICY, adapt=few)
    return run(words)


def begun(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", *words]
    return subprocess.Popen(
        command, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(words: list[str]) -> dict[str, Any]:
    """Run to the end; return its answer."""
    process = begun(words)
    printed, log = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {log[-2000:]}")
    return dict(json.loads(printed)) if printed.strip().startswith("{") else {}


def stages(run: Path) -> list[str]:
    path = run / "stages.jsonl"
    return [line["stage"] for line in Journal(path).read()] if path.exists() else []


def steps(run: Path) -> int:
    path = run / "adapt.jsonl"
    return len(Journal(path).read()) if path.exists() else 0


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "while the table is measured": lambda run: "tuning-pace" in stages(run),
    "in the first step": lambda run: "table" in stages(run),
    "in the third step": lambda run: steps(run) >= 2,
    "in the training": lambda run: bool(list(run.glob("checkpoints/*-train/checkpoint*"))),
    "in the proof": lambda run: any(name.startswith("train:") for name in stages(run)),
}


def cut(words: list[str], run: Path, moment: Callable[[Path], bool]) -> bool:
    """Start a run and kill it at a moment; return whether it was still running then."""
    process = begun(words)
    while not moment(run):
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    time.sleep(STILL_S)
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def with_ray(words: list[str]) -> tuple[dict[str, Any], int]:
    """Run with two workers of Ray and kill one while it tunes; return the answer and the kills."""
    process, killed = begun([*words, "--workers", "ray"]), 0
    while process.poll() is None:
        if not killed:
            killed = kill_one()
        time.sleep(0.05)
    printed, log = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {log[-2000:]}")
    return json.loads(printed), killed


def kill_one() -> int:
    """Kill the first worker of Ray that tunes a proposal; return how many were killed."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if status.read_bytes().startswith(b"ray::run_proposal"):
                os.kill(int(status.parent.name), signal.SIGKILL)
                return 1
    return 0


def outcome(run: Path, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs must agree in."""
    return {
        "steps": Journal(run / "adapt.jsonl").read(),
        "stages": sorted(stages(run)),
        "final": {key: answer["final"][key] for key in ("latency_ms", "accuracy")},
        "verdict": answer["verdict"],
    }


def compared(run: Path, answer: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    found = outcome(run, answer)
    lines = [line["number"] for line in found["steps"]]
    return {
        "lines": len(lines),
        "lines_lost_or_doubled": lines != list(range(1, len(lines) + 1)),
        "stages_twice": len(found["stages"]) - len(set(found["stages"])),
        "same_groups": chosen(found) == chosen(whole),
        "same_lines": found["steps"] == whole["steps"],
        "same_accuracy": found["final"] == whole["final"],
    }


def chosen(found: dict[str, Any]) -> list[Any]:
    return [step["change"] for step in found["steps"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.child is not None:
        return child(options.child)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ended([*TRAIN, "--output", str(folder / "parent")])

        def words(name: str) -> list[str]:
            given = ["adapt", str(folder / "parent"), "demo", *WORDS]
            return [*given, "--output", str(folder / name)]

        whole = outcome(folder / "whole", ended(words("whole")))
        for number, (name, moment) in enumerate(MOMENTS.items()):
            run = folder / f"cut-{number}"
            alive = cut(words(run.name), run, moment)
            rows[name] = {"killed": alive, **compared(run, ended(words(run.name)), whole)}
            print(name, json.dumps(rows[name]), flush=True)
        answer, killed = with_ray(words("ray"))
        row = compared(folder / "ray", answer, whole)
        rows["ray, one of two workers killed"] = {"killed": bool(killed), **row}
        print(json.dumps(rows["ray, one of two workers killed"]), flush=True)
    broken = [
        name
        for name, row in rows.items()
        if not (row["killed"] and row["same_groups"])
        or row["lines_lost_or_doubled"]
        or row["stages_twice"]
        or (not row["same_accuracy"] and "ray" not in name)
    ]
    RESULT.write_text(json.dumps({**about("-"), "broken": broken, "runs": rows}, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
