"""Compare our fine-tuning with an expert's at equal pictures seen, on a part of a data set.

    python benchmarks/expert.py --data ../shared/data/clothing --latency 2.5 --share 0.25 --seeds 5

Both ship the same network: EfficientNet-Lite0 as int8 at the largest resolution that measures
within the budget. The expert fine-tunes it the standard way: SGD with Nesterov momentum 0.9,
cosine, random resized crops and flips, label smoothing, the centre crop of the ImageNet protocol;
of four learning rates the one with the lowest val loss on the first seed. Ours is
`default_recipe`, whose last epoch is the int8 end of a fit; both see equally many pictures. Each
seed draws another part of the train split; accuracy is that of the exported file on the whole test
split. Writes results/expert.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from photographs import about, fine_tune, largest, paired_difference, part_of

from featherweight.data.augmentation import Augmentation
from featherweight.data.images import load_images
from featherweight.networks.pretrained import load_pretrained, read_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.training.pixels import open_store
from featherweight.training.recipe import Recipe, default_recipe

RESULT = Path(__file__).parent / "results" / "expert.json"
NETWORK = "efficientnet_lite0"
RATES = (0.003, 0.01, 0.03, 0.1)
STANDARD: dict[str, Any] = {
    "optimizer": "sgd",
    "decay": "cosine",
    "weight_decay": 5e-4,
    "ema_decay": 0.0,
    "backbone_learning_rate_scale": 1.0,
    "keep_norm_statistics": False,
    "mixup": 0.0,
    "cutmix": 0.0,
    "label_smoothing": 0.1,
    "augmentation": Augmentation(flip=True, crop_scale=(0.08, 1.0)).model_dump(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photographs")
    parser.add_argument("--latency", type=float, required=True, help="budget in ms")
    parser.add_argument("--on", default="local/onnxruntime:threads=1,precision=int8")
    parser.add_argument("--share", type=float, default=0.25, help="of the train split")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--ours-only",
        action="store_true",
        help="keep the expert's runs of the result file, if they are of the same task",
    )
    options = parser.parse_args()
    images = load_images(options.data, seed=0)
    side, medians = largest(
        lambda value: create_architecture(NETWORK, resolution=int(value), classes=10),
        range(64, 232, 8),
        budget_ms=options.latency,
        on=options.on,
    )
    resolution = int(side)
    print(f"{NETWORK} at {resolution}: {medians[side]:.3f} ms", flush=True)
    architecture = create_architecture(NETWORK, resolution=resolution, classes=len(images.classes))
    cropped = read_pretrained(architecture, source="auto", seed=0).preprocessing
    whole = cropped.model_copy(update={"crop_fraction": 1.0})
    task = {
        "budget_ms": options.latency,
        "share_of_train": options.share,
        "epochs": options.epochs,
        "network": f"{NETWORK}:resolution={resolution}",
    }
    kept = _kept(task) if options.ours_only else []
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "expert": []}
    rates = list(RATES)
    for seed in range(options.seeds):
        store = open_store(part_of(images, share=options.share, seed=seed))
        ours = default_recipe(
            pretrained=True,
            resolution=resolution,
            images=len(store.data.splits["train"]),
            epochs=options.epochs - 1,
            seed=seed,
        )
        if seed < len(kept):
            runs["expert"].append(kept[seed])
        else:
            tried = [
                fine_tune(
                    load_pretrained(architecture, source="auto", seed=seed),
                    store=store,
                    recipe=Recipe.model_validate(
                        {
                            **ours.model_dump(),
                            **STANDARD,
                            "learning_rate": rate,
                            "epochs": options.epochs,
                        }
                    ),
                    preprocessing=cropped,
                    on=options.on,
                ).found
                for rate in rates
            ]
            best = min(tried, key=lambda one: one["val_loss"])
            rates = [best["learning_rate"]]
            runs["expert"].append({**best, "tried": tried if len(tried) > 1 else None})
        runs["ours"].append(
            fine_tune(
                load_pretrained(architecture, source="auto", seed=seed),
                store=store,
                recipe=ours,
                preprocessing=whole,
                on=options.on,
                finish_epochs=1,
            ).found
        )
        print(json.dumps({name: given[-1] for name, given in runs.items()}), flush=True)
        found = {
            **about(options.on),
            **task,
            "latency_ms": medians,
            "ours_minus_expert": paired_difference(runs["ours"], runs["expert"]),
            "runs": runs,
        }
        RESULT.write_text(json.dumps(found, indent=1) + "\n")


def _kept(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the expert's runs of the result file; they go by epochs, so that no clock matters."""
    before = json.loads(RESULT.read_text())
    if any(before[key] != value for key, value in task.items()):
        raise SystemExit(f"{RESULT.name} is of another task: {[before[key] for key in task]}")
    return [{**one, "collected": before["collected"]} for one in before["runs"]["expert"]]


if __name__ == "__main__":
    main()
