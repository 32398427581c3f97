"""Compare fine-tuning with norms that keep the statistics of ImageNet and with norms that move.

    python benchmarks/norm_statistics.py --data ../shared/data

EfficientNet-Lite0 with ImageNet weights, `default_recipe`, equal pictures: a quarter of the
clothing photographs at 128 pixels, 4 % of CIFAR-10 enlarged to 64 pixels, and scikit-learn's grey
digits, enlarged likewise, which look least like ImageNet. Each seed draws another part of the
train split. Accuracy and loss are the network's on val (at most 1,000 pictures), its best epoch's.
On the first of them also: what a linear classifier on ImageNet features gets right before any
training, with ImageNet's statistics and with those of 256 training pictures; and the network with
0.7 of its hidden channels, its statistics carried over the cut (and kept), taken anew (and moving),
or left as they were (and kept). Writes results/norm_statistics.json; `--only` redoes one part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from photographs import about, paired_difference, part_of

from featherweight.adapting.groups import Narrow, apply, width_groups
from featherweight.architecture import Architecture
from featherweight.data.augmentation import normalise_batch
from featherweight.data.images import load_images
from featherweight.fitting.leave_one_out import leave_one_out
from featherweight.networks.norms import with_carried_norms
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import load_pretrained, read_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.networks.slicing import recalibrate_norms
from featherweight.nn.network import Network
from featherweight.training.evaluate import TrainingImages
from featherweight.training.loop import train_network
from featherweight.training.pixels import PixelStore
from featherweight.training.recipe import default_recipe

RESULT = Path(__file__).parent / "results" / "norm_statistics.json"
NETWORK = "efficientnet_lite0"
MOST_VAL = 1000
SHARE = 0.7
"""Of the hidden channels, of the thinner form."""


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


class Task(NamedTuple):
    """The pictures of one case and seed, with what the network expects of them."""

    case: Case
    seed: int
    store: PixelStore
    preprocessing: Preprocessing
    train: TrainingImages
    val: TrainingImages

    @property
    def start(self) -> Network:
        """The network with ImageNet weights."""
        return load_pretrained(_architecture(self.case, self.store), source="auto", seed=self.seed)

    def learn(self, network: Network, *, kept: bool) -> dict[str, Any]:
        """Fine-tune a network; return what came out."""
        # As photographs, whatever their size: small pictures are otherwise not fine-tuned.
        recipe = default_recipe(
            pretrained=True,
            resolution=224,
            images=len(self.train),
            epochs=self.case.epochs,
            whole=kept,
            seed=self.seed,
        )
        augmentation = recipe.augmentation.model_copy(update={"flip": self.case.flip})
        with tempfile.TemporaryDirectory() as folder:
            result = train_network(
                network,
                train=self.train,
                val=self.val,
                preprocessing=self.preprocessing,
                recipe=recipe.model_copy(update={"augmentation": augmentation}),
                directory=Path(folder),
            )
        return {
            "seed": self.seed,
            "images_seen": result.history[-1].images_seen,
            "val_accuracy": result.best.val_accuracy,
            "val_loss": result.best.val_loss,
            "epochs": [(one.val_loss, one.val_accuracy) for one in result.history],
            "n": len(self.val),
        }

    def batches(self, count: int) -> list[torch.Tensor]:
        """Return evenly spaced training pictures, normalised, in four batches of all classes."""
        images = self.store.held_out("train", self.case.resolution, self.preprocessing)
        rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
        mean, std = self.preprocessing.mean, self.preprocessing.std
        return [
            normalise_batch(images.batch(rows[k::4]).pixels, mean=mean, std=std) for k in range(4)
        ]


def open_task(case: Case, *, data: Path, seed: int, cache: Path) -> Task:
    """Draw the part of the data of one seed."""
    name = case.data if case.data == "demo" else str(data / case.data)
    images = part_of(load_images(name, seed=0), share=case.share, seed=seed)
    store = PixelStore(images, small=False, directory=cache)
    preprocessing = read_pretrained(_architecture(case, store), source="auto", seed=0).preprocessing
    preprocessing = preprocessing.model_copy(update={"crop_fraction": 1.0})
    val = store.held_out("val", case.resolution, preprocessing)
    rows = np.linspace(0, len(val) - 1, min(len(val), MOST_VAL)).astype(np.int64)
    return Task(
        case,
        seed,
        store,
        preprocessing,
        store.train(case.resolution, preprocessing),
        TrainingImages(val.pixels[rows], val.targets[rows]),
    )


def _architecture(case: Case, store: PixelStore) -> Architecture:
    return create_architecture(NETWORK, resolution=case.resolution, classes=len(store.data.classes))


def whole(task: Task) -> dict[str, dict[str, Any]]:
    """Fine-tune the network with each kind of norms."""
    return {kind: task.learn(task.start, kept=kind == "kept") for kind in ("kept", "moving")}


def linear(task: Task) -> dict[str, dict[str, Any]]:
    """Return what a linear classifier gets right, leave-one-out, on features of each kind."""
    images = task.store.held_out("train", task.case.resolution, task.preprocessing)
    found = {}
    for kind in ("imagenet", "anew"):
        network = task.start
        if kind == "anew":
            recalibrate_norms(network, task.batches(256))
        features = []
        with torch.no_grad():
            for first in range(0, len(images), 32):
                pixels = images.batch(slice(first, first + 32)).pixels
                inputs = normalise_batch(
                    pixels, mean=task.preprocessing.mean, std=task.preprocessing.std
                )
                features.append(network.forward_features(inputs).numpy())
        one_hot = np.eye(len(task.store.data.classes))[images.targets]
        answers = leave_one_out(np.concatenate(features), one_hot).answers
        accuracy = float((answers.argmax(axis=1) == images.targets).mean())
        found[kind] = {"seed": task.seed, "accuracy": accuracy, "n": len(images)}
    return found


def shrunk(task: Task) -> dict[str, dict[str, Any]]:
    """Fine-tune a thinner form of the network with each kind of first statistics."""
    changes = [
        Narrow(group=group.name, channels=max(8, int(SHARE * group.channels) // 8 * 8))
        for group in width_groups(task.start.architecture)
    ]

    def cut(network: Network) -> Network:
        return apply(network, changes, name="shrunk")

    anew = cut(task.start)
    recalibrate_norms(anew, task.batches(256))
    carried = with_carried_norms(task.start, cut, torch.cat(task.batches(128)))
    return {
        "carried": task.learn(carried, kept=True),
        "anew": task.learn(anew, kept=False),
        "stale": task.learn(cut(task.start), kept=True),
    }


class Part(NamedTuple):
    """One comparison: of which case, how, and the two kinds whose difference is stated."""

    case: str
    compare: Callable[[Task], dict[str, dict[str, Any]]]
    kinds: tuple[str, str]
    key: str = "val_accuracy"


PARTS = {
    **{name: Part(name, whole, ("kept", "moving")) for name in CASES},
    "linear": Part("clothing", linear, ("imagenet", "anew"), key="accuracy"),
    "shrunk": Part("clothing", shrunk, ("carried", "anew")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    options = parser.parse_args()
    parts = json.loads(RESULT.read_text())["parts"] if RESULT.exists() else {}
    for name in options.only:
        part, runs = PARTS[name], {}
        case = CASES[part.case]
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as cache:
                task = open_task(case, data=options.data, seed=seed, cache=Path(cache))
                found = part.compare(task)
            for kind, one in found.items():
                runs.setdefault(kind, []).append(one)
            print(name, json.dumps(found), flush=True)
        first, second = part.kinds
        parts[name] = {
            **about("torch"),
            "network": NETWORK,
            **case._asdict(),
            f"{first}_minus_{second}": paired_difference(runs[first], runs[second], key=part.key),
            "runs": runs,
        }
        RESULT.write_text(json.dumps({"parts": parts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
