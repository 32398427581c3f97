"""fit on annotated pictures: how good is the file that ships, after a time, within a budget.

    python benchmarks/detector_fit.py ../shared/data/bccd --latency 60ms --time 35m --work ../best

Runs the command as a user does, and goes on with a run that was cut. Writes the answer with the
average precision of each class to results/fit_NAME.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from photographs import about

import featherweight as fw
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import read_artifact
from featherweight.tasks.task import TASKS, load_data
from featherweight.training.pixels import open_store

RESULTS = Path(__file__).parent / "results"
ON = "local/onnxruntime:threads=1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--latency", required=True)
    parser.add_argument("--time", required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    found = fw.fit(
        options.data, latency=options.latency, time=options.time, on=ON, output=options.work
    )
    assert found.artifact is not None
    artifact = read_artifact(found.artifact)
    images = load_data(options.data, quiet=True)
    test = open_store(images).held_out("test", artifact.input_shape[0], artifact.preprocessing)
    answers = load_answers(artifact)(test.pixels)
    details = TASKS[images.task].details(answers, test.targets, classes=len(images.classes))
    summary = found.summary.model_dump(mode="json")
    told = {
        **about(ON),
        "latency": options.latency,
        "time": options.time,
        "classes": images.classes,
        "per_class": details["per_class"],
        "summary": {key: summary[key] for key in summary if key not in ("curve", "run_directory")},
    }
    path = RESULTS / f"fit_{images.name}.json"
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told["summary"], indent=1))


if __name__ == "__main__":
    main()
