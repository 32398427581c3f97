"""Drawn pictures with boxes, and small detectors that learn them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from featherweight.detection.detector import Detector, SsdLite, ThunderNet, backbone_of
from featherweight.detection.losses import Objects, detection_loss
from featherweight.detection.network import DetectorNetwork, build_detector
from featherweight.networks.resolve import create_architecture

SIDE = 96
SMALL_ANCHORS = ThunderNet(anchor_sizes=(12.0, 20.0, 32.0, 48.0, 72.0), regions=50)
FINE = SsdLite(extra_channels=(64,), fine_anchors=((0.2, 0.2), (0.25, 0.25)), fine_channels=32)
HEADS = {"thundernet": SMALL_ANCHORS, "ssdlite": FINE}


def detector_of(head: ThunderNet | SsdLite) -> Detector:
    whole = create_architecture("snet49", resolution=SIDE, form="standard")
    return Detector(name="small", backbone=backbone_of(whole), head=head, num_classes=2)


def drawn_pictures(count: int) -> tuple[torch.Tensor, list[Objects]]:
    """Return pictures with one to three squares (class 0) and discs (class 1) on noise."""
    generator = np.random.default_rng(0)
    pictures = generator.normal(0.0, 0.2, (count, 3, SIDE, SIDE)).astype(np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    objects = []
    for picture in pictures:
        boxes, labels = [], []
        for place in range(generator.integers(1, 4)):
            side = int(generator.integers(16, 30))
            x, y = (int(v) for v in generator.integers(0, (SIDE // 3) - 2, 2))
            x, y = x + place * SIDE // 3, y + (place % 2) * SIDE // 2
            x, y = min(x, SIDE - side), min(y, SIDE - side)
            label = int(generator.integers(0, 2))
            inside = (columns >= x) & (columns < x + side) & (rows >= y) & (rows < y + side)
            if label:
                centre = side / 2.0
                inside &= (columns + 0.5 - x - centre) ** 2 + (rows + 0.5 - y - centre) ** 2 < (
                    centre**2
                )
            picture[:, inside] = generator.uniform(1.0, 2.0, (3, 1))
            boxes.append([x, y, x + side, y + side])
            labels.append(label)
        objects.append(
            Objects(
                torch.tensor(boxes, dtype=torch.float32),
                torch.tensor(labels),
                torch.zeros(len(boxes), dtype=torch.bool),
            )
        )
    return torch.from_numpy(pictures), objects


def write_drawn_data(folder: Path, counts: dict[str, int]) -> Path:
    """Write drawn pictures as a COCO data set with these splits; return the folder."""
    drawn, objects = drawn_pictures(sum(counts.values()))
    levels = ((drawn * 0.3 + 0.2).clamp(0, 1) * 255).round().to(torch.uint8)
    place = 0
    for split, count in counts.items():
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for number in range(place, place + count):
            name = f"{number}.png"
            Image.fromarray(levels[number].permute(1, 2, 0).numpy()).save(folder / split / name)
            images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
            for box, label in zip(
                objects[number].boxes.tolist(), objects[number].labels.tolist(), strict=True
            ):
                x, y, right, bottom = box
                annotations.append(
                    {
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": [x, y, right - x, bottom - y],
                    }
                )
        categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
        place += count
    return folder


def learnt(
    detector: Detector, pictures: torch.Tensor, objects: list[Objects], *, steps: int
) -> DetectorNetwork:
    """Train a detector on the same pictures again and again; in eval mode."""
    network = build_detector(detector, seed=0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, step / 10) * (1.0 if step < 0.75 * steps else 0.1)
        losses = detection_loss(network.train(), pictures, objects, generator=generator)
        optimiser.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimiser.step()
    for module in network.modules():  # few pictures: the running means have not settled
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3
    with torch.no_grad():
        for _ in range(10):
            network.train().raw(pictures)
    return network.eval()
