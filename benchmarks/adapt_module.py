"""A small module of one's own, trained plainly, then `adapt` to 60 % of its milliseconds.

    python benchmarks/adapt_module.py --work ../adapt-module

Ten layers with residual sums, the bundled digits at 32 pixels, six passes of AdamW; three minutes.
Beside what ships: of what each way made, the accuracy on val as it was cut, and after the ten steps
of its short tuning with gradients as long as they are and with those of norm 1, and the longest of
them. Writes results/adapt_module.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import about
from torch import Tensor, nn

import featherweight as fw
from featherweight.adapting import proposals
from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.proposals import judged, tune_briefly
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import load_network
from featherweight.tasks.task import load_data
from featherweight.training.pixels import PixelStore, open_store

RESULT = Path(__file__).parent / "results" / "adapt_module.json"
SIDE, PASSES, TUNING = 32, 6, 320
PREPROCESSING = Preprocessing()


class Residual(nn.Module):
    """Two convolutions, the first twice as wide, and a sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = unit(channels, 2 * channels)
        self.narrow = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what is added to it."""
        return torch.relu(x + self.narrow(self.wide(x)))


def unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def trained(store: PixelStore) -> nn.Module:
    """Return the module after a plain training."""
    torch.manual_seed(0)
    network = nn.Sequential(
        unit(3, 32), Residual(32), Residual(32), unit(32, 64, stride=2), Residual(64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    pictures = pictures_of(store, "train")
    for _ in range(PASSES):
        for images, targets in pictures.batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), targets).backward()
            optimizer.step()
    return network.eval()


def pictures_of(store: PixelStore, split: str) -> PictureSet:
    """Return the pictures of a split as the module takes them."""
    return PictureSet.of(store.held_out(split, SIDE, PREPROCESSING), PREPROCESSING, seed=0)


def tuned(folder: Path, tuning: PictureSet, val: PictureSet, *, bound: float) -> dict[str, float]:
    """Return the accuracy on val after the short tuning, and the longest gradient."""
    network = load_network(folder).network
    lengths: list[float] = []
    clip = nn.utils.clip_grad_norm_

    def noted(parameters: Any, _: float) -> Tensor:
        lengths.append(float(clip(parameters, bound)))
        return torch.tensor(lengths[-1])

    proposals.torch.nn.utils.clip_grad_norm_ = noted  # type: ignore[assignment]
    try:
        tune_briefly(network, tuning)
    finally:
        proposals.torch.nn.utils.clip_grad_norm_ = clip
    return {"accuracy": judged(network, val).score, "longest": float(np.nanmax(lengths))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    store = open_store(load_data("demo", seed=0))
    found = fw.adapt(
        trained(store),
        "demo",
        latency="60%",
        resolution=SIDE,
        time="3m",
        output=options.work,
    )
    tuning, val = pictures_of(store, "train").part(0, TUNING), pictures_of(store, "val")
    ways = []
    for folder in sorted((options.work / "networks").iterdir()):
        way = folder.name.rpartition("-")[2]
        if way in {"width", "knapsack", "depth", "netadapt"}:
            ways.append(
                {
                    "way": way,
                    "as_cut": judged(load_network(folder).network, val).score,
                    "unbounded": tuned(folder, tuning, val, bound=math.inf),
                    "norm_1": tuned(folder, tuning, val, bound=1.0),
                }
            )
            print(json.dumps(ways[-1]), flush=True)
    answer = {
        key: value for key, value in found.plain().items() if key not in {"run_directory", "report"}
    }
    answer["final"].pop("architecture")
    told = {**about("local/onnxruntime:threads=1"), "answer": answer, "ways": ways}
    RESULT.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
