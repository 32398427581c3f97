"""EfficientNet-Lite0, fine-tuned once on a quarter of some photographs: where comparisons start."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from photographs import part_of, split_of, start_linear
from smaller import peak_mib

from featherweight.data.images import ImageData, load_images
from featherweight.fitting.family import SEEN_SCALES
from featherweight.fitting.fine_tuning import early_blocks
from featherweight.networks.pretrained import load_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.networks.storage import save_network
from featherweight.networks.weight_sources import PRETRAINED
from featherweight.nn.network import Network
from featherweight.training.loop import TrainingResult, train_network
from featherweight.training.pixels import open_store
from featherweight.training.recipe import default_recipe

__all__ = ["NETWORK", "PREPROCESSING", "fine_tuned", "parent_of", "photographs"]

NETWORK = "efficientnet_lite0"
PREPROCESSING = PRETRAINED[NETWORK].preprocessing


def photographs(path: str) -> ImageData:
    """Return a quarter of train, val, and test with half of what the quarter leaves."""
    images = load_images(path, seed=0)
    quarter = part_of(images, share=0.25, seed=0)
    used = set(quarter.splits["train"].names)
    train, test = images.splits["train"], images.splits["test"]
    left = [row for row, name in enumerate(train.names) if name not in used][::2]
    larger = split_of((test, range(len(test))), (train, left))
    return replace(quarter, splits={**quarter.splits, "test": larger})


def parent_of(images: ImageData, work: Path, *, pixels: int, passes: int) -> dict[str, Any]:
    """Fine-tune the parent once; return what it took."""
    found = work / "parent.json"
    if found.exists():
        return dict(json.loads(found.read_text()))
    drawn = create_architecture(NETWORK, resolution=pixels, classes=len(images.classes))
    started = time.monotonic()
    network = load_pretrained(drawn, source="auto", seed=0)
    network = start_linear(network, open_store(images), PREPROCESSING)
    result = fine_tuned(
        network, images, work / "parent-training", passes=passes, frozen=early_blocks(drawn)
    )
    save_network(
        result.network, work / "parent", preprocessing=PREPROCESSING, classes=images.classes
    )
    row = {
        "seconds": time.monotonic() - started,
        "val_accuracy": result.best.val_accuracy,
        "images_seen": result.history[-1].images_seen,
        "peak_mib": peak_mib(),
    }
    found.write_text(json.dumps(row))
    return row


def fine_tuned(
    network: Network, images: ImageData, directory: Path, *, passes: int, frozen: int
) -> TrainingResult:
    """Fine-tune the parent with so many first blocks frozen."""
    store, pixels = open_store(images), network.architecture.resolution
    recipe = default_recipe(
        pretrained=True,
        resolution=pixels,
        images=len(images.splits["train"]),
        epochs=passes,
        knows_classes=True,
    )
    return train_network(
        network,
        train=store.train(pixels, PREPROCESSING),
        val=store.held_out("val", pixels, PREPROCESSING),
        recipe=recipe.model_copy(
            update={"resolution_scales": SEEN_SCALES, "frozen_blocks": frozen}
        ),
        preprocessing=PREPROCESSING,
        directory=directory,
    )
