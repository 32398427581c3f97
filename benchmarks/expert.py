"""Compare our fine-tuning with an expert's at equal pictures seen, on a part of a data set.

    python benchmarks/expert.py --data ../shared/data/clothing --latency 2.5 --share 0.25 --seeds 5

Both ship the same network: EfficientNet-Lite0 as int8 at the largest resolution that measures
within the budget. The expert fine-tunes it the standard way: SGD with Nesterov momentum 0.9,
cosine, random resized crops and flips, label smoothing, the centre crop of the ImageNet protocol;
of three learning rates the one with the lowest val loss on the first seed. Ours is
`default_recipe`. Each seed draws another part of the train split; accuracy is that of the exported
file on the whole test split. Writes results/expert.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform as host
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from featherweight.data.augmentation import Augmentation
from featherweight.data.images import ImageData, ImageSplit, load_images
from featherweight.exporting.export import export_network
from featherweight.exporting.verify import verify_artifact
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measure import export_drawn
from featherweight.measuring.platform import parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import load_pretrained, read_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.training.classify import train_classifier
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import Recipe, default_recipe

RESULT = Path(__file__).parent / "results" / "expert.json"
NETWORK = "efficientnet_lite0"
RATES = (0.003, 0.01, 0.03)
STANDARD: dict[str, Any] = {
    "optimizer": "sgd", "decay": "cosine", "weight_decay": 5e-4, "ema_decay": 0.0,
    "backbone_learning_rate_scale": 1.0, "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.1,
    "augmentation": Augmentation(flip=True, crop_scale=(0.08, 1.0)).model_dump(),
}  # fmt: skip


def part_of(images: ImageData, *, share: float, seed: int) -> ImageData:
    """Return the data with a stratified part of its train split."""
    train = images.splits["train"]
    generator = np.random.default_rng([seed, 4])
    kept: list[int] = []
    for label in range(len(images.classes)):
        rows = generator.permutation(np.flatnonzero(train.labels == label))
        kept += rows[: max(2, round(share * len(rows)))].tolist()
    kept.sort()
    part = ImageSplit(
        paths_or_bytes=[train.paths_or_bytes[k] for k in kept],
        labels=train.labels[kept],
        names=tuple(train.names[k] for k in kept),
        inspections=tuple(train.inspections[k] for k in kept),
    )
    digest = hashlib.sha256(f"{images.fingerprint} {kept}".encode()).hexdigest()
    return replace(images, splits={**images.splits, "train": part}, fingerprint=digest)


def largest_resolution(budget_ms: float, *, on: str) -> tuple[int, dict[int, float]]:
    """Return the largest resolution whose median is within the budget, and all medians in ms."""
    platform = parse_platform(on)
    sides = list(range(64, 232, 8))
    with tempfile.TemporaryDirectory() as folder:
        files = [
            export_drawn(
                create_architecture(NETWORK, resolution=side, classes=10),
                platform=platform, out=Path(folder) / str(side),
            )
            for side in sides
        ]  # fmt: skip
        measured = measure_artifacts(
            files, platform=platform, names=[str(side) for side in sides], samples=100,
            max_s_each=3.0, repeat_disturbed=False,
        )  # fmt: skip
    medians = {side: one.median_ms for side, one in zip(sides, measured, strict=True)}
    return max(side for side in sides if medians[side] <= budget_ms), medians


def train(
    store: PixelStore, recipe: Recipe, *, resolution: int, preprocessing: Preprocessing, on: str
) -> dict[str, Any]:
    """Fine-tune, export and check the file on the test split."""
    platform, classes = parse_platform(on), store.data.classes
    architecture = create_architecture(NETWORK, resolution=resolution, classes=len(classes))
    with tempfile.TemporaryDirectory() as folder:
        result = train_classifier(
            load_pretrained(architecture, source="auto", seed=recipe.seed),
            train=store.train(resolution, preprocessing),
            val=store.held_out("val", resolution, preprocessing),
            recipe=recipe, preprocessing=preprocessing, directory=Path(folder) / "training",
        )  # fmt: skip
        artifact = export_network(
            result.network, runtime=platform.runtime, precision=platform.precision,
            out=Path(folder) / "artifact", preprocessing=preprocessing, labels=classes,
            calibration=store.calibration(resolution, preprocessing, seed=recipe.seed),
        )  # fmt: skip
        test = store.held_out("test", resolution, preprocessing)
        checked = verify_artifact(
            artifact, result.network, images=test.pixels, labels=test.labels, split="test"
        )
    return {
        "seed": recipe.seed,
        "learning_rate": recipe.learning_rate,
        "images_seen": result.history[-1].images_seen,
        "seconds": result.seconds,
        "val_loss": result.best.val_loss,
        "val_accuracy": result.best.val_accuracy,
        "test_accuracy_of_the_file": checked.accuracy,
        "n": checked.n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photographs")
    parser.add_argument("--latency", type=float, required=True, help="budget in ms")
    parser.add_argument("--on", default="local/onnxruntime:threads=1,precision=int8")
    parser.add_argument("--share", type=float, default=0.25, help="of the train split")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    images = load_images(options.data, seed=0)
    resolution, medians = largest_resolution(options.latency, on=options.on)
    print(f"{NETWORK} at {resolution}: {medians[resolution]:.3f} ms", flush=True)
    architecture = create_architecture(NETWORK, resolution=resolution, classes=len(images.classes))
    cropped = read_pretrained(architecture, source="auto", seed=0).preprocessing
    whole = cropped.model_copy(update={"crop_fraction": 1.0})
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "expert": []}
    rates = list(RATES)
    for seed in range(options.seeds):
        store = open_store(part_of(images, share=options.share, seed=seed))
        ours = default_recipe(
            pretrained=True, resolution=resolution, images=len(store.data.splits["train"]),
            epochs=options.epochs, seed=seed,
        )  # fmt: skip
        tried = [
            train(
                store,
                Recipe.model_validate({**ours.model_dump(), **STANDARD, "learning_rate": rate}),
                resolution=resolution, preprocessing=cropped, on=options.on,
            )
            for rate in rates
        ]  # fmt: skip
        best = min(tried, key=lambda one: one["val_loss"])
        rates = [best["learning_rate"]]
        runs["expert"].append({**best, "tried": tried if len(tried) > 1 else None})
        runs["ours"].append(
            train(store, ours, resolution=resolution, preprocessing=whole, on=options.on)
        )
        print(json.dumps({name: given[-1] for name, given in runs.items()}), flush=True)
        write(runs, options, resolution=resolution, medians=medians)


def difference(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return ours minus the expert's, paired by seed, with Student's 95 % interval."""
    values = [
        one["test_accuracy_of_the_file"] - other["test_accuracy_of_the_file"]
        for one, other in zip(runs["ours"], runs["expert"], strict=True)
    ]
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return {"mean": mean, "interval": None, "seeds": count}
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5)
    return {"mean": mean, "interval": (mean - half, mean + half), "seeds": count}


def write(
    runs: dict[str, list[dict[str, Any]]],
    options: argparse.Namespace,
    *,
    resolution: int,
    medians: dict[int, float],
) -> None:
    """Write the trainings so far with when and where they ran."""
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": host.platform(),
        "versions": {
            name: version(name) for name in ("featherweight", "torch", "onnxruntime", "numpy")
        },
        "budget_ms": options.latency,
        "on": options.on,
        "share_of_train": options.share,
        "epochs": options.epochs,
        "network": f"{NETWORK}:resolution={resolution}",
        "latency_ms": medians,
        "ours_minus_expert": difference(runs),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
