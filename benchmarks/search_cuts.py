"""Cut `search` at ten moments with kill -9 and continue it; kill one of two workers of Ray.

    python benchmarks/search_cuts.py

Twelve trials of a small space on the bundled digits. So that no clock chooses, times come from the
multiply-adds of the files, and trainings compute in one form. Every run that was cut and continued
must have the trials of the run that was not: the same networks, states, accuracies and rewards,
none lost and none twice, in trials.jsonl and in the database; so must a run whose trials went to
two workers of Ray, one of which was killed while it trained. Writes results/search_cuts.json; exit
code 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import optuna
from cutting import Moment, cut, ended, play_clocks, stages, with_ray
from photographs import about

from featherweight.journal import Journal

RESULT = Path(__file__).parent / "results" / "search_cuts.json"
SPACE = """
name: mine
stem_channels: [8]
stem_stride: 1
stages:
  - {op: [conv, mbconv3], out_channels: [8, 16], repeats: [1, 2], stride: 2}
  - {op: [conv, separable], out_channels: [16, 24, 32], repeats: [1, 2], stride: 2}
head_channels: [0, 64]
"""
TRIALS = 12
WORDS = ["--latency", "0.02ms", "--trials", str(TRIALS), "--epochs", "10", "--json"]


def child(words: list[str]) -> int:
    """Run a command where no clock chooses."""
    play_clocks()
    from featherweight.cli.app import run

    return run(words)


def trials(run: Path) -> int:
    path = run / "trials.jsonl"
    return len(Journal(path).read()) if path.exists() else 0


def trainings(run: Path) -> int:
    return len(list(run.glob("checkpoints/*-trial/checkpoint*")))


MOMENTS: dict[str, Moment] = {
    "while the first networks are timed": lambda run: "study" in stages(run),
    "in the first trial": lambda run: trainings(run) >= 1,
    "in the third trial": lambda run: trainings(run) >= 3,
    "in the fifth trial": lambda run: trainings(run) >= 5,
    "after the first five": lambda run: trials(run) >= 5,
    "in the seventh trial": lambda run: trainings(run) >= 7,
    "in the tenth trial": lambda run: trainings(run) >= 10,
    "in the last trial": lambda run: trainings(run) >= TRIALS,
    "in a last training": lambda run: bool(list(run.glob("checkpoints/*-train/checkpoint*"))),
    "in the proof": lambda run: sum(one.startswith("train:") for one in stages(run)) >= 3,
}


def outcome(run: Path, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs must agree in."""
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run}/study.db")
    return {
        "trials": Journal(run / "trials.jsonl").read(),
        "database": [(one.number, one.state.name, one.params, one.value) for one in study.trials],
        "stages": sorted(stages(run)),
        "best": {key: answer["best"][key] for key in ("trial", "accuracy", "latency_ms")},
        "verdict": answer["verdict"],
    }


def compared(run: Path, answer: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    found = outcome(run, answer)
    numbers = [line["trial"] for line in found["trials"]]
    return {
        "trials": len(numbers),
        "lost_or_doubled": numbers != list(range(len(numbers))),
        "stages_twice": len(found["stages"]) - len(set(found["stages"])),
        "same_networks": networks(found) == networks(whole),
        "same_lines": found["trials"] == whole["trials"],
        "same_database": found["database"] == whole["database"],
        "same_best": found["best"] == whole["best"],
    }


def networks(found: dict[str, Any]) -> list[Any]:
    return [(line["network"], line["state"]) for line in found["trials"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.child is not None:
        return child(options.child)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "mine.yaml").write_text(SPACE)

        def words(name: str) -> list[str]:
            given = ["search", "demo", "--space", str(folder / "mine.yaml"), *WORDS]
            return [*given, "--output", str(folder / name)]

        whole = outcome(folder / "whole", ended(__file__, words("whole")))
        for number, (name, moment) in enumerate(MOMENTS.items()):
            run = folder / f"cut-{number}"
            alive = cut(__file__, words(run.name), run, moment)
            answer = ended(__file__, words(run.name))
            rows[name] = {"killed": alive, **compared(run, answer, whole)}
            print(name, json.dumps(rows[name]), flush=True)
        answer, killed = with_ray(__file__, words("ray"), "run_job")
        rows["ray, one of two workers killed"] = {
            "killed": killed,
            **compared(folder / "ray", answer, whole),
        }
        print(json.dumps(rows["ray, one of two workers killed"]), flush=True)
    broken = [
        name
        for name, row in rows.items()
        if not (row["killed"] and row["same_networks"])
        or row["lost_or_doubled"]
        or row["stages_twice"]
        or not (row["same_lines"] and row["same_best"])
        or (not row["same_database"] and "ray" not in name)
    ]
    RESULT.write_text(json.dumps({**about("-"), "broken": broken, "runs": rows}, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
