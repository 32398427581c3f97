"""A search on CIFAR-10 for 0.25 ms in int8, and what it found beside the zoo's plain network.

    python benchmarks/search_cifar10.py ../shared/data/cifar10 --work ../search-cifar10

40 minutes of `search --space small`; then the network that it ships and the zoo's `convnet`, in the
width that measures the same, learn from scratch for five minutes each, in turns, seed by seed.
Accuracy is that of the int8 file on test; the difference is paired, with a 95 % interval over
pictures. Goes on where it was cut; writes results/search_cifar10.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about

import featherweight as fw
from featherweight.architecture import Architecture, read_architecture, write_architecture
from featherweight.data.images import ImageData, load_images
from featherweight.exporting.export import export_network
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import medians_in_turns
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import build_network
from featherweight.profiling.profile import profile
from featherweight.records import write_bytes
from featherweight.runtimes.answers import load_answers
from featherweight.searching.trials_file import TRIALS_FILE
from featherweight.training.loop import train_network
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import default_recipe
from featherweight.training.start import suit_to_pictures

RESULT = Path(__file__).parent / "results" / "search_cifar10.json"
ON = "local/onnxruntime:threads=1,precision=int8"
PREPROCESSING = Preprocessing()
WIDTHS = tuple(step / 16 for step in range(3, 33))


def same_ms(found: Architecture, classes: int) -> tuple[Architecture, float]:
    """Return the widest plain network that is no slower, and its ms over those of `found`."""
    best = None
    low, high = 0, len(WIDTHS) - 1
    while low <= high:
        middle = (low + high) // 2
        plain = create_architecture("convnet", width=WIDTHS[middle], resolution=32, classes=classes)
        wanted = [Untrained(name, one, "int8") for name, one in (("a", found), ("b", plain))]
        platform = parse_platform(ON)
        measured = time_untrained(wanted, platform=platform, samples=300, max_s_each=20.0)
        own, other = medians_in_turns([measured[0], measured[1]])
        print(f"convnet {WIDTHS[middle]:g}: {other:.4f} ms beside {own:.4f}", flush=True)
        if other <= own:
            best, low = (plain, other / own), middle + 1
        else:
            high = middle - 1
    if best is None:
        raise SystemExit("no convnet is as fast")
    return best


def trained(
    architecture: Architecture, store: PixelStore, *, seconds: float, seed: int, folder: Path
) -> dict[str, Any]:
    """Train for a time and ask the int8 file about test; return what came out."""
    pictures = store.train(32, PREPROCESSING)
    network = suit_to_pictures(
        build_network(architecture, seed=seed), pictures, preprocessing=PREPROCESSING
    )
    result = train_network(
        network,
        train=pictures,
        val=store.held_out("val", 32, PREPROCESSING),
        recipe=default_recipe(
            pretrained=False, resolution=32, images=len(pictures), time_s=seconds, seed=seed
        ),
        preprocessing=PREPROCESSING,
        directory=folder / "training",
    )
    file = export_network(
        result.network,
        runtime="onnxruntime",
        precision="int8",
        out=folder / "file",
        calibration=store.calibration(32, PREPROCESSING, seed=0),
        preprocessing=PREPROCESSING,
        labels=store.data.classes,
    )
    test = store.held_out("test", 32, PREPROCESSING)
    right = load_answers(file)(test.pixels)["logits"].argmax(1) == test.targets
    np.save(folder / "right.npy", right)
    return {
        "seed": seed,
        "accuracy": float(right.mean()),
        "val_accuracy": result.best.val_accuracy,
        "images_seen": result.history[-1].images_seen,
        "foreign_cpu_share": result.history[-1].foreign_cpu_share,
    }


def described(architecture: Architecture) -> dict[str, Any]:
    counted = profile(architecture)
    return {"name": architecture.name, "macs": counted.macs, "params": counted.params}


def searched(data: str, work: Path, *, evaluator: str, trials: int, length: str) -> dict[str, Any]:
    """Search; return what it says and how long its parts took."""
    started = time.monotonic()
    result = fw.search(
        data,
        space="small",
        latency="0.25ms",
        trials=trials,
        on=ON,
        evaluator=evaluator,
        time=length,
        output=work / "search",
    )
    rows = [json.loads(line) for line in (work / "search" / TRIALS_FILE).read_text().splitlines()]
    plain = result.plain()
    return {
        "evaluator": evaluator,
        "seconds_of_this_attempt": time.monotonic() - started,
        **{key: plain[key] for key in ("trials", "complete", "slow", "failed", "agreement")},
        "verdict": plain["verdict"],
        "best": plain["best"] and {**plain["best"], "architecture": None},
        "timed": sum(row["latency_ms"] is not None for row in rows),
    }


def paired(rows: dict[str, list[dict[str, Any]]], work: Path) -> dict[str, Any]:
    """Return found minus plain over the seeds that both have, with an interval over pictures."""
    seeds = [row["seed"] for row in rows["plain"]]
    right = [
        np.mean([np.load(work / f"{name}-{seed}" / "right.npy") for seed in seeds], axis=0)
        for name in ("found", "plain")
    ]
    difference = right[0] - right[1]
    generator = np.random.default_rng(0)
    draws = [
        difference[generator.integers(len(difference), size=len(difference))].mean()
        for _ in range(4000)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"mean": float(difference.mean()), "interval": [float(low), float(high)]}


def compared(images: ImageData, work: Path, *, seconds: float, seeds: int) -> dict[str, Any]:
    """Train both networks, seed by seed."""
    store = open_store(images)
    found = read_architecture(work / "search" / "architecture.json")
    noted = work / "plain.json"
    if not noted.exists():
        plain, ratio = same_ms(found, len(images.classes))
        write_architecture(plain, work / "plain-architecture.json")
        write_bytes(noted, json.dumps({"name": plain.name, "ratio_of_ms": ratio}).encode())
    plain = read_architecture(work / "plain-architecture.json")
    networks = {"found": found, "plain": plain}
    rows: dict[str, list[dict[str, Any]]] = {"found": [], "plain": []}
    for seed in range(seeds):
        for name, architecture in sorted(networks.items(), reverse=seed % 2 == 1):
            folder = work / f"{name}-{seed}"
            done = folder / "row.json"
            if not done.exists():
                row = trained(architecture, store, seconds=seconds, seed=seed, folder=folder)
                write_bytes(done, json.dumps(row).encode())
                print(name, done.read_text(), flush=True)
            rows[name].append(json.loads(done.read_text()))
    return {
        "networks": {name: described(one) for name, one in networks.items()},
        "plain_ms_over_found_ms": json.loads(noted.read_text())["ratio_of_ms"],
        "seconds_each": seconds,
        "rows": rows,
        "found_minus_plain": paired(rows, work),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--evaluator", default="super-network")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--time", default="40m")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each last training")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    noted = options.work / "searched.json"
    if not noted.exists():
        row = searched(
            options.data,
            options.work,
            evaluator=options.evaluator,
            trials=options.trials,
            length=options.time,
        )
        write_bytes(noted, json.dumps(row).encode())
    told = {**about(ON), "search": json.loads(noted.read_text())}
    RESULT.write_text(json.dumps(told, indent=1) + "\n")
    images = load_images(options.data, seed=0)
    told |= compared(images, options.work, seconds=options.seconds, seeds=options.seeds)
    RESULT.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told["found_minus_plain"]))


if __name__ == "__main__":
    main()
