"""How fast the training loop is, beside the loop of timm's training script on the same network.

    python benchmarks/training_speed.py --data ../shared/data/cifar10 --rounds 5
    python benchmarks/training_speed.py --data ../shared/data/cifar10 --accuracy --target 0.8

timm's wheel has no train.py to import; its loop is repeated here from timm's own parts: dataset
of encoded pictures decoded by PIL every time, `create_loader` with worker processes and the
prefetcher, `create_optimizer_v2`, label smoothing, no gradient scaler. Variants: as it is
(contiguous float32), with channels_last, and with channels_last and bfloat16. Every loop trains
featherweight's own Network from the same first weights, with the same batch size, and keeps its
own default augmentation. With --accuracy each loop is a whole training with its own recipe, ours
with the first weights that featherweight derives from the pictures. Rounds are interleaved in one
process. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import timm
import torch
from PIL import Image
from timm.data import create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn

from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import resolve_architecture
from featherweight.nn.network import Network, build_network
from featherweight.training.evaluate import TrainingImages, evaluate_network
from featherweight.training.loop import train_network
from featherweight.training.recipe import Recipe, default_recipe
from featherweight.training.speed import StepTimer, choose_compute
from featherweight.training.start import suit_to_pictures

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
PREPROCESSING = Preprocessing(mean=MEAN, std=STD)
TIMM_VARIANTS = {
    "timm": (torch.contiguous_format, torch.float32),
    "timm_channels_last": (torch.channels_last, torch.float32),
    "timm_channels_last_bf16": (torch.channels_last, torch.bfloat16),
}
Segment = Callable[[float], float]
"""(seconds) -> images per second over about that long."""


class EncodedPictures(torch.utils.data.Dataset):
    """Pictures as files hold them; timm's loader sets `transform` and decodes at every access."""

    def __init__(self, encoded: list[bytes], labels: np.ndarray) -> None:
        self.encoded, self.labels, self.transform = encoded, labels, None

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = Image.open(io.BytesIO(self.encoded[index])).convert("RGB")
        changed = picture if self.transform is None else self.transform(picture)
        return changed, int(self.labels[index])


def read_split(folder: Path, split: str, limit: int | None) -> tuple[list[bytes], np.ndarray]:
    """Return encoded pictures and labels of a Parquet file in Hugging Face's image layout."""
    table = parquet.read_table(folder / f"{split}.parquet", columns=["image", "label"])
    order = np.random.default_rng(0).permutation(len(table))[:limit]
    table = table.take(order)
    encoded = [row["bytes"] for row in table["image"].to_pylist()]
    return encoded, np.array(table["label"].to_pylist(), dtype=np.int64)


def decode(encoded: list[bytes], labels: np.ndarray) -> TrainingImages:
    pixels = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded]
    return TrainingImages(np.stack(pixels), labels)


class TimmLoop:
    """The inner loop of timm's train.py, one variant of it."""

    def __init__(
        self, network: Network, data: EncodedPictures, *, variant: str, options: argparse.Namespace
    ) -> None:
        self.memory_format, self.dtype = TIMM_VARIANTS[variant]
        self.network = network.to(memory_format=self.memory_format)
        self.loader = create_loader(
            data,
            input_size=(3, options.resolution, options.resolution),
            batch_size=options.batch_size,
            is_training=True,
            mean=MEAN,
            std=STD,
            num_workers=options.workers,
            device=torch.device("cpu"),
            use_prefetcher=True,
        )
        self.loss = LabelSmoothingCrossEntropy(0.1)
        self.optimizer = create_optimizer_v2(
            network, opt="sgd", lr=0.1 * options.batch_size / 256, weight_decay=2e-5, momentum=0.9
        )
        self.batches = self._forever()

    def _forever(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from self.loader

    def step(self, pixels: torch.Tensor, labels: torch.Tensor) -> float:
        """Take one optimizer step and return its loss."""
        self.network.train()
        pixels = pixels.contiguous(memory_format=self.memory_format)
        cast = (
            torch.autocast("cpu", dtype=torch.bfloat16)
            if self.dtype == torch.bfloat16
            else contextlib.nullcontext()
        )
        with cast:
            loss = self.loss(self.network(pixels), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def segment(self, seconds: float) -> float:
        """Train for about that long and return images per second."""
        return timed(self._one, seconds)

    def _one(self) -> int:
        pixels, labels = next(self.batches)
        self.step(pixels, labels)
        return len(labels)


def timed(step: Callable[[], int], seconds: float) -> float:
    """Repeat a step for about `seconds` (at least twice); return images per second."""
    images, steps, start = 0, 0, time.perf_counter()
    while steps < 2 or time.perf_counter() - start < seconds:
        images, steps = images + step(), steps + 1
    return images / (time.perf_counter() - start)


def own_loop(
    network: Network, train: TrainingImages, recipe: Recipe
) -> tuple[Segment, dict[str, Any]]:
    """Return our loop's segment and what it chose to compute in."""
    probe = StepTimer(network, train, recipe, PREPROCESSING, None)
    choice = choose_compute(probe, device=torch.device("cpu"))
    learner = probe.learner(choice.compute)
    generator = torch.Generator().manual_seed(0)

    def rows() -> Iterator[np.ndarray]:
        while True:
            order = torch.randperm(len(train), generator=generator).numpy()
            for start in range(0, len(order) - recipe.batch_size + 1, recipe.batch_size):
                yield order[start : start + recipe.batch_size]

    batches = rows()

    def step() -> int:
        chosen = next(batches)
        learner.step(
            train.batch(chosen),
            size=network.architecture.resolution,
            frozen=False,
            learning_rate=recipe.learning_rate,
            generator=generator,
        ).item()
        return len(chosen)

    speed = {
        "memory_format": choice.compute.memory_format,
        "dtype": choice.compute.dtype,
        "images_per_s": choice.images_per_s,
    }
    return (lambda seconds: timed(step, seconds)), speed


def compare_speed(options: argparse.Namespace) -> dict[str, Any]:
    encoded, labels = read_split(options.data, "train", options.images)
    train = decode(encoded, labels)
    recipe = own_recipe(options, images=len(train))
    segment, chosen = own_loop(new_network(options), train, recipe)
    loops: dict[str, Segment] = {"featherweight": segment}
    for name in TIMM_VARIANTS:
        data = EncodedPictures(encoded, labels)
        loops[name] = TimmLoop(new_network(options), data, variant=name, options=options).segment
    found: dict[str, list[float]] = {name: [] for name in loops}
    for name in loops:  # worker processes start, kernels are chosen
        loops[name](0.0)
    names = list(loops)
    for turn in range(options.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(loops[name](options.seconds))
    result = {name: summary(values) for name, values in found.items()}
    ours = found["featherweight"]
    ratios = {
        name: summary([a / b for a, b in zip(ours, found[name], strict=True)])
        for name in TIMM_VARIANTS
    }
    return {"chosen": chosen, "images_per_s": result, "featherweight_over": ratios}


def compare_accuracy(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds until a fixed accuracy on the test pictures, ours and the faster of timm's."""
    encoded, labels = read_split(options.data, "train", options.images)
    test = decode(*read_split(options.data, "test", None))
    speeds = {
        name: TimmLoop(
            new_network(options), EncodedPictures(encoded, labels), variant=name, options=options
        ).segment(options.seconds)
        for name in TIMM_VARIANTS
    }
    better = max(speeds, key=speeds.__getitem__)
    runs: dict[str, list[dict[str, Any]]] = {"featherweight": [], better: []}
    for seed in range(options.rounds):
        options.seed = seed
        runs["featherweight"].append(own_training(encoded, labels, test, options))
        runs[better].append(timm_training(encoded, labels, test, better, options))
    return {
        "target": options.target,
        "epochs": options.epochs,
        "timm_images_per_s": speeds,
        "runs": runs,
    }


def own_training(
    encoded: list[bytes], labels: np.ndarray, test: TrainingImages, options: argparse.Namespace
) -> dict[str, Any]:
    start = time.perf_counter()
    train = decode(encoded, labels)  # once, and part of the time
    curve: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        network = suit_to_pictures(new_network(options), train, preprocessing=PREPROCESSING)
        train_network(
            network,
            train=train,
            val=test,
            recipe=own_recipe(options, images=len(train)),
            preprocessing=PREPROCESSING,
            directory=Path(folder),
            device="cpu",
            progress=lambda epoch: curve.append((time.perf_counter() - start, epoch.val_accuracy)),
        )
    return reached(curve, options.target)


def timm_training(
    encoded: list[bytes],
    labels: np.ndarray,
    test: TrainingImages,
    variant: str,
    options: argparse.Namespace,
) -> dict[str, Any]:
    torch.manual_seed(options.seed)
    start = time.perf_counter()
    loop = TimmLoop(
        new_network(options), EncodedPictures(encoded, labels), variant=variant, options=options
    )
    schedule, _ = create_scheduler_v2(loop.optimizer, sched="cosine", num_epochs=options.epochs)
    curve = []
    for epoch in range(options.epochs):
        for pixels, target in loop.loader:
            loop.step(pixels, target)
        schedule.step(epoch + 1)
        answer = evaluate_network(
            loop.network, images=test, preprocessing=PREPROCESSING, device="cpu"
        )
        curve.append((time.perf_counter() - start, answer.accuracy))
    return reached(curve, options.target)


def reached(curve: list[tuple[float, float]], target: float) -> dict[str, Any]:
    seconds = next((at_s for at_s, accuracy in curve if accuracy >= target), None)
    return {"seconds_to_target": seconds, "final_accuracy": curve[-1][1], "curve": curve}


def own_recipe(options: argparse.Namespace, *, images: int) -> Recipe:
    recipe = default_recipe(
        pretrained=False,
        resolution=options.resolution,
        images=images,
        epochs=options.epochs,
        seed=options.seed,
    )
    rate = recipe.learning_rate * options.batch_size / recipe.batch_size
    return recipe.model_copy(update={"batch_size": options.batch_size, "learning_rate": rate})


def new_network(options: argparse.Namespace) -> Network:
    separator = "," if ":" in options.model else ":"
    text = f"{options.model}{separator}resolution={options.resolution},classes=10"
    network = build_network(resolve_architecture(text), seed=options.seed)
    assert isinstance(network, nn.Module)
    return network


def summary(values: list[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "rounds": values,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet")
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=None, help="use only so many")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="per loop and round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workers", type=int, default=2, help="of timm's loader")
    parser.add_argument("--accuracy", action="store_true", help="time to a fixed accuracy")
    parser.add_argument("--target", type=float, default=0.8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {key: str(v) if isinstance(v, Path) else v for key, v in vars(options).items()}
    load = os.getloadavg()
    found = compare_accuracy(options) if options.accuracy else compare_speed(options)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "numpy": np.__version__,
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "load_before": load,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "settings": settings,
    }
    print(json.dumps({**about, **found}, indent=1))


if __name__ == "__main__":
    main()
