"""Detectors on blood cells, as many pictures for each: average precision and milliseconds.

    python benchmarks/detectors.py ../shared/data/bccd --work ../detectors

ThunderNet and SSDLite over the same pretrained EfficientNet-Lite0, ThunderNet over SNet49 from
scratch, and torchvision's ssdlite320_mobilenet_v3_large from scratch. All see the same number of
pictures with the same kinds of changes, without mosaics and expansion at the end, in batches of 8,
with AdamW (no decay of norms and biases) and a cosine. Ours also have what our training gives: the
average of weights, and the best epoch by val. torchvision's is the network after the last step, and
learns objects that hardly show as background. AP and AP50 on the 72 test pictures with 95 %
intervals over pictures. Milliseconds of a test picture end to end (resize, network, suppression),
one thread, as eager torch and as the exported file in onnxruntime; all take turns. Goes on where it
was cut; writes results/detectors.json.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from photographs import about
from PIL import Image
from smaller import as_row, peak_mib, read_rows
from torch import Tensor
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from featherweight.data.augmentation import normalise_batch
from featherweight.data.box_augmentation import HARDLY_SEEN, NO_BOX, augment_boxed
from featherweight.data.dataset import ImageData
from featherweight.detection.average_precision import Detections
from featherweight.detection.network import DetectorNetwork
from featherweight.detection.table import DETECTIONS, pack_detections
from featherweight.exporting.export import export_network
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import load_network, save_network
from featherweight.runtimes.answers import load_answers
from featherweight.tasks.task import TASKS, load_data
from featherweight.training.beginning import Length, begin
from featherweight.training.evaluate import evaluate_network
from featherweight.training.loop import train_network
from featherweight.training.pixels import PixelStore, open_store

RESULT = Path(__file__).parent / "results" / "detectors.json"
TORCHVISION = "torchvision ssdlite320_mobilenet_v3_large"
OURS = {
    "thundernet_efficientnet_lite0": "auto",
    "ssdlite_efficientnet_lite0": "auto",
    "thundernet_snet49": "none",
}
BATCH, CLOSED_FROM = 8, 0.85
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TURNS = 40


def train(name: str, options: Any, seed: int) -> dict[str, Any]:
    """Train a detector; return a row of what came out."""
    store = open_store(load_data(options.data, seed=0, quiet=True))
    if name == TORCHVISION:
        return train_torchvision(store, options=options, seed=seed)
    return train_ours(name, store, options=options, seed=seed)


def train_ours(name: str, store: PixelStore, *, options: Any, seed: int) -> dict[str, Any]:
    """Train one of our detectors on so many pictures and evaluate it on test."""
    images = store.data
    epochs = -(-options.pictures // (len(images.splits["train"]) // BATCH * BATCH))
    text = f"{name}:resolution={options.pixels}"
    started = time.monotonic()
    start = begin(
        text,
        images,
        small=False,
        pretrained=OURS[name],
        taught=False,
        length=Length(epochs, None),
        seed=seed,
    )
    assert start.network is not None
    folder = options.work / f"{name}-{options.pixels}-{seed}"
    found = train_network(
        start.network,
        train=store.train(options.pixels, start.preprocessing),
        val=store.held_out("val", options.pixels, start.preprocessing),
        recipe=start.recipe,
        preprocessing=start.preprocessing,
        directory=folder,
        progress=lambda epoch: print(name, epoch.epoch, f"{epoch.val_accuracy:.3f}", flush=True),
    )
    save_network(
        found.network,
        folder,
        preprocessing=start.preprocessing,
        classes=images.classes,
        task=images.task,
    )
    test = store.held_out("test", options.pixels, start.preprocessing)
    answered = evaluate_network(found.network, images=test, preprocessing=start.preprocessing)
    return {
        "name": name,
        "seed": seed,
        "pixels": options.pixels,
        "images_seen": found.history[-1].images_seen,
        "seconds": time.monotonic() - started,
        "peak_mib": peak_mib(),
        "ap": answered.accuracy,
        "interval": answered.interval,
        **answered.details,
    }


def as_targets(changed: Any) -> list[dict[str, Tensor]]:
    """Return boxes as torchvision takes them: 0 is the background."""
    found = []
    for boxes, labels in zip(changed.boxes, changed.labels, strict=True):
        kept = (labels != NO_BOX) & (labels != HARDLY_SEEN)
        found.append({"boxes": boxes[kept], "labels": labels[kept] + 1})
    return found


def train_torchvision(store: PixelStore, *, options: Any, seed: int) -> dict[str, Any]:
    """Train torchvision's detector on the same pictures with the same changes."""
    images = store.data
    preprocessing = Preprocessing(mean=MEAN, std=STD, stretch=True)
    pictures = store.train(320, preprocessing)
    recipe = begin(
        f"thundernet_snet49:resolution={options.pixels}",
        images,
        small=False,
        pretrained="none",
        taught=False,
        length=Length(1, None),
        seed=seed,
    ).recipe
    torch.manual_seed(seed)
    network = torchvision_network(images)
    apart = [
        [one for one in network.parameters() if (one.dim() > 1) == big] for big in (True, False)
    ]
    optimiser = torch.optim.AdamW(
        [{"params": apart[0], "weight_decay": 0.05}, {"params": apart[1], "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    generator = torch.Generator().manual_seed(seed)
    per_epoch = len(pictures) // BATCH
    steps = -(-options.pictures // (per_epoch * BATCH)) * per_epoch
    started, order = time.monotonic(), torch.empty(0)
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(pictures), generator=generator)
        share = step / steps
        rate = recipe.learning_rate * min(1.0, share / recipe.warm_up_share)
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1.0 + np.cos(np.pi * share))
        rows = order[step % per_epoch * BATCH :][:BATCH].numpy()
        sample = pictures.batch(rows)
        labels = torch.where(
            (sample.targets[..., 5] > 0) & (sample.targets[..., 4] >= 0),
            HARDLY_SEEN,
            sample.targets[..., 4].long(),
        )
        assert recipe.boxes is not None
        closed = {"mosaic": 0.0, "expand": 0.0} if share > CLOSED_FROM else {}
        changed = augment_boxed(
            sample.pixels,
            sample.targets[..., :4],
            labels,
            size=320,
            augmentation=recipe.boxes.model_copy(update=closed),
            generator=generator,
            mean=MEAN,
            std=STD,
        )
        losses = network.train()(list(changed.pixels), as_targets(changed))
        optimiser.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimiser.step()
    network.eval()
    torch.save(network.state_dict(), options.work / f"torchvision-{seed}.pt")
    test = store.held_out("test", 320, preprocessing)
    answers = {DETECTIONS: pack_detections(torchvision_answers(network, test.pixels))}
    task = TASKS[images.task]
    return {
        "name": TORCHVISION,
        "seed": seed,
        "pixels": 320,
        "images_seen": steps * BATCH,
        "seconds": time.monotonic() - started,
        "peak_mib": peak_mib(),
        "ap": task.score(answers, test.targets),
        "interval": task.interval(answers, test.targets),
        **task.details(answers, test.targets, classes=len(images.classes)),
    }


def torchvision_network(images: ImageData) -> Any:
    network = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(images.classes) + 1
    )
    network.transform.image_mean, network.transform.image_std = [0.0] * 3, [1.0] * 3
    return network


def torchvision_answers(network: Any, pixels: np.ndarray) -> list[Detections]:
    found = []
    with torch.inference_mode():
        for picture in pixels:
            inputs = normalise_batch(torch.from_numpy(picture[None].copy()), mean=MEAN, std=STD)
            (one,) = network(list(inputs))
            found.append(
                Detections(
                    (one["boxes"] / 320).numpy(), one["scores"].numpy(), one["labels"].numpy() - 1
                )
            )
    return found


def clocks(images: ImageData, options: Any) -> dict[str, Any]:
    """Time all detectors of the first seed end to end, in turns."""
    picture = Image.open(images.splits["test"].paths_or_bytes[0]).convert("RGB")
    picture.load()
    asked: dict[str, Callable[[], object]] = {}
    for name in OURS:
        stored = load_network(options.work / f"{name}-{options.pixels}-{options.seeds[0]}")
        assert isinstance(stored.network, DetectorNetwork)
        asked[f"{name} eager"] = eager(stored.network, picture, stored.preprocessing)
        for precision in ("fp32", "int8"):
            store = open_store(images)
            artifact = export_network(
                stored.network,
                runtime="onnxruntime",
                precision=precision,
                out=options.work / f"{name}-{precision}",
                preprocessing=stored.preprocessing,
                labels=images.classes,
                task=images.task,
                calibration=store.calibration(options.pixels, stored.preprocessing, seed=0)
                if precision == "int8"
                else None,
            )
            answers = load_answers(artifact)
            side = options.pixels
            asked[f"{name} {precision}"] = lambda answers=answers, side=side: answers(
                np.asarray(picture.resize((side, side)))[None]
            )
    peer = torchvision_network(images)
    peer.load_state_dict(torch.load(options.work / f"torchvision-{options.seeds[0]}.pt"))
    peer.eval()
    asked[f"{TORCHVISION} eager"] = lambda: torchvision_answers(
        peer, np.asarray(picture.resize((320, 320)))[None]
    )
    session = torchvision_session(peer)
    asked[f"{TORCHVISION} fp32"] = lambda: session.run(
        None, {"image": _normalised(picture.resize((320, 320)))}
    )
    seen: dict[str, list[float]] = {name: [] for name in asked}
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    names = [*asked]
    for _ in range(TURNS):
        for place in generator.permutation(len(names)):
            started = time.perf_counter()
            asked[names[place]]()
            seen[names[place]].append(1e3 * (time.perf_counter() - started))
    return {
        name: {
            "median_ms": float(np.median(values[5:])),
            "quartiles_ms": np.quantile(values[5:], [0.25, 0.75]).tolist(),
        }
        for name, values in seen.items()
    }


def eager(
    network: DetectorNetwork, picture: Image.Image, preprocessing: Preprocessing
) -> Callable[[], object]:
    side = network.architecture.resolution

    def ask() -> object:
        pixels = torch.from_numpy(np.asarray(picture.resize((side, side)))[None].copy())
        inputs = normalise_batch(pixels, mean=preprocessing.mean, std=preprocessing.std)
        with torch.inference_mode():
            return network(inputs)

    return ask


def _normalised(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255.0
    mean, std = (np.array(one, dtype=np.float32).reshape(3, 1, 1) for one in (MEAN, STD))
    return np.ascontiguousarray((values - mean) / std)


def torchvision_session(network: Any) -> Any:
    """Export torchvision's detector as its documentation does, for one thread."""
    stream = io.BytesIO()
    torch.onnx.export(
        network,
        ([torch.zeros(3, 320, 320)],),
        stream,
        opset_version=17,
        input_names=["image"],
        dynamo=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        stream.getvalue(), options, providers=["CPUExecutionProvider"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pixels", type=int, default=320)
    parser.add_argument("--pictures", type=int, default=2500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "rows.jsonl"
    for seed in options.seeds:
        for name in (*OURS, TORCHVISION):
            rows = read_rows(path)
            if any((row["name"], row["seed"]) == (name, seed) for row in rows):
                continue
            # A process each: what the trainings hold at most is told apart.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                as_row(path, pool.submit(train, name, options, seed).result())
        found = {
            **about("local/onnxruntime:threads=1"),
            "rows": read_rows(path),
            "milliseconds": clocks(load_data(options.data, seed=0, quiet=True), options),
        }
        RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
