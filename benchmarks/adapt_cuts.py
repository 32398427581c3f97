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
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutting import Moment, cut, ended, play_clocks, stages, with_ray
from photographs import about

from featherweight.journal import Journal

RESULT = Path(__file__).parent / "results" / "adapt_cuts.json"
NETWORK = "convnet:width=0.25,resolution=16"
WORDS = ["--latency", "70%", "--method", "netadapt", "--epochs", "2", "--json"]
TRAIN = ["train", "demo", "--model", NETWORK, "--epochs", "6"]


def child(words: list[str]) -> int:
    """Run a command where multiply-adds tell the time and steps are short."""
    play_clocks()
    from featherweight.cli.app import run
    from featherweight.fitting import context
    from featherweight.fitting.policy import DEFAULT_POLICY

    few = replace(DEFAULT_POLICY.adapt, proposals=4, steps=8, tuning_pictures=(96,))
    context.DEFAULT_POLICY = replace(DEFAULT_POLICY, adapt=few)
    return run(words)


def steps(run: Path) -> int:
    path = run / "adapt.jsonl"
    return len(Journal(path).read()) if path.exists() else 0


MOMENTS: dict[str, Moment] = {
    "while the table is measured": lambda run: "tuning-pace" in stages(run),
    "in the first step": lambda run: "table" in stages(run),
    "in the third step": lambda run: steps(run) >= 2,
    "in the training": lambda run: bool(list(run.glob("checkpoints/*-train/checkpoint*"))),
    "in the proof": lambda run: any(name.startswith("train:") for name in stages(run)),
}


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
        ended(__file__, [*TRAIN, "--output", str(folder / "parent")])

        def words(name: str) -> list[str]:
            given = ["adapt", str(folder / "parent"), "demo", *WORDS]
            return [*given, "--output", str(folder / name)]

        whole = outcome(folder / "whole", ended(__file__, words("whole")))
        for number, (name, moment) in enumerate(MOMENTS.items()):
            run = folder / f"cut-{number}"
            alive = cut(__file__, words(run.name), run, moment)
            rows[name] = {"killed": alive, **compared(run, ended(__file__, words(run.name)), whole)}
            print(name, json.dumps(rows[name]), flush=True)
        answer, killed = with_ray(__file__, words("ray"), "run_proposal")
        row = compared(folder / "ray", answer, whole)
        rows["ray, one of two workers killed"] = {"killed": killed, **row}
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
