"""Redundant channels: what trained networks repeat, and what removing such channels costs.

    python benchmarks/redundancy.py ../shared/data/cifar10 ../shared/data/clothing --work DIR

convnet, resnet and MobileNetV2 learn CIFAR-10 at 32 pixels from scratch, EfficientNet-Lite0 learns
photographs at 160 pixels from ImageNet weights, each for `--seconds`. Of each: effective rank and
explained maps of its layers; the loss on val (1,000 pictures of CIFAR-10, 300 photographs) after
10, 20 and 30 % of the channels of every width are removed by redundancy, random, L2 and Taylor,
without any training, three draws of the 128 pictures that tell; once as it is, once with the
weights that lose inputs fitted again (of all four alike). And time and peak memory of measuring
redundancy beside a pass over the same pictures. Goes on where it was cut; writes
results/redundancy.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import about
from smaller import as_row, read_rows

import featherweight as fw
from featherweight.adapting.changes import apply
from featherweight.adapting.groups import Narrow, width_groups
from featherweight.adapting.importance import channel_importance
from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.proposals import judged
from featherweight.advising.redundancy import measure_redundancy
from featherweight.data.images import ImageData
from featherweight.networks.storage import StoredNetwork, load_network
from featherweight.nn.network import Network
from featherweight.reporting.redundancy import render_redundancy
from featherweight.tasks.task import load_data
from featherweight.training.pixels import open_store

Worth = dict[str, np.ndarray]
RESULT = Path(__file__).parent / "results" / "redundancy.json"
ON = "local/onnxruntime:threads=1"
SHARES, METHODS, DRAWS = (0.1, 0.2, 0.3), ("redundancy", "random", "l2", "taylor"), (0, 1, 2)
VAL, TELLING, MEASURED = (1000, 300), 128, 256
"""Pictures of either data that the loss is of, that tell, and that redundancy is measured on."""
NETWORKS = {
    "convnet": ("convnet", 0, "none"),
    "resnet": ("resnet", 0, "none"),
    "mobilenet_v2": ("mobilenet_v2:width=0.5", 0, "none"),
    "efficientnet_lite0": ("efficientnet_lite0:resolution=160", 1, "auto"),
}
"""Name -> network, which data, weights."""


def trained(name: str, data: list[str], work: Path, seconds: int) -> Path:
    model, place, pretrained = NETWORKS[name]
    run = work / name
    if not (run / "summary.json").exists():
        fw.train(data[place], model=model, pretrained=pretrained, time=f"{seconds}s", output=run)
    return run


def pictures(
    stored: StoredNetwork, images: ImageData, split: str, count: int, *, seed: int
) -> PictureSet:
    rows = np.random.default_rng([seed, 5]).permutation(len(images.splits[split]))[:count]
    held = open_store(images).held_out(
        split,
        stored.classifier.architecture.resolution,
        stored.preprocessing,
        rows=np.sort(rows),
    )
    return PictureSet.of(held, stored.preprocessing, seed=seed)


def removed(stored: StoredNetwork, data: ImageData, *, count: int, kept: Path) -> dict[str, Any]:
    """Return the loss on val after channels are removed, by method, share and repair.

    Each is a line of `kept`, and is not computed again.
    """
    network = stored.classifier
    val = pictures(stored, data, "val", count, seed=0)
    telling = [
        list(pictures(stored, data, "train", TELLING, seed=draw).batches()) for draw in DRAWS
    ]
    whole = judged(network, val)
    rows = {(row["share"], row["method"], row["repaired"]): row for row in read_rows(kept)}
    worths: dict[tuple[str, int], Worth] = {}

    def worth_of(method: str, draw: int) -> Worth:
        if (method, draw) not in worths:
            worths[method, draw] = channel_importance(
                network, telling[draw], loss=val.objective.loss, method=method, seed=draw
            )
        return worths[method, draw]

    for method in METHODS:
        for share in SHARES:
            for repaired in (False, True):
                if (share, method, repaired) in rows:
                    continue
                losses = []
                for draw in DRAWS:
                    images = torch.cat([batch for batch, _ in telling[draw]]) if repaired else None
                    thin = apply(
                        network,
                        narrower(network, share),
                        importance=worth_of(method, draw),
                        repaired_by=images,
                    )
                    losses.append(float(judged(thin, val).losses.mean()))
                row = {"share": share, "method": method, "repaired": repaired, "losses": losses}
                rows[share, method, repaired] = as_row(kept, row)
    found: dict[str, Any] = {
        "n": len(val.targets),
        "loss": float(whole.losses.mean()),
        "accuracy": whole.score,
        "removed": {f"{share:g}": {} for share in SHARES},
    }
    for (share, method, repaired), row in rows.items():
        key = f"{method} repaired" if repaired else method
        of_share = found["removed"][f"{share:g}"]
        of_share[key] = {"mean": statistics.mean(row["losses"]), "losses": row["losses"]}
    return found


def narrower(network: Network, share: float) -> list[Narrow]:
    """Return the changes that take a share of the channels from every width."""
    return [
        Narrow(group=group.name, channels=width)
        for group in width_groups(network.architecture, step=1)
        if (width := round((1 - share) * group.channels / group.step) * group.step) < group.channels
        and width > 0
    ]


def seen(run: Path, data: str, page: Path) -> dict[str, Any]:
    """Measure the redundancy of every layer, and draw it."""
    found = fw.redundancy(run, data=data)
    page.write_text(render_redundancy(found))
    rows = found.found.layers
    told = [one for one in rows if one.explained_share is not None]
    return {
        "network": found.found.network,
        "channels": sum(one.channels for one in rows),
        "explained_share": float(
            np.average(
                [one.explained_share for one in told], weights=[one.channels for one in told]
            )
        ),
        "effective_rank_share": float(np.mean([one.effective_rank / one.channels for one in rows])),
        "constant": sum(one.constant for one in rows),
        "layers": [one.model_dump(mode="json") for one in rows],
    }


def probe(what: str, run: Path, data: str) -> dict[str, float]:
    """Return seconds and peak memory of a pass over pictures, or of measuring redundancy on them.

    Both in a process of its own, after everything has been loaded.
    """
    stored = load_network(run)
    held = pictures(stored, load_data(data, seed=0), "val", MEASURED, seed=0)

    def one_pass() -> None:
        with torch.no_grad():
            judged(stored.classifier, held)

    def work() -> None:
        if what == "pass":
            one_pass()
        else:
            measure_redundancy(stored.classifier, held.pixels, stored.preprocessing)

    work()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of what follows, not of loading
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        work()
        seconds.append(time.monotonic() - started)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return {"seconds": statistics.median(seconds), "peak_mib": peak}


def cost(run: Path, data: str) -> dict[str, Any]:
    found = {}
    for what in ("pass", "redundancy"):
        answer = subprocess.run(
            [sys.executable, __file__, data, data, "--work", str(run), "--probe", what],
            capture_output=True,
            text=True,
            check=True,
        )
        found[what] = json.loads(answer.stdout.splitlines()[-1])
    return {
        **found,
        "time_ratio": found["redundancy"]["seconds"] / found["pass"]["seconds"],
        "memory_ratio": found["redundancy"]["peak_mib"] / found["pass"]["peak_mib"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=150)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument(
        "--cost-again", action="store_true", help="layers and cost of what is there, too"
    )
    parser.add_argument("--probe", help="what a process of its own does; the work is a run then")
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(probe(options.probe, options.work, options.data[0])))
        return
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    found = {**found, **about(ON), "seconds": options.seconds}
    networks = found.setdefault("networks", {})
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        data = options.data[NETWORKS[name][1]]
        if name in networks and not options.cost_again:
            continue
        run = trained(name, options.data, options.work, options.seconds)
        if name not in networks:
            left = removed(
                load_network(run),
                load_data(data, seed=0),
                count=VAL[NETWORKS[name][1]],
                kept=options.work / f"{name}.jsonl",
            )
            networks[name] = {"val": left}
        page = options.work / f"{name}.html"
        networks[name] |= {**seen(run, data, page), "cost": cost(run, data)}
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(networks[name]["cost"]), flush=True)


if __name__ == "__main__":
    main()
