"""Train the plain network on CIFAR-10 for equal time with variants of the small-picture recipe.

    python benchmarks/small_recipe.py --data ../shared/data/cifar10 --seconds 150

Each variant changes some fields of `default_recipe`; all start from the same first weights and
take turns, seed by seed. Accuracy is on val (cut from train); test is not read. Short trainings
say little about long ones. Writes results/small_recipe.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from featherweight.data.images import ImageData, load_images
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import build_network
from featherweight.training.loop import train_network
from featherweight.training.pixels import open_store
from featherweight.training.recipe import Recipe, default_recipe
from featherweight.training.start import suit_to_pictures

RESULT = Path(__file__).parent / "results" / "small_recipe.json"
SGD = {"optimizer": "sgd", "decay": "cosine", "peak_steps": None}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "SGD, cosine": SGD,
    "half of Muon's rate": {"muon_learning_rate_scale": 0.1},
    "twice Muon's rate": {"muon_learning_rate_scale": 0.4},
    "full augmentation": {"full_strength_epochs": 1},
    "32 pixels from the start": {"low_resolution": None},
}


def train(
    images: ImageData, changes: dict[str, Any], *, seconds: float, seed: int
) -> dict[str, Any]:
    """Return what one training came to."""
    store, preprocessing = open_store(images), Preprocessing()
    pictures = store.train(32, preprocessing)
    architecture = create_architecture("convnet", resolution=32, classes=len(images.classes))
    recipe = default_recipe(
        pretrained=False, resolution=32, images=len(pictures), time_s=seconds, seed=seed
    )
    network = suit_to_pictures(
        build_network(architecture, seed=seed), pictures, preprocessing=preprocessing
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train_network(
            network,
            train=pictures,
            val=store.held_out("val", 32, preprocessing),
            recipe=Recipe.model_validate({**recipe.model_dump(), **changes}),
            preprocessing=preprocessing,
            directory=Path(folder),
        )
    last = result.history[-1]
    return {
        "seed": seed,
        "val_accuracy": result.best.val_accuracy,
        "val_loss": result.best.val_loss,
        "train_loss": last.train_loss,
        "images_seen": last.images_seen,
        "seconds": result.seconds,
        "foreign_cpu_share": last.foreign_cpu_share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10, a folder or a Parquet file")
    parser.add_argument("--seconds", type=float, default=150.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    images = load_images(options.data, seed=0)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in range(options.seeds):
        for name, changes in VARIANTS.items():
            found[name].append(train(images, changes, seconds=options.seconds, seed=seed))
            print(name, json.dumps(found[name][-1]), flush=True)
            RESULT.write_text(json.dumps(described(options.seconds, found), indent=1) + "\n")


def described(seconds: float, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the trainings so far with when and where they ran."""
    return {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "versions": {name: version(name) for name in ("featherweight", "torch", "numpy")},
        "network": "convnet:width=1,resolution=32",
        "seconds_each": seconds,
        "variants": {
            name: {"changes": VARIANTS[name], "runs": runs} for name, runs in found.items()
        },
    }


if __name__ == "__main__":
    main()
