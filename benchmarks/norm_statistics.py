"""Compare fine-tuning with norms that keep the statistics of ImageNet and with norms that move.

    python benchmarks/norm_statistics.py --data ../shared/data

EfficientNet-Lite0 with ImageNet weights, `default_recipe`, equal pictures: a quarter of the
clothing photographs at 128 pixels, 4 % of CIFAR-10 enlarged to 64 pixels, and scikit-learn's grey
digits, enlarged likewise, which look least like ImageNet. Each seed draws another part of the
train split. Accuracy and loss are the network's on val (at most 1,000 pictures), its best epoch's.
Writes results/norm_statistics.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from photographs import about, paired_difference, part_of

from featherweight.data.images import load_images
from featherweight.networks.pretrained import load_pretrained, read_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.training.classify import TrainingImages, train_classifier
from featherweight.training.pixels import PixelStore
from featherweight.training.recipe import default_recipe

RESULT = Path(__file__).parent / "results" / "norm_statistics.json"
NETWORK = "efficientnet_lite0"
MOST_VAL = 1000


class Case(NamedTuple):
    """Pictures and how they are learnt."""

    data: str
    share: float
    resolution: int
    epochs: int
    flip: bool


CASES = {
    "clothing": Case("clothing", 0.25, 128, 6, flip=True),
    "cifar10": Case("cifar10", 0.04, 64, 4, flip=True),
    "digits": Case("demo", 1.0, 64, 4, flip=False),
}


def compare(case: Case, *, data: Path, seed: int, cache: Path) -> dict[str, dict[str, Any]]:
    """Train once with each kind of norms; return what came out of both."""
    name = case.data if case.data == "demo" else str(data / case.data)
    images = part_of(load_images(name, seed=0), share=case.share, seed=seed)
    store = PixelStore(images, small=False, directory=cache)
    architecture = create_architecture(
        NETWORK, resolution=case.resolution, classes=len(images.classes)
    )
    preprocessing = read_pretrained(architecture, source="auto", seed=0).preprocessing
    preprocessing = preprocessing.model_copy(update={"crop_fraction": 1.0})
    train = store.train(case.resolution, preprocessing)
    val = store.held_out("val", case.resolution, preprocessing)
    rows = np.linspace(0, len(val) - 1, min(len(val), MOST_VAL)).astype(np.int64)
    val = TrainingImages(val.pixels[rows], val.labels[rows])
    found = {}
    for kind in ("kept", "moving"):
        # As photographs, whatever their size: small pictures are otherwise not fine-tuned.
        recipe = default_recipe(
            pretrained=True, resolution=224, images=len(train), epochs=case.epochs, seed=seed,
            whole=kind == "kept",
        )  # fmt: skip
        augmentation = recipe.augmentation.model_copy(update={"flip": case.flip})
        with tempfile.TemporaryDirectory() as folder:
            result = train_classifier(
                load_pretrained(architecture, source="auto", seed=seed),
                train=train, val=val, preprocessing=preprocessing, directory=Path(folder),
                recipe=recipe.model_copy(update={"augmentation": augmentation}),
            )  # fmt: skip
        found[kind] = {
            "seed": seed,
            "images_seen": result.history[-1].images_seen,
            "val_accuracy": result.best.val_accuracy,
            "val_loss": result.best.val_loss,
            "epochs": [(one.val_loss, one.val_accuracy) for one in result.history],
            "n": len(val),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cases: dict[str, Any] = {}
    for name, case in CASES.items():
        runs: dict[str, list[dict[str, Any]]] = {"kept": [], "moving": []}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as cache:
                found = compare(case, data=options.data, seed=seed, cache=Path(cache))
            for kind, one in found.items():
                runs[kind].append(one)
            print(name, json.dumps(found), flush=True)
        cases[name] = {
            **case._asdict(),
            "kept_minus_moving": paired_difference(
                runs["kept"], runs["moving"], key="val_accuracy"
            ),
            "runs": runs,
        }
        RESULT.write_text(
            json.dumps({**about("torch"), "network": NETWORK, "cases": cases}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
