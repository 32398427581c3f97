"""What a report says of a detector: curves, what is taken for what, best and worst pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from featherweight.data.dataset import ImageData, Inspection
from featherweight.data.drawing import draw_objects
from featherweight.detection.average_precision import Detections, Truth
from featherweight.detection.evaluation import (
    best_threshold,
    confusion,
    picture_scores,
    precision_recall,
)
from featherweight.detection.table import DETECTIONS, detections_of, truths_of
from featherweight.records import Record, write_json
from featherweight.tasks.detection import SURE
from featherweight.tasks.task import Answers

__all__ = [
    "FINDINGS_FILE",
    "DetectionFindings",
    "PrecisionRecall",
    "ShownPicture",
    "find_out",
    "write_findings",
]

FINDINGS_FILE = "detection.json"
"""In a run directory."""
_POINTS = 60
_SHOWN = 3
"""Best pictures, and as many worst ones."""
_SIDE = 320
_QUALITY = 75


class PrecisionRecall(Record):
    """The curve of one class at an overlap of half, thinned out: recall rising."""

    label: str
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    scores: tuple[float, ...]


class ShownPicture(Record):
    """A picture with its boxes, as JPEG in base64; objects that are there have a thin white line.

    Attributes:
        name: of the picture.
        quality: its panoptic quality in 0..1.
        kind: "best" or "worst".
        jpeg: base64.
    """

    name: str
    quality: float
    kind: str
    jpeg: str


class DetectionFindings(Record):
    """What detection.json holds.

    Attributes:
        split: which pictures.
        classes: names.
        threshold: score with the highest F1 of all classes together; `None` = nothing was right.
        f1: that F1.
        curves: of the classes that have objects.
        confusion: row = class that is there, column = class that was answered; the last row is
            nothing there, the last column nothing answered; answers of a score of 0.3 or more.
        pictures: the best and the worst.
    """

    split: str
    classes: tuple[str, ...]
    threshold: float | None
    f1: float | None
    curves: tuple[PrecisionRecall, ...]
    confusion: tuple[tuple[int, ...], ...]
    pictures: tuple[ShownPicture, ...]


def find_out(
    answers: Answers,
    targets: NDArray[np.float32],
    *,
    classes: tuple[str, ...],
    split: str,
    pixels: NDArray[np.uint8],
    names: Sequence[str],
    inspections: Sequence[Inspection],
    folder: Path,
) -> DetectionFindings:
    """Return what a detector's answers say beyond their figures, and write it as detection.json.

    Args:
        answers: to the pictures of a split.
        targets: of them, as `pack_truths` packs them.
        classes: names.
        split: its name.
        pixels: the pictures as the detector takes them, uint8 (N, S, S, 3).
        names: of the pictures.
        inspections: likewise: their shape.
        folder: the run directory.
    """
    found, truths = detections_of(answers[DETECTIONS]), truths_of(targets)
    count = len(classes)
    best = best_threshold(found, truths, classes=count).overall
    quality = picture_scores(found, truths, classes=count, score=SURE)
    order = np.argsort(-quality, kind="stable")
    most = min(_SHOWN, len(order) // 2)
    shown = [("best", row) for row in order[:most]] + [("worst", row) for row in order[::-1][:most]]
    findings = DetectionFindings(
        split=split,
        classes=classes,
        threshold=None if best is None else best.score,
        f1=None if best is None else best.f1,
        curves=tuple(
            PrecisionRecall(
                label=label,
                recall=_thin(curve.recall),
                precision=_thin(curve.precision),
                scores=_thin(curve.scores),
            )
            for label, curve in zip(
                classes, precision_recall(found, truths, classes=count), strict=True
            )
            if curve is not None and len(curve.recall)
        ),
        confusion=tuple(
            tuple(row) for row in confusion(found, truths, classes=count, score=SURE).tolist()
        ),
        pictures=tuple(
            ShownPicture(
                name=names[row],
                quality=float(quality[row]),
                kind=kind,
                jpeg=_drawn(pixels[row], found[row], truths[row], classes, inspections[row].aspect),
            )
            for kind, row in shown
        ),
    )
    write_json(folder / FINDINGS_FILE, findings)
    return findings


def write_findings(
    answers: Answers, data: ImageData, *, split: str, pixels: NDArray[np.uint8], folder: Path
) -> DetectionFindings:
    """`find_out` for a split of a data set."""
    part = data.splits[split]
    return find_out(
        answers,
        part.targets,
        classes=data.classes,
        split=split,
        pixels=pixels,
        names=part.names,
        inspections=part.inspections,
        folder=folder,
    )


def _thin(values: NDArray[np.float64]) -> tuple[float, ...]:
    places = np.unique(np.linspace(0, len(values) - 1, min(_POINTS, len(values))).round())
    return tuple(round(float(values[int(place)]), 4) for place in places)


def _drawn(
    pixels: NDArray[np.uint8],
    found: Detections,
    truth: Truth,
    classes: tuple[str, ...],
    aspect: float,
) -> str:
    """Return a picture in its own shape with what is there and what was answered."""
    size = (_SIDE, round(_SIDE / aspect)) if aspect >= 1 else (round(_SIDE * aspect), _SIDE)
    image = Image.fromarray(pixels).resize(size)
    scale = np.array([*size, *size])
    pen = ImageDraw.Draw(image)
    for box in truth.boxes * scale:
        pen.rectangle(tuple(box.tolist()), outline="white", width=1)
    objects = [
        {"label": classes[label], "score": float(score), "box": box.tolist()}
        for box, score, label in zip(
            found.boxes.astype(np.float64) * scale, found.scores, found.labels, strict=True
        )
        if score >= SURE
    ]
    stream = io.BytesIO()
    draw_objects(image, objects, classes).save(stream, "JPEG", quality=_QUALITY)
    return base64.b64encode(stream.getvalue()).decode("ascii")
