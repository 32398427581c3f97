"""Six ways to make one network faster on photographs, at equal milliseconds and pictures.

    pip install torch-pruning
    python benchmarks/adapt_photographs.py ../shared/data/clothing --work ../adapt-photographs

EfficientNet-Lite0 at 224 pixels with ImageNet weights is fine-tuned once on a quarter of train.
From it the five ways of `adapt` and Torch-Pruning (Taylor, global, isomorphic, channels rounded to
multiples of 8; norms reset on the same pictures) come to 70 and 50 % of its milliseconds as int8 in
onnxruntime, one thread. Each is trained on 3,000 pictures (four passes) with the recipe of `adapt`,
taught by the network it came from. Accuracy is that of the file on test and half of the pictures
that the quarter leaves, which nothing was trained on; differences are paired, with 95 % intervals
over pictures. `auto` is what `adapt` would ship: of the two ways that are best after a few steps,
the better on val. Torch-Pruning's defaults are timed beside. `--ways` trains some of them only, so
that those which are far behind after one seed need not be trained again; a difference is taken over
the seeds that both ways have. Memory is told beside that of training the parent as it was trained,
its first blocks frozen, and of one pass with all of it learning, as what was cut trains. Goes on
where it was cut; writes results/adapt_photographs.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning
from lite0_parent import NETWORK, fine_tuned, parent_of, photographs
from photographs import about
from smaller import (
    Ground,
    Made,
    as_row,
    auto_of,
    beside_parent,
    clock_files,
    cost_of,
    never_slower,
    opened,
    paired,
    peak_mib,
    pictures_of,
    read_rows,
    smaller,
    trained_row,
)
from torch import nn

from featherweight.adapting.importance import IMPORTANCES
from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.ways import WAYS
from featherweight.fitting.parent import Parent
from featherweight.networks.importing import import_module
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network
from featherweight.profiling.profile import profile

RESULT = Path(__file__).parent / "results" / "adapt_photographs.json"
ON = "local/onnxruntime:threads=1,precision=int8"
PEER = "torch-pruning"
RATIOS = tuple(step / 32 for step in range(1, 27))
"""Of the channels that Torch-Pruning takes away."""
PATH_S = 300.0
TUNING = 320
"""Pictures that Torch-Pruning's gradients and norms are told by."""


def peak_of_whole(data: str, work: Path) -> float:
    """Return the peak of another process that trains all of the parent for a pass, in MiB."""
    noted = work / "whole-peak.json"
    if not noted.exists():
        command = [sys.executable, __file__, data, "--work", str(work), "--only-whole"]
        subprocess.run(command, check=True)
    return float(json.loads(noted.read_text()))


def pruned(ground: Ground, ratio: float, **settings: Any) -> nn.Module:
    """Prune a copy of the parent by Torch-Pruning with gradients of 320 training pictures."""
    network = ground.parent.eval()
    pictures = pictures_of(ground, TUNING)
    pruner = torch_pruning.pruner.MetaPruner(
        network,
        torch.zeros(1, *network.architecture.input_shape),
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=ratio,
        ignored_layers=[one for one in network.modules() if isinstance(one, nn.Linear)],
        **settings,
    )
    network.zero_grad()
    for images, targets in pictures.batches():
        nn.functional.cross_entropy(network(images), targets).backward()
    pruner.step()
    return network


def imported(ground: Ground, module: nn.Module, name: str) -> Network:
    side = ground.parent.architecture.resolution
    return import_module(module, input_shape=(3, side, side), name=name)


def by_torch_pruning(ground: Ground) -> Made:
    """Return the largest network of Torch-Pruning that meets the budget."""
    folder = ground.context.run.path / "networks" / PEER
    noted = folder / "made.json"
    if noted.exists():
        return Made(**json.loads(noted.read_text()))
    settings = {"global_pruning": True, "isomorphic": True, "round_to": 8}
    low, high, best = 0, len(RATIOS) - 1, None
    while low <= high:
        middle = (low + high) // 2
        network = imported(ground, pruned(ground, RATIOS[middle], **settings), f"{PEER}")
        ms = beside_parent(ground, network)
        print(f"{PEER} {RATIOS[middle]:.3f}: {ms:.3f} of {ground.target_ms:.3f} ms", flush=True)
        if ms <= ground.target_ms:
            best, high = (network, ms), middle - 1
        else:
            low = middle + 1
    if best is None:
        raise SystemExit(f"{PEER} does not reach {ground.target_ms:.3f} ms")
    network, ms = best
    reset_norms(network, pictures_of(ground, TUNING))
    trainer = ground.context.trainer
    trainer.save(network, ground.first.candidate, folder=folder)
    made = Made(PEER, str(folder), ms)
    noted.write_text(json.dumps(vars(made)))
    return made


@torch.no_grad()
def reset_norms(network: Network, pictures: PictureSet) -> None:
    """Set the statistics of all norms to those of training pictures."""
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch: a plain mean
    network.train()
    for images, _ in pictures.batches():
        network(images)
    network.eval()
    for norm in norms:
        norm.momentum = 0.1


def defaults(ground: Ground) -> list[dict[str, Any]]:
    """Time Torch-Pruning's default settings, and with rounding, beside the parent."""
    rows = []
    cases: dict[str, Callable[[float], nn.Module]] = {
        "defaults": lambda ratio: pruned(ground, ratio),
        "round_to 8": lambda ratio: pruned(ground, ratio, round_to=8),
    }
    for ratio in (0.1, 0.3):
        for name, prune in cases.items():
            network = imported(ground, prune(ratio), PEER)
            ms = beside_parent(ground, network)
            rows.append(
                {
                    "settings": name,
                    "ratio": ratio,
                    "change_of_ms": ms / ground.first.measured.latency.median_ms - 1.0,
                    "change_of_macs": macs(network) / macs(ground.parent) - 1.0,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def macs(network: Network) -> float:
    return float(profile(network.architecture).macs or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=[*WAYS, PEER], choices=[*WAYS, PEER])
    parser.add_argument("--importance", default="taylor", choices=[*IMPORTANCES])
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--only-whole", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    images = photographs(options.data)
    if options.only_whole:
        network = load_network(options.work / "parent").network
        fine_tuned(network, images, options.work / "whole-training", passes=1, frozen=0)
        (options.work / "whole-peak.json").write_text(json.dumps(peak_mib()))
        return
    parent_row = parent_of(images, options.work, pixels=options.pixels, passes=options.passes)
    print(json.dumps(parent_row), flush=True)
    parent = Parent(load_network(options.work / "parent"), NETWORK, "once")
    found: dict[str, Any] = {**about(ON), "pixels": options.pixels, "parent": parent_row}
    found["peak_mib_of_whole_training"] = peak_of_whole(options.data, options.work)
    shares = known_shares(parent_row)
    for seed in options.seeds:
        for share in options.shares:
            with opened(
                options.work, images, parent, on=ON, share=share, epochs=options.passes
            ) as ground:
                made = smaller(ground, [*WAYS], path_s=PATH_S, importance=options.importance)
                if PEER in options.ways:
                    made.append(by_torch_pruning(ground))
                path = options.work / f"rows-{share:g}.jsonl"
                rows = read_rows(path)
                for one in made:
                    known = any((row["way"], row["seed"]) == (one.way, seed) for row in rows)
                    if known or one.way not in options.ways:
                        continue
                    files = options.work / f"files-{share:g}"
                    rows.append(
                        as_row(
                            path,
                            trained_row(ground, one, seed=seed, epochs=options.passes, files=files),
                        )
                    )
                shares[f"{share:g}"] = told(ground, rows)
                if "torch_pruning_defaults" not in found and share == options.shares[0]:
                    noted = options.work / "defaults.json"
                    if not noted.exists():
                        noted.write_text(json.dumps(defaults(ground)))
                    found["torch_pruning_defaults"] = json.loads(noted.read_text())
                RESULT.write_text(json.dumps({**found, "shares": shares}, indent=1) + "\n")


def known_shares(parent: dict[str, Any]) -> dict[str, Any]:
    """Return the budgets that are written down for this parent."""
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    return dict(before["shares"]) if before.get("parent") == parent else {}


def told(ground: Ground, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is told of one budget."""
    trainer, first = ground.context.trainer, ground.first
    file = trainer.export(
        ground.parent, first.candidate, out=ground.context.run.path / "artifacts" / "parent"
    )
    ways = list(dict.fromkeys(row["way"] for row in rows))
    seeds = {way: sorted(row["seed"] for row in rows if row["way"] == way) for way in ways}
    mean = {way: float(np.mean([r["accuracy"] for r in rows if r["way"] == way])) for way in ways}
    best = max(mean, key=mean.__getitem__)
    auto = {seed: auto_of(rows, seed) for seed in seeds["resolution"]}
    return {
        "target_ms": ground.target_ms,
        "seeds": seeds,
        "accuracy": mean,
        "minus_resolution": {way: paired(rows, way, "resolution") for way in ways},
        "best": best,
        "auto_chooses": auto,
        "auto_minus_best": {seed: paired(rows, way, best) for seed, way in auto.items()},
        "latency": clock_files(rows, file, on=ON, samples=200),
        "netadapt": never_slower(ground.context.run.path),
        "cost": cost_of(ground),
        "rows": [{key: row[key] for key in row if key != "file"} for row in rows],
    }


if __name__ == "__main__":
    main()
