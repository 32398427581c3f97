"""Plain networks, their ghost form and their rep form: accuracy, multiply-adds, and ms on runtimes.

    python benchmarks/ghost.py ../shared/data/cifar10 --work ../ghost

convnet and resnet-20 at 32 pixels; in the other forms every dense convolution that can be one is a
ghost module of ratio 2 (`adapting.ghost`). All learn from scratch on the same pictures of CIFAR-10,
`--images` each, in turns, seed by seed. Accuracy is that of the float32 file on test; differences
from the plain network are paired, with 95 % intervals over pictures. Milliseconds are of files that
take turns in one process, on every runtime and precision. Goes on where it was cut; writes
results/ghost.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about
from smaller import as_row, paired, read_rows

from featherweight.adapting.ghost import GhostForm, ghost_layers, ghosted
from featherweight.architecture import Architecture
from featherweight.data.images import ImageData, load_images
from featherweight.errors import MissingDependencyError, UnsupportedError
from featherweight.exporting.export import export_network
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import latencies_in_turns
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import build_network
from featherweight.profiling.profile import totals
from featherweight.runtimes.answers import load_answers
from featherweight.training.loop import train_network
from featherweight.training.pixels import open_store
from featherweight.training.recipe import default_recipe
from featherweight.training.start import suit_to_pictures

RESULT = Path(__file__).parent / "results" / "ghost.json"
ON = "local/onnxruntime:threads=1"
PLATFORMS = (
    ON,
    f"{ON},precision=int8",
    "local/openvino:threads=1",
    "local/openvino:threads=1,precision=int8",
    "local/ncnn:threads=1",
)
PREPROCESSING = Preprocessing()
NETWORKS = ("convnet", "resnet")
FORMS: dict[str, GhostForm | None] = {
    "plain": None,
    "ghost": GhostForm(),
    "rep": GhostForm(form="rep"),
}


def drawn(name: str, form: str) -> Architecture:
    architecture = create_architecture(name, resolution=32, classes=10)
    modules = FORMS[form]
    if modules is None:
        return architecture
    return ghosted(architecture, ghost_layers(architecture, modules), modules)


def trained(
    architecture: Architecture, images: ImageData, *, epochs: int, seed: int, folder: Path
) -> dict[str, Any]:
    store = open_store(images)
    pictures = store.train(32, PREPROCESSING)
    network = suit_to_pictures(
        build_network(architecture, seed=seed), pictures, preprocessing=PREPROCESSING
    )
    started = time.monotonic()
    result = train_network(
        network,
        train=pictures,
        val=store.held_out("val", 32, PREPROCESSING),
        recipe=default_recipe(
            pretrained=False,
            resolution=32,
            images=len(images.splits["train"]),
            epochs=epochs,
            seed=seed,
        ),
        preprocessing=PREPROCESSING,
        directory=folder / "training",
    )
    seconds = time.monotonic() - started
    file = export_network(
        result.network,
        runtime=parse_platform(ON).runtime,
        out=folder / "file",
        preprocessing=PREPROCESSING,
        labels=images.classes,
    )
    test = store.held_out("test", 32, PREPROCESSING)
    right = load_answers(file)(test.pixels)["logits"].argmax(1) == test.targets
    return {
        "accuracy": float(right.mean()),
        "n": len(right),
        "images_seen": result.history[-1].images_seen,
        "seconds": seconds,
        "right": right,
    }


def clocked(name: str) -> dict[str, Any]:
    """Return ms of each form over those of the plain network, on every platform."""
    found: dict[str, Any] = {}
    for on in PLATFORMS:
        platform = parse_platform(on)
        wanted = [Untrained(form, drawn(name, form), platform.precision) for form in FORMS]
        try:
            measured = time_untrained(
                wanted,
                platform=platform,
                samples=200,
                max_s_each=20.0,
                repeat_disturbed=False,  # a second time in another process is no turn of this one
            )
        except (UnsupportedError, MissingDependencyError) as error:
            found[on] = {"error": str(error)}
            continue
        turns = latencies_in_turns([measured[k] for k in range(len(wanted))])
        base = turns[0].median_ms
        found[on] = {
            form: {
                "ms": one.median_ms,
                "ratio": one.median_ms / base,
                "interval": [end / base for end in one.interval_ms],
            }
            for form, one in zip(FORMS, turns, strict=True)
        }
        print(name, on, json.dumps(found[on]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60_000, help="about: whole epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    images = load_images(options.data, seed=0)
    epochs = max(1, round(options.images / len(images.splits["train"])))
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    found = {"networks": {}, **found, **about(ON), "epochs": epochs}
    for name in options.networks:
        path = options.work / f"{name}.jsonl"
        rows = [row for row in read_rows(path) if row["epochs"] == epochs]
        plain = totals(drawn(name, "plain")).macs
        own: dict[str, Any] = {
            "macs": {form: totals(drawn(name, form)).macs for form in FORMS},
            "theoretical_speed_up": {
                form: plain / totals(drawn(name, form)).macs for form in FORMS
            },
            "modules": {
                form: len(ghost_layers(drawn(name, "plain"), modules))
                for form, modules in FORMS.items()
                if modules is not None
            },
            "clock": clocked(name),
        }
        found["networks"][name] = own
        for seed in options.seeds:
            for form in FORMS:
                if any((row["way"], row["seed"]) == (form, seed) for row in rows):
                    continue
                folder = options.work / f"{name}-{form}-{seed}-{epochs}"
                row = trained(drawn(name, form), images, epochs=epochs, seed=seed, folder=folder)
                np.save(folder / f"{form}-{seed}.npy", row.pop("right"))
                row = {
                    "way": form,
                    "seed": seed,
                    "epochs": epochs,
                    **row,
                    "file": str(folder / "file"),
                }
                rows.append(as_row(path, row))
            forms = list(dict.fromkeys(row["way"] for row in rows))
            own["accuracy"] = {
                form: float(np.mean([row["accuracy"] for row in rows if row["way"] == form]))
                for form in forms
            }
            own["minus_plain"] = {
                form: paired(rows, form, "plain") for form in forms if form != "plain"
            }
            own["rows"] = [{key: row[key] for key in row if key != "file"} for row in rows]
            RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
