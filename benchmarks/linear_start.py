"""What a fitted first classifier is worth: the same training with and without it.

    python benchmarks/linear_start.py ../shared/data/clothing --epochs 1
    python benchmarks/linear_start.py ../shared/data/clothing --share 0.2 --epochs 4
    python benchmarks/linear_start.py ../untuned/birds100 --epochs 1 --peak 0.3

EfficientNet-Lite0 with ImageNet weights at 112 pixels, the recipe of `fit`, equal pictures in the
same order; three seeds, which draw parts of the data where a share is asked for. Without: the
classifier as drawn, and the peak of the learning rate that goes with it. With: a logistic
regression on the features of the network for the training pictures (`fitting.linear_start`), and
the lower peak of short trainings. Accuracy is that of the float32 network on the whole test split.
Adds its rows to results/linear_start.json; what the file has is not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from photographs import about, paired_difference, part_of, start_linear

from featherweight.data.images import ImageData, load_images
from featherweight.networks.pretrained import load_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.networks.weight_sources import PRETRAINED
from featherweight.training.evaluate import evaluate_network
from featherweight.training.loop import train_network
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import default_recipe

RESULT = Path(__file__).parent / "results" / "linear_start.json"
NETWORK, PIXELS = "efficientnet_lite0", 112
PREPROCESSING = PRETRAINED[NETWORK].preprocessing


def trained(
    store: PixelStore, *, linear: bool, epochs: int, seed: int, peak: float | None = None
) -> dict[str, Any]:
    """Train once; return accuracies on val and test and what the training started from."""
    classes = len(store.data.classes)
    drawn = create_architecture(NETWORK, resolution=PIXELS, classes=classes, form="standard")
    network = load_pretrained(drawn, source="auto", seed=seed)
    test = store.held_out("test", PIXELS, PREPROCESSING)
    recipe = default_recipe(
        pretrained=True,
        resolution=PIXELS,
        images=len(store.data.splits["train"]),
        epochs=epochs,
        knows_classes=linear,
        seed=seed,
    )
    if peak is not None:
        rate = peak * recipe.learning_rate
        recipe = recipe.model_copy(update={"learning_rate": rate, "least_peak_steps": None})
    with tempfile.TemporaryDirectory() as folder:
        if linear:
            network = start_linear(network, store, PREPROCESSING)
        before = evaluate_network(network, images=test, preprocessing=PREPROCESSING)
        started = time.monotonic()
        result = train_network(
            network,
            train=store.train(PIXELS, PREPROCESSING),
            val=store.held_out("val", PIXELS, PREPROCESSING),
            recipe=recipe,
            preprocessing=PREPROCESSING,
            directory=Path(folder) / "training",
        )
    after = evaluate_network(result.network, images=test, preprocessing=PREPROCESSING)
    return {
        "start": before.accuracy,
        "accuracy": after.accuracy,
        "loss": after.loss,
        "val_accuracy": result.best.val_accuracy,
        "n": len(test),
        "pictures_seen": result.history[-1].images_seen,
        "seconds": time.monotonic() - started,
    }


def parts(data: ImageData, *, share: float, seed: int) -> ImageData:
    return data if share == 1.0 else part_of(data, share=share, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the training pictures")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--peak", type=float, help="of the learning rate, times the full one, whatever the length"
    )
    options = parser.parse_args()
    name = f"{options.data.resolve().name} x {options.share:g}, {options.epochs} epochs"
    name += "" if options.peak is None else f", peak x {options.peak:g}"
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {**about("-"), "tasks": {}}
    rows = found["tasks"].setdefault(name, {"rows": []})["rows"]
    images = load_images(options.data, seed=0)
    for seed in options.seeds:
        store = open_store(parts(images, share=options.share, seed=seed))
        for linear in (False, True):
            if any((row["seed"], row["linear"]) == (seed, linear) for row in rows):
                continue
            row = trained(store, linear=linear, epochs=options.epochs, seed=seed, peak=options.peak)
            rows.append({"seed": seed, "linear": linear, **row})
            print(json.dumps(rows[-1]), flush=True)
            sides = [[r for r in rows if r["linear"] == one] for one in (True, False)]
            if len(sides[0]) == len(sides[1]):
                found["tasks"][name]["difference"] = paired_difference(*sides, key="accuracy")
            RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
