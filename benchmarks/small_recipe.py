"""Train a network on small pictures for equal time with variants of the small-picture recipe.

    python benchmarks/small_recipe.py --data ../shared/data/cifar10 --seconds 150
    python benchmarks/small_recipe.py --data demo --network mobilenet_v2:width=0.5 --seconds 30 \
        --variants "gradients as they are" "gradients of norm 1" --result gradient_norm_demo

Each variant changes some fields of `default_recipe`; all start from the same first weights and
take turns, seed by seed. Accuracy is on val (cut from train); test is not read. Short trainings
say little about long ones. Writes results/small_recipe.json, or that of another name.
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

from featherweight.data.images import ImageData
from featherweight.errors import DivergedError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import build_network
from featherweight.tasks.task import load_data
from featherweight.training.beginning import Length, begin
from featherweight.training.loop import train_network
from featherweight.training.pixels import open_store
from featherweight.training.recipe import Recipe
from featherweight.training.start import suit_to_pictures

RESULTS = Path(__file__).parent / "results"
SGD = {"optimizer": "sgd", "decay": "cosine", "peak_steps": None}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "gradients as they are": {"gradient_norm": None},
    "gradients of norm 1": {"gradient_norm": 1.0},
    "gradients of norm 4": {"gradient_norm": 4.0},
    "SGD, cosine": SGD,
    "half of Muon's rate": {"muon_learning_rate_scale": 0.1},
    "twice Muon's rate": {"muon_learning_rate_scale": 0.4},
    "full augmentation": {"full_strength_epochs": 1},
    "32 pixels from the start": {"low_resolution": None},
}


def train(
    images: ImageData, network_name: str, changes: dict[str, Any], *, seconds: float, seed: int
) -> dict[str, Any]:
    """Return what one training came to."""
    store, preprocessing = open_store(images), Preprocessing()
    drawn = begin(
        network_name,
        images,
        small=store.small,
        pretrained="none",
        taught=False,
        length=Length(None, seconds),
        seed=seed,
    )
    architecture, side = drawn.architecture, drawn.architecture.resolution
    pictures = store.train(side, preprocessing)
    network = suit_to_pictures(
        build_network(architecture, seed=seed), pictures, preprocessing=preprocessing
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = train_network(
                network,
                train=pictures,
                val=store.held_out("val", side, preprocessing),
                recipe=Recipe.model_validate({**drawn.recipe.model_dump(), **changes}),
                preprocessing=preprocessing,
                directory=Path(folder),
            )
        except DivergedError as failure:
            return {"seed": seed, "val_accuracy": None, "diverged": str(failure)}
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
    parser.add_argument("--network", default="convnet")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--result", default="small_recipe")
    options = parser.parse_args()
    images = load_data(options.data, seed=0)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.variants}
    for seed in range(options.seeds):
        for name in options.variants:
            found[name].append(
                train(images, options.network, VARIANTS[name], seconds=options.seconds, seed=seed)
            )
            print(name, json.dumps(found[name][-1]), flush=True)
            told = described(options.network, options.seconds, found)
            (RESULTS / f"{options.result}.json").write_text(json.dumps(told, indent=1) + "\n")


def described(
    network: str, seconds: float, found: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the trainings so far with when and where they ran."""
    return {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "versions": {name: version(name) for name in ("featherweight", "torch", "numpy")},
        "network": network,
        "seconds_each": seconds,
        "variants": {
            name: {"changes": VARIANTS[name], "runs": runs} for name, runs in found.items()
        },
    }


if __name__ == "__main__":
    main()
