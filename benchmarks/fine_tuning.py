"""What each part of a short fine-tuning is worth, without the test split.

    python benchmarks/fine_tuning.py ../untuned/grocery --passes 8 --seeds 0 1

EfficientNet-Lite0 with ImageNet weights at 112 pixels, the recipe of `fit` and that recipe with one
part changed at a time (docs/adr/0015-whole-pictures.md, 0019-small-batches.md), at equal pictures.
The last quarter of every class of train, by file name (pictures are taken in a row), and val are
held out together: they judge, and the rest is trained on. Accuracy and loss are those of the
float32 network after the last epoch, also at other sizes than that of its training
(docs/adr/0016-several-sizes.md). Differences are of accuracy, from the recipe of `fit`, paired by
seed. Adds its rows to results/fine_tuning.json; what the file has is not run again. The rows under
`batches of 64` and `means of the last tenth` there are of recipes before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about, paired_difference, split_of, start_linear

from featherweight.data.dataset import ImageData
from featherweight.data.images import load_images
from featherweight.fitting.family import SEEN_SCALES
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import load_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.networks.weight_sources import PRETRAINED
from featherweight.nn.network import Network, resized
from featherweight.training.evaluate import TrainingImages, evaluate_network
from featherweight.training.loop import train_network
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import Recipe, default_recipe

RESULT = Path(__file__).parent / "results" / "fine_tuning.json"
NETWORK, PASSES, EARLY_BLOCKS = "efficientnet_lite0", 8, 6
PIXELS, OTHER_PIXELS = 112, (96, 128)
HELD_OUT = 0.25
PREPROCESSING = PRETRAINED[NETWORK].preprocessing
Changes = Callable[[Recipe], Recipe]


@dataclass(frozen=True)
class Arm:
    """One way to fine-tune.

    Attributes:
        pixels: side of the pictures.
        fitted: whether the classifier starts from a logistic regression.
        whole: whether crops are cut from whole pictures, or from their centre squares.
        preprocessing: how pictures are shown that are not trained on.
        recipe: what is changed of the recipe.
    """

    pixels: int = PIXELS
    fitted: bool = True
    whole: bool = True
    preprocessing: Preprocessing = PREPROCESSING
    recipe: Changes = lambda recipe: recipe


def changed(**values: Any) -> Changes:
    return lambda recipe: recipe.model_copy(update=values)


OF_BEFORE = {"batch_size": 64, "learning_rate": 1e-3, "backbone_learning_rate_scale": 0.5}
ARMS = {
    "as fit does": Arm(),
    "the mean of the last tenth, half the rate": Arm(
        recipe=changed(averaged_share=0.1, ema_decay=0.999, learning_rate=5e-4)
    ),
    "all blocks learn": Arm(recipe=changed(frozen_blocks=0)),
    "nine blocks stay": Arm(recipe=changed(frozen_blocks=9)),
    "batches of 64": Arm(recipe=changed(batch_size=64)),
    "batches of 64, twice the rate for the classifier": Arm(recipe=changed(**OF_BEFORE)),
    "batches of 64, twice the rate for the classifier, one size": Arm(
        recipe=changed(**OF_BEFORE, resolution_scales=())
    ),
    "the mean of the last tenth": Arm(recipe=changed(averaged_share=0.1, ema_decay=0.999)),
    "sizes from 0.76": Arm(recipe=changed(resolution_scales=(0.76, 0.86, 1.0, 1.07, 1.14))),
    "one size": Arm(recipe=changed(resolution_scales=())),
    "one size, 104 pixels": Arm(pixels=104, recipe=changed(resolution_scales=())),
    "one size, 128 pixels": Arm(pixels=128, recipe=changed(resolution_scales=())),
    "classifier drawn": Arm(fitted=False),
    "colours and blending in full": Arm(recipe=changed(full_strength_epochs=1)),
    "crops of the centre square": Arm(whole=False),
    "tested on the whole centre square": Arm(
        preprocessing=PREPROCESSING.model_copy(update={"crop_fraction": 1.0})
    ),
}


def development(images: ImageData) -> ImageData:
    """Return the data with the last quarter of every class of train, and val, as val."""
    train, val = images.splits["train"], images.splits["val"]
    names, kept, out = np.array(train.names), [], []
    for label in range(len(images.classes)):
        rows = np.flatnonzero(train.targets == label)
        rows = rows[np.argsort(names[rows])]
        first = len(rows) - round(HELD_OUT * len(rows))
        kept += rows[:first].tolist()
        out += rows[first:].tolist()
    splits = {
        **images.splits,
        "train": split_of((train, sorted(kept))),
        "val": split_of((train, sorted(out)), (val, range(len(val)))),
    }
    digest = hashlib.sha256(f"{images.fingerprint} {HELD_OUT}".encode()).hexdigest()
    return replace(images, splits=splits, fingerprint=digest)


def pictures(store: PixelStore, arm: Arm) -> TrainingImages:
    """Return what the crops of a training are cut from."""
    train = store.train(arm.pixels, PREPROCESSING)
    if arm.whole:
        return train
    squares = PREPROCESSING.model_copy(update={"crop_fraction": 1.0})
    return store.held_out("train", train.pixels.shape[1], squares)


def judged(network: Network, store: PixelStore, preprocessing: Preprocessing) -> dict[str, float]:
    images = store.held_out("val", network.architecture.resolution, preprocessing)
    found = evaluate_network(network, images=images, preprocessing=preprocessing)
    return {"accuracy": found.accuracy, "loss": found.loss}


def trained(store: PixelStore, arm: Arm, *, passes: int, seed: int) -> dict[str, Any]:
    """Train once; return what came out."""
    train = pictures(store, arm)
    drawn = create_architecture(
        NETWORK, resolution=arm.pixels, classes=len(store.data.classes), form="standard"
    )
    network = load_pretrained(drawn, source="auto", seed=seed)
    if arm.fitted:
        network = start_linear(network, store, PREPROCESSING)
    before = judged(network, store, arm.preprocessing)
    recipe = default_recipe(
        pretrained=True,
        resolution=arm.pixels,
        images=len(train),
        epochs=passes,
        knows_classes=arm.fitted,
        seed=seed,
    ).model_copy(update={"resolution_scales": SEEN_SCALES, "frozen_blocks": EARLY_BLOCKS})
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = train_network(
            network,
            train=train,
            val=store.held_out("val", arm.pixels, arm.preprocessing),
            recipe=arm.recipe(recipe),
            preprocessing=arm.preprocessing,
            directory=Path(folder),
        )
    last, seconds = result.history[-1], time.monotonic() - started
    return {
        "start": before,
        "accuracy": last.val_accuracy,
        "loss": last.val_loss,
        "epochs": [[one.val_accuracy, one.val_loss] for one in result.history],
        "elsewhere": {
            str(pixels): judged(resized(result.network, pixels), store, arm.preprocessing)
            for pixels in OTHER_PIXELS
        },
        "pictures_seen": last.images_seen,
        "n": len(store.data.splits["val"]),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    options = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {**about("-"), "data": {}}
    name = f"{options.data.resolve().name}, {options.passes} passes"
    task = found["data"].setdefault(name, {"rows": [], "differences": {}})
    store = open_store(development(load_images(options.data, seed=0)))
    for seed in options.seeds:
        for arm in options.arms:
            if any((row["seed"], row["arm"]) == (seed, arm) for row in task["rows"]):
                continue
            row = trained(store, ARMS[arm], passes=options.passes, seed=seed)
            task["rows"].append({"arm": arm, "seed": seed, **row})
            print(json.dumps(task["rows"][-1]), flush=True)
            for other in ARMS:
                sides = [
                    [r for r in task["rows"] if r["arm"] == one]
                    for one in (other, next(iter(ARMS)))
                ]
                if len(sides[0]) == len(sides[1]) > 0:
                    task["differences"][other] = paired_difference(*sides, key="accuracy")
            RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
