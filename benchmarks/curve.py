"""Budgets answered by one finished fit, beside an expert's fine-tuning at equal pictures seen.

    python benchmarks/curve.py RUN --data ../shared/data/clothing --budgets 1.5 2.5 4

Ours: `featherweight fit --from RUN` for every budget; nothing is trained again. The expert trains
once for each budget: EfficientNet-Lite0 as int8 at the largest resolution that measures within it,
fine-tuned the standard way (see expert.py; the learning rate that won there), as many pictures as
the run's winner saw in its last training. Accuracy is that of the file on the whole test split,
with Wilson's 95 % interval. One seed: intervals are those of the test pictures. Writes
results/curve.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from expert import NETWORK, STANDARD
from photographs import about, fine_tune, largest

import featherweight as fw
from featherweight.data.images import load_images
from featherweight.data.metrics import accuracy_interval
from featherweight.networks.pretrained import load_pretrained, read_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.training.pixels import open_store
from featherweight.training.recipe import Recipe, default_recipe

RESULT = Path(__file__).parent / "results" / "curve.json"


def ours(run: Path, budget_ms: float, work: Path) -> dict[str, Any]:
    summary = fw.fit(from_run=run, latency=budget_ms, output=work / f"{budget_ms}").summary
    return {
        "verdict": summary.verdict,
        "network": summary.network,
        "precision": summary.precision,
        "median_ms": None if summary.measured is None else summary.measured.median_ms,
        "utilisation": summary.utilisation,
        "accuracy": None if summary.accuracy is None else summary.accuracy.artifact,
        "interval": None if summary.accuracy is None else summary.accuracy.interval,
        "n": None if summary.accuracy is None else summary.accuracy.n,
    }


def expert(store: Any, budget_ms: float, *, on: str, epochs: int, rate: float) -> dict[str, Any]:
    classes = len(store.data.classes)
    side, medians = largest(
        lambda value: create_architecture(NETWORK, resolution=int(value), classes=classes),
        range(96, 344, 8),
        budget_ms=budget_ms,
        on=on,
    )
    architecture = create_architecture(NETWORK, resolution=int(side), classes=classes)
    count = len(store.data.splits["train"])
    standard = default_recipe(pretrained=True, resolution=int(side), images=count, epochs=1, seed=0)
    recipe = Recipe.model_validate(
        {**standard.model_dump(), **STANDARD, "learning_rate": rate, "epochs": epochs}
    )
    found = fine_tune(
        load_pretrained(architecture, source="auto", seed=0),
        store=store,
        recipe=recipe,
        preprocessing=read_pretrained(architecture, source="auto", seed=0).preprocessing,
        on=on,
    ).found
    right = round(found["test_accuracy_of_the_file"] * found["n"])
    return {
        **found,
        "epochs": epochs,
        "network": f"{NETWORK}:resolution={int(side)}",
        "median_ms": medians[side],
        "utilisation": medians[side] / budget_ms,
        "interval": accuracy_interval(right, found["n"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of a finished fit")
    parser.add_argument("--data", required=True, help="the photographs of that run")
    parser.add_argument("--budgets", type=float, nargs="+", required=True, help="ms")
    parser.add_argument("--on", default="local/onnxruntime:threads=1,precision=int8")
    parser.add_argument("--rate", type=float, default=0.03, help="the expert's learning rate")
    options = parser.parse_args()
    images_seen = json.loads((options.run / "summary.json").read_text())["images_seen"]
    store = open_store(load_images(options.data, seed=0))
    epochs = max(1, round(images_seen / len(store.data.splits["train"])))
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {"budgets": []}
    trained = {  # by the expert, as long as this run asks for: that does not depend on the run
        row["budget_ms"]: row["expert"]
        for row in before["budgets"]
        if row.get("expert", {}).get("epochs") == epochs
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for budget_ms in options.budgets:
            rows.append({"budget_ms": budget_ms, "ours": ours(options.run, budget_ms, Path(work))})
            print(json.dumps(rows[-1]), flush=True)
    for row in rows:
        row["expert"] = trained.get(row["budget_ms"]) or expert(
            store, row["budget_ms"], on=options.on, epochs=epochs, rate=options.rate
        )
        print(json.dumps(row), flush=True)
        found = {
            **about(options.on),
            "images_seen_by_the_run": images_seen,
            "budgets": rows,
        }
        RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
