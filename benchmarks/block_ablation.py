"""Why an inverted residual is as it is: linear or ReLU bottleneck, expansion 1 or 6, on CIFAR-10.

    python benchmarks/block_ablation.py --data ../shared/data/cifar10

Trains one small network of inverted residuals in four variants for the same number of pictures,
with paired seeds (same order, same augmentation), and reports test accuracy per seed and the mean
paired differences with their 95 % intervals (t, two-sided). Writes results/block_ablation.json.

Source of the claims: MobileNetV2, arXiv 1801.04381, section 6.2 and figure 6 (a): a ReLU after
the bottleneck loses accuracy; section 3.3: the block is an expansion, not a bottleneck.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy import stats
from torch import nn

from featherweight.architecture import Architecture, BlockSpec
from featherweight.data.images import load_images
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile
from featherweight.training.evaluate import TrainingImages, evaluate_network
from featherweight.training.loop import train_network
from featherweight.training.pixels import open_store
from featherweight.training.recipe import default_recipe

RESULT = Path(__file__).parent / "results" / "block_ablation.json"
RESOLUTION = 16
PREPROCESSING = Preprocessing()
ROWS = ((16, 1), (24, 2), (24, 1), (24, 1), (32, 2), (32, 1), (32, 1))
"""Output channels and stride of each block."""
VARIANTS = {
    "linear, expansion 6": (6, False),
    "ReLU, expansion 6": (6, True),
    "linear, expansion 1": (1, False),
}


def network(expansion: int, *, relu: bool, seed: int) -> Network:
    """Build the small network; with `relu` a ReLU follows every bottleneck (before the skip)."""
    channels = 16
    blocks = [BlockSpec(op="conv", out_channels=channels, activation="relu6")]
    for out_channels, stride in ROWS:
        blocks.append(
            BlockSpec(
                op="inverted_residual",
                out_channels=out_channels,
                stride=stride,
                hidden_channels=expansion * channels,
                activation="relu6",
                skip="identity" if stride == 1 and channels == out_channels else "none",
            )
        )
        channels = out_channels
    blocks.append(BlockSpec(op="conv", out_channels=192, kernel_size=1, activation="relu6"))
    architecture = Architecture(
        name=f"expansion {expansion}",
        input_shape=(3, RESOLUTION, RESOLUTION),
        blocks=tuple(blocks),
        num_classes=10,
    )
    built = build_network(architecture, seed=seed)
    return with_relu(built) if relu else built


def with_relu(built: Network) -> Network:
    """Let a ReLU6 follow the bottleneck of every block."""
    for index in range(1, 1 + len(ROWS)):
        bottleneck = built.get_submodule(f"blocks.{index}.project")
        if not bottleneck._forward_hooks:
            bottleneck.register_forward_hook(
                lambda _module, _inputs, output: nn.functional.relu6(output)
            )
    return built


def read_data(source: Path, *, train_images: int) -> dict[str, TrainingImages]:
    """Return the splits at the network's resolution, of train every n-th picture."""
    store = open_store(load_images(source))
    splits = {name: store.held_out(name, RESOLUTION, PREPROCESSING) for name in ("val", "test")}
    whole = store.held_out("train", RESOLUTION, PREPROCESSING)
    step = max(1, len(whole) // train_images)
    splits["train"] = TrainingImages(whole.pixels[::step], whole.targets[::step])
    return splits


def accuracy(variant: str, data: dict[str, TrainingImages], *, seed: int, epochs: int) -> float:
    """Train one variant with one seed and return its test accuracy."""
    expansion, relu = VARIANTS[variant]
    recipe = default_recipe(
        pretrained=False, resolution=RESOLUTION, images=len(data["train"]), epochs=epochs, seed=seed
    )
    built = network(expansion, relu=relu, seed=seed)
    with tempfile.TemporaryDirectory() as directory:
        trained = train_network(
            built,
            train=data["train"],
            val=data["val"],
            recipe=recipe,
            preprocessing=PREPROCESSING,
            directory=Path(directory),
        )
    final = trained.network if not relu else with_relu(trained.network)
    found = evaluate_network(final, images=data["test"], preprocessing=PREPROCESSING)
    return float(found.accuracy)


def difference(first: list[float], second: list[float]) -> dict[str, Any]:
    """Return the mean paired difference with its 95 % interval."""
    low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    return {"mean": statistics.mean(pairs), "interval": [low, high], "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CIFAR-10 folder")
    parser.add_argument("--images", type=int, default=10_000, help="of the training split")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = read_data(options.data, train_images=options.images)
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for seed in range(options.seeds):
        for name in VARIANTS:
            found[name].append(accuracy(name, data, seed=seed, epochs=options.epochs))
            print(f"seed {seed}: {name}: {found[name][-1]:.4f}", flush=True)
    first = "linear, expansion 6"
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("featherweight", "torch")},
        "images": len(data["train"]),
        "epochs": options.epochs,
        "resolution": RESOLUTION,
        "test_images": len(data["test"]),
        "macs": {
            name: profile(network(expansion, relu=relu, seed=0).architecture).macs
            for name, (expansion, relu) in VARIANTS.items()
        },
        "accuracy": found,
        "difference": {
            f"{first} - {name}": difference(found[first], found[name])
            for name in VARIANTS
            if name != first
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["difference"], indent=1))


if __name__ == "__main__":
    main()
