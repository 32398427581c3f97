"""NetAdapt by latency and by multiply-adds, the knapsack and a width multiplier, on CIFAR-10.

    python benchmarks/adapt_cifar10.py ../shared/data/cifar10 --work ../adapt-cifar10

One MobileNetV1 0.5 at 32 pixels comes to 70 and 50 % of its milliseconds as float32 in onnxruntime,
one thread, in four ways: NetAdapt with latency in its loop, NetAdapt with multiply-adds instead
(its way ends where the measured latency is met), the knapsack, and one share of all widths. Each is
trained on 30,000 pictures, taught by the network it came from; at 50 % the best and the width
multiplier also from scratch, as long, without a teacher. Accuracy is that of the file on test;
differences are paired, with 95 % intervals over pictures. `--path` is the time for the short
fine-tunings of NetAdapt by latency and of screening, which decides how many steps it takes; by
multiply-adds it takes as many as there are. Goes on where it was cut; writes
results/adapt_cifar10.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from photographs import about, part_of
from smaller import (
    Ground,
    Made,
    as_row,
    beside_parent,
    clock_files,
    cost_of,
    never_slower,
    opened,
    paired,
    pictures_of,
    read_rows,
    smaller,
    trained_row,
)

from featherweight.adapting.changes import changed, shrunk_name
from featherweight.adapting.importance import channel_importance
from featherweight.adapting.netadapt import Setting, netadapt
from featherweight.adapting.proposals import PictureProposer
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving, change_options
from featherweight.adapting.steps import Schedule, Step
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.data.images import ImageData, load_images
from featherweight.fitting.parent import Parent
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.networks.storage import load_network, save_network
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile
from featherweight.training.loop import train_network
from featherweight.training.pixels import open_store
from featherweight.training.recipe import Recipe, default_recipe

RESULT = Path(__file__).parent / "results" / "adapt_cifar10.json"
ON = "local/onnxruntime:threads=1"
PICTURES, EPOCHS = 30_000, 8
BY_LATENCY, BY_MACS, UNIFORM = "netadapt", "netadapt by multiply-adds", "width"
WAYS = (BY_LATENCY, "knapsack", UNIFORM)
PREPROCESSING = Preprocessing()
SCRATCH = " from scratch"


def parent_of(images: ImageData, work: Path) -> dict[str, Any]:
    """Train the parent once; return what it took."""
    found = work / "parent.json"
    if found.exists():
        return dict(json.loads(found.read_text()))
    store = open_store(images)
    drawn = create_architecture("mobilenet_v1", width=0.5, resolution=32, classes=10)
    started = time.monotonic()
    result = train_network(
        build_network(drawn, seed=0),
        train=store.train(32, PREPROCESSING),
        val=store.held_out("val", 32, PREPROCESSING),
        recipe=from_scratch(images, epochs=EPOCHS, seed=0),
        preprocessing=PREPROCESSING,
        directory=work / "parent-training",
        progress=lambda epoch: print(epoch.epoch, epoch.val_accuracy, flush=True),
    )
    save_network(
        result.network, work / "parent", preprocessing=PREPROCESSING, classes=images.classes
    )
    row = {
        "seconds": time.monotonic() - started,
        "val_accuracy": result.best.val_accuracy,
        "images_seen": result.history[-1].images_seen,
    }
    found.write_text(json.dumps(row))
    return row


def from_scratch(images: ImageData, *, epochs: int, seed: int) -> Recipe:
    return default_recipe(
        pretrained=False,
        resolution=32,
        images=len(images.splits["train"]),
        epochs=epochs,
        seed=seed,
    )


def millions(architecture: Architecture) -> Latency:
    macs = (profile(architecture).macs or 0) * 1e-6
    return Latency(median_ms=macs, interval_ms=(macs, macs))


def by_macs(ground: Ground) -> Made:
    """Go NetAdapt's way with multiply-adds for milliseconds until the latency is met."""
    folder = ground.context.run.path / "networks" / "by-macs"
    noted = folder / "made.json"
    if noted.exists():
        return Made(**json.loads(noted.read_text()))
    parent = ground.parent
    whole = millions(parent.architecture).median_ms
    savings = [
        Saving(
            change=change,
            saved_ms=whole - millions(changed(parent.architecture, [change])).median_ms,
        )
        for change in change_options(parent.architecture)
    ]
    policy = ground.context.policy.adapt
    pictures = pictures_of(ground, max(policy.tuning_pictures) + policy.held_out_pictures)
    tuning = pictures.part(0, max(policy.tuning_pictures))

    def worth(network: Network) -> dict[str, NDArray[np.float64]]:
        loss = ground.context.trainer.objective.loss
        return channel_importance(network, tuning.batches(), loss=loss)

    setting = Setting(
        model=SavingModel(parent.architecture, savings, present_ms=whole),
        start=millions(parent.architecture),
        clock=lambda networks: [millions(one) for one in networks],
        proposer=PictureProposer(
            tuning,
            pictures.part(max(policy.tuning_pictures), len(pictures.targets)),
        ),
        schedule=Schedule(proposals=policy.proposals),
        worth=worth,
    )
    last = [ground.first.measured.latency.median_ms]
    rows: list[dict[str, Any]] = []

    def told(step: Step, network: Network) -> None:
        last.append(beside_parent(ground, network))
        rows.append({"change": str(step.change), "macs": step.latency.median_ms, "ms": last[-1]})
        print(json.dumps(rows[-1]), flush=True)

    found = netadapt(
        parent,
        setting,
        target_ms=0.1 * whole,
        told=told,
        is_over=lambda: last[-1] <= ground.target_ms,
    )
    architecture = found.network.architecture
    network = Network(
        architecture.changed(name=shrunk_name(parent.architecture.name, architecture))
    )
    network.load_state_dict(found.network.state_dict())
    ground.context.trainer.save(network.eval(), ground.first.candidate, folder=folder)
    (folder / "steps.json").write_text(json.dumps(rows))
    made = Made(BY_MACS, str(folder), last[-1])
    noted.write_text(json.dumps(vars(made)))
    return made


def slower_steps(ground: Ground) -> dict[str, int]:
    """Return how many steps by multiply-adds did not make the network faster."""
    folder = ground.context.run.path / "networks" / "by-macs"
    ms = [one["ms"] for one in json.loads((folder / "steps.json").read_text())]
    before = [ground.first.measured.latency.median_ms, *ms]
    slower = sum(after >= start for start, after in zip(before, ms, strict=False))
    return {"steps": len(ms), "not_faster": slower}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.7])
    parser.add_argument(
        "--path", type=float, default=150.0, help="seconds; another: another --work"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--scratch-seeds", type=int, nargs="*", default=[0], help="of the trainings from scratch"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    whole = load_images(options.data, seed=0)
    images = part_of(whole, share=PICTURES / len(whole.splits["train"]), seed=0)
    parent_row = parent_of(images, options.work)
    print(json.dumps(parent_row), flush=True)
    parent = Parent(load_network(options.work / "parent"), "mobilenet_v1", "once")
    found: dict[str, Any] = {
        **about(ON),
        "parent": parent_row,
        "path_s": options.path,
        "shares": {},
    }
    for seed in options.seeds:
        for share in options.shares:
            with opened(options.work, images, parent, on=ON, share=share, epochs=1) as ground:
                made = [*smaller(ground, WAYS, path_s=options.path), by_macs(ground)]
                rows = train_all(ground, made, seed=seed, work=options.work, share=share)
                if share == 0.5 and seed in options.scratch_seeds:
                    rows = scratch(ground, made, rows, seed=seed, work=options.work)
                found["shares"][f"{share:g}"] = told_of(ground, rows)
                RESULT.write_text(json.dumps(found, indent=1) + "\n")


def train_all(
    ground: Ground, made: Sequence[Made], *, seed: int, work: Path, share: float
) -> list[dict[str, Any]]:
    path = work / f"rows-{share:g}.jsonl"
    rows = read_rows(path)
    for one in made:
        if not any((row["way"], row["seed"]) == (one.way, seed) for row in rows):
            files = work / f"files-{share:g}"
            row = trained_row(ground, one, seed=seed, epochs=1, files=files)
            rows.append(as_row(path, row))
    return rows


def scratch(
    ground: Ground,
    made: Sequence[Made],
    rows: list[dict[str, Any]],
    *,
    seed: int,
    work: Path,
) -> list[dict[str, Any]]:
    """Train the best of the first seed and the width multiplier from scratch, as long."""
    path = work / "rows-0.5.jsonl"
    first = [row for row in rows if row["seed"] == 0 and not row["way"].endswith(SCRATCH)]
    best = max(first, key=lambda row: row["val_accuracy"])["way"]
    images = ground.context.trainer.store.data
    for one in made:
        name = one.way + SCRATCH
        known = any((row["way"], row["seed"]) == (name, seed) for row in rows)
        if one.way not in (best, UNIFORM) or known:
            continue
        row = trained_row(
            ground,
            Made(name, one.folder, one.latency_ms),
            seed=seed,
            epochs=1,
            files=work / "files-0.5",
            start_from=lambda network: build_network(network.architecture, seed=seed),
            recipe=lambda _: from_scratch(images, epochs=1, seed=seed),
        )
        rows.append(as_row(path, row))
    return rows


def told_of(ground: Ground, rows: list[dict[str, Any]]) -> dict[str, Any]:
    file = ground.context.trainer.export(
        ground.parent,
        ground.first.candidate,
        out=ground.context.run.path / "artifacts" / "parent",
    )
    ways = list(dict.fromkeys(row["way"] for row in rows))
    return {
        "target_ms": ground.target_ms,
        "seeds": {way: [row["seed"] for row in rows if row["way"] == way] for way in ways},
        "accuracy": {
            way: float(np.mean([row["accuracy"] for row in rows if row["way"] == way]))
            for way in ways
        },
        "minus_width": {way: paired(rows, way, UNIFORM) for way in ways if way != UNIFORM},
        "latency": clock_files(rows, file, on=ON, samples=200),
        "netadapt": never_slower(ground.context.run.path),
        "netadapt_by_multiply_adds": slower_steps(ground),
        "cost": cost_of(ground),
        "rows": [{key: row[key] for key in row if key != "file"} for row in rows],
    }


if __name__ == "__main__":
    main()
