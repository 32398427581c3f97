"""What a training step takes with norms that stand still, folded and not.

    python benchmarks/folded_norms.py

EfficientNet-Lite0 and MobileNetV2 at 112 pixels, 64 pictures a step, forward, loss and backward;
in channels_last, with all blocks learning and with six frozen. Five ways: convolution and norm one
after the other, in float32 and in bfloat16; with folded norms, likewise, every layer in bfloat16;
and as `training.forward.answer` does, which keeps depthwise convolutions that learn in float32. The
ways take turns; times are medians of the rounds, and `speed_up` is the median over rounds of the
plain float32 step's time divided by that way's time in the same round, with its quartiles. Padding
is part of the convolutions in all of them. Writes results/folded_norms.json
(docs/adr/0018-folded-norms.md).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from photographs import about
from torch import Tensor, nn
from torch.nn import functional

from featherweight.networks.resolve import create_architecture
from featherweight.networks.slicing import norms_of
from featherweight.nn.network import Conv, Network, build_network
from featherweight.training.forward import answer
from featherweight.training.speed import _emulates_bf16

RESULT = Path(__file__).parent / "results" / "folded_norms.json"
NETWORKS, PIXELS, BATCH, CLASSES = ("efficientnet_lite0", "mobilenet_v2"), 112, 64, 100
FROZEN = (0, 6)
Forward = Callable[[Network, Tensor], Tensor]


def folded(_name: str, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    if isinstance(module, Conv):
        return module.forward_with(inputs[0], *module.folded())
    output: Tensor = module(*inputs)
    return output


WAYS: dict[str, tuple[Forward, bool]] = {
    "float32": (lambda network, images: network(images), False),
    "bfloat16": (lambda network, images: network(images), True),
    "folded, float32": (answer, False),
    "folded, bfloat16": (lambda network, images: network.forward_by(images, folded), True),
    "folded, bfloat16, depthwise float32": (answer, True),
}


def learning(name: str, *, frozen_blocks: int) -> Network:
    architecture = create_architecture(name, resolution=PIXELS, classes=CLASSES, form="standard")
    network = build_network(architecture, seed=0).to(memory_format=torch.channels_last).train()
    for norm in norms_of(network):
        norm.eval()
    for block in range(frozen_blocks):
        network.get_submodule(f"blocks.{block}").requires_grad_(False)  # noqa: FBT003
    return network


def step_s(network: Network, way: str, images: Tensor, labels: Tensor) -> float:
    forward, in_bfloat16 = WAYS[way]
    network.zero_grad()
    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bfloat16):
        logits = forward(network, images)
    functional.cross_entropy(logits.float(), labels).backward()
    return time.perf_counter() - started


def measured(name: str, *, frozen_blocks: int, ways: Sequence[str], rounds: int) -> dict[str, Any]:
    network = learning(name, frozen_blocks=frozen_blocks)
    images = torch.randn(BATCH, 3, PIXELS, PIXELS).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for index in range(rounds + 1):
        for way in ways:
            taken_s = step_s(network, way, images, labels)
            if index:  # the first is warm-up
                seconds[way].append(taken_s)
    rows = {}
    for way in ways:
        ratios = [plain / s for plain, s in zip(seconds["float32"], seconds[way], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        pictures_per_s = BATCH / statistics.median(seconds[way])
        rows[way] = {
            "pictures_per_s": pictures_per_s,
            "speed_up": middle,
            "quartiles": [low, high],
        }
    return {"network": name, "frozen_blocks": frozen_blocks, "rounds": rounds, "ways": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    ways = [way for way, (_, bf16) in WAYS.items() if not (bf16 and _emulates_bf16())]
    found: dict[str, Any] = {**about("-"), "pixels": PIXELS, "batch": BATCH, "rows": []}
    for name in NETWORKS:
        for frozen_blocks in FROZEN:
            row = measured(name, frozen_blocks=frozen_blocks, ways=ways, rounds=options.rounds)
            found["rows"].append(row)
            print(json.dumps(row), flush=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
