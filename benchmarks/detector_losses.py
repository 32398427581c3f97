"""Why SSDLite learnt nothing of small objects: anchors and losses, at equal pictures.

    python benchmarks/detector_losses.py ../shared/data/aquarium --resolution 256 --epochs 3

Says how many objects of each class have an anchor that overlaps them by half, with SSDLite's own
anchors and with those suited to the data, and trains SSDLite over EfficientNet-Lite0 in three ways:
as it is (SSD's three hardest backgrounds to an object, scores that begin as background), with the
focal loss instead, and with scores that begin alike. Told of each: average precision on val after
every epoch, and the share of anchors that are objects whose score lies above 99 % of the
background's, on 48 training pictures. Writes results/detector_losses_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import about
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

from featherweight.data.augmentation import normalise_batch
from featherweight.data.images import ImageData
from featherweight.detection import losses
from featherweight.detection.anchors import anchors_of
from featherweight.detection.detector import Detector
from featherweight.detection.losses import Objects, assign
from featherweight.detection.network import DetectorNetwork, Raw
from featherweight.detection.parts import SCORES
from featherweight.detection.suiting import object_shapes, suited_to
from featherweight.networks.detectors import create_detector
from featherweight.tasks.task import load_data
from featherweight.training.beginning import Length, begin
from featherweight.training.loop import train_network
from featherweight.training.pixels import open_store
from featherweight.training.results import EpochRecord

RESULTS = Path(__file__).parent / "results"
MODEL = "ssdlite_efficientnet_lite0"
PICTURES = 48
MINED, FOCAL, ALIKE = "three hardest backgrounds", "focal", "the first, scores begin alike"
_FOCUS, _OBJECT_SHARE = 2.0, 0.75


def focal_loss(network: DetectorNetwork, raw: Raw, objects: Sequence[Objects]) -> dict[str, Tensor]:
    """In place of SSD's loss: every anchor counts (Lin et al. 2017, arXiv 1708.02002)."""
    found = losses_of_ours(network, raw, objects)
    scores, count = [], 0
    for logits, own in zip(raw.logits, objects, strict=True):
        assigned = assign(network.anchors, own, least=0.5, best=8)
        is_object = assigned.state == 1
        right = torch.zeros_like(assigned.place)
        right[is_object] = own.labels[~own.crowd][assigned.place[is_object]] + 1
        each = functional.cross_entropy(logits, right, reduction="none")
        shares = torch.where(is_object, _OBJECT_SHARE, 1.0 - _OBJECT_SHARE)
        focal = shares * (1.0 - torch.exp(-each)) ** _FOCUS * each
        scores.append(focal[assigned.state >= 0].sum())
        count += int(is_object.sum())
    return {**found, "scores": torch.stack(scores).sum() / max(1, count)}


losses_of_ours = losses._one_stage


def begin_alike(network: DetectorNetwork) -> None:
    """Take away what makes every anchor begin as background."""
    for name, module in network.dense.named_modules():
        if SCORES in name and isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.bias, 0.0, 0.01)


def objects_of(targets: np.ndarray, resolution: int) -> list[Objects]:
    """Return what is in the pictures, in pixels."""
    found = []
    for rows in torch.from_numpy(np.array(targets)):
        own = rows[rows[:, 4] >= 0]
        found.append(Objects(own[:, :4] * resolution, own[:, 4].long(), own[:, 5] > 0))
    return found


def covered(detector: Detector, data: ImageData) -> dict[str, float]:
    """Return the share of each class's training objects that an anchor overlaps by half."""
    anchors = torch.from_numpy(np.concatenate(anchors_of(detector)))
    best: dict[int, list[float]] = {}
    for one in objects_of(data.splits["train"].targets, detector.resolution):
        if len(one.boxes):
            most = box_iou(anchors, one.boxes).amax(0).tolist()
            for label, iou in zip(one.labels.tolist(), most, strict=True):
                best.setdefault(label, []).append(iou)
    return {
        data.classes[label]: float(np.mean(np.array(ious) >= 0.5))
        for label, ious in sorted(best.items())
    }


def told_apart(network: DetectorNetwork, inputs: Tensor, objects: Sequence[Objects]) -> float:
    """Return the share of object anchors whose score is above 99 % of the background's."""
    with torch.no_grad():
        scores = 1.0 - network.raw(inputs).logits.softmax(2)[..., 0]
    right, background = [], []
    for own, one in zip(scores, objects, strict=True):
        state = assign(network.anchors, one, least=0.5, best=8).state
        right.append(own[state == 1])
        background.append(own[state == 0])
    limit = float(np.quantile(torch.cat(background).numpy(), 0.99))
    return float((torch.cat(right) > limit).float().mean())


def trained(
    data: ImageData, way: str, *, resolution: int, epochs: int, seed: int
) -> dict[str, Any]:
    """Train once."""
    store = open_store(data)
    start = begin(
        f"{MODEL}:resolution={resolution}",
        data,
        small=False,
        pretrained="auto",
        taught=False,
        length=Length(epochs, None),
        seed=seed,
    )
    assert isinstance(start.network, DetectorNetwork)
    losses._one_stage = focal_loss if way == FOCAL else losses_of_ours
    if way == ALIKE:
        begin_alike(start.network)
    history: list[float] = []

    def told(epoch: EpochRecord) -> None:
        history.append(epoch.val_accuracy)
        print(epoch.epoch, f"{epoch.val_accuracy:.4f}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        result = train_network(
            start.network,
            train=store.train(resolution, start.preprocessing),
            val=store.held_out("val", resolution, start.preprocessing),
            recipe=start.recipe,
            preprocessing=start.preprocessing,
            directory=Path(folder),
            progress=told,
        )
    pictures = store.held_out("train", resolution, start.preprocessing).batch(slice(0, PICTURES))
    inputs = normalise_batch(
        pictures.pixels, mean=start.preprocessing.mean, std=start.preprocessing.std
    )
    objects = objects_of(data.splits["train"].targets[:PICTURES], resolution)
    network = result.network.eval()
    assert isinstance(network, DetectorNetwork)
    return {
        "val_ap": history,
        "pictures": result.history[-1].images_seen,
        "objects_above_99_percent_of_background": told_apart(network, inputs, objects),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    data = load_data(str(options.data), seed=0)
    drawn = create_detector(MODEL, resolution=options.resolution, classes=len(data.classes))
    suited = suited_to(drawn, object_shapes(data.splits["train"].targets))
    found: dict[str, Any] = {
        **about("torch"),
        "resolution": options.resolution,
        "objects_with_an_anchor": {
            "SSDLite's": covered(drawn, data),
            "suited": covered(suited, data),
        },
        "trained": [],
    }
    for seed in options.seeds:
        for name in (MINED, FOCAL, ALIKE):
            row = trained(
                data, name, resolution=options.resolution, epochs=options.epochs, seed=seed
            )
            found["trained"].append({"loss": name, "seed": seed, **row})
            print(json.dumps(found["trained"][-1]), flush=True)
            path = RESULTS / f"detector_losses_{data.name}.json"
            path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
