"""Make a network that is too slow smaller until it meets the budget, and save what it starts from.

What goes is what a knapsack over a measured table leaves out: importance per millisecond, as HALP
(arXiv 2110.10811). The table is measured block by block; the proposal as a whole, and corrected.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.importance import channel_importance
from featherweight.adapting.propose import propose_widths
from featherweight.adapting.savings import Savings, measure_savings
from featherweight.adapting.shrink import shrink_network, shrunk
from featherweight.architecture import Architecture
from featherweight.data.augmentation import normalise_batch
from featherweight.data.rows import spaced_rows
from featherweight.fitting.families import SHRUNK, Family
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.shop import Shopper
from featherweight.fitting.timing import time_architectures
from featherweight.networks.norms import with_carried_norms
from featherweight.networks.storage import save_network
from featherweight.nn.network import resized
from featherweight.reporting.run import Candidate

__all__ = ["shrink_parent", "training_batches"]

logger = logging.getLogger(__name__)

_ROUNDS = 3
"""Proposals, each corrected by what the one before measured."""
_CLOSE = 0.95
"""Share of the target from which a proposal is close enough."""
_SAMPLES = 60
"""Of each block: timed alone, one block's saving is a large part of a short time."""
_PICTURES = 512
"""Training pictures that tell the importance of channels."""
_BATCH = 32
_CARRYING_BATCHES = 4
"""Of those that tell the statistics of norms: all at once through the network."""


@dataclass(frozen=True)
class _Proposal:
    widths: dict[int, int]
    candidate: Candidate


def shrink_parent(
    winner: Entry, value: float, *, trainer: Trainer, shopper: Shopper, budget_ms: float
) -> dict[str, Any]:
    """Shrink the winner, at a resolution that is too slow, to the budget.

    Args:
        winner: trained in phase `fill`: those weights tell the importance; what is saved starts
            from where the winner's own trainings start.
        value: the parent's resolution.
        trainer: has the pictures and the weights.
        shopper: measures the parent and the proposals.
        budget_ms: the budget.

    Returns:
        `folder` of the saved network, relative to the run (`None` = nothing fits), its `candidate`,
        `widths` and the `savings` measured.
    """
    parent = winner.family.build(value)
    folder = trainer.folder / "artifacts" / "fill"

    def medians(networks: Sequence[Architecture]) -> list[float]:
        wanted = [(one.name, one, winner.candidate.precision) for one in networks]
        measured = time_architectures(
            wanted, folder, platform=trainer.platform, samples=_SAMPLES, seed=trainer.seed
        )
        return [one.median_ms for one in measured]

    trained = resized(trainer.load(winner, "fill").network, parent.resolution)
    pictures = list(
        training_batches(trainer, winner, resolution=parent.resolution, pictures=_PICTURES)
    )
    importance = channel_importance(trained, pictures)
    savings = measure_savings(parent, time=medians)
    found = _propose(
        winner, value, savings=savings, importance=importance, shopper=shopper, budget_ms=budget_ms
    )
    plain = {str(k): {str(w): ms for w, ms in saved.items()} for k, saved in savings.items()}
    if found is None:
        logger.info("fill: %s at %g cannot be shrunk to the budget", winner.family.name, value)
        return {"folder": None, "savings": plain}
    start = trainer.start(replace(winner, value=value), "fill")
    network = with_carried_norms(
        start,
        lambda whole: shrink_network(
            whole, found.widths, importance=importance, name=found.candidate.family
        ),
        torch.cat([images for images, _ in pictures[:_CARRYING_BATCHES]]),
    )
    saved = trainer.folder / "networks" / f"{found.candidate.architecture_digest[:16]}-start"
    save_network(
        network,
        saved,
        preprocessing=winner.family.preprocessing,
        classes=trainer.store.data.classes,
    )
    return {
        "folder": str(saved.relative_to(trainer.folder)),
        "candidate": found.candidate.model_dump(mode="json"),
        "widths": {str(position): width for position, width in found.widths.items()},
        "savings": plain,
    }


def _propose(
    winner: Entry,
    value: float,
    *,
    savings: Savings,
    importance: dict[str, NDArray[np.float64]],
    shopper: Shopper,
    budget_ms: float,
) -> _Proposal | None:
    """Return the largest proposal that measures within the target."""
    precision = winner.candidate.precision
    shopper.visit([(winner.family, precision, value)])
    present_ms = shopper.at(winner.family, precision, value).latency_ms or 0.0
    target_ms = aim_ms = shopper.target_ms(budget_ms)
    best: _Proposal | None = None
    for _ in range(_ROUNDS):
        widths = propose_widths(savings, importance, present_ms=present_ms, target_ms=aim_ms)
        if not widths:  # out of reach, or the parent is fast enough now: no gap of this kind
            break
        family = _drawn(winner, value, widths)
        shopper.confirm([(family, precision, value)])
        candidate = shopper.at(family, precision, value)
        latency_ms = candidate.latency_ms or 0.0
        logger.info(
            "fill: %s: %.3f ms, target %.3f ms: %s",
            candidate.name, latency_ms, target_ms,
            ", ".join(f"block {k}: {w or 'dropped'}" for k, w in sorted(widths.items())),
        )  # fmt: skip
        if latency_ms <= target_ms and latency_ms > (best.candidate.latency_ms or 0 if best else 0):
            best = _Proposal(widths, candidate)
        if _CLOSE * target_ms <= latency_ms <= target_ms:
            break
        aim_ms += target_ms - latency_ms
    return best


def _drawn(winner: Entry, value: float, widths: dict[int, int]) -> Family:
    """Return the shrunk parent as a family of one size."""
    architecture = shrunk(winner.family.build(value), widths)
    name = f"{winner.family.name}{SHRUNK}-{architecture.digest[:6]}"
    return replace(
        winner.family,
        name=name,
        values=(value,),
        build=lambda _: architecture.changed(name=name),
    )


def training_batches(
    trainer: Trainer, entry: Entry, *, resolution: int, pictures: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield evenly spaced training pictures as val pictures are prepared, in batches.

    Args:
        trainer: has the pictures.
        entry: whose preparation is used.
        resolution: of the pictures.
        pictures: at most this many.

    Yields:
        normalised (N, C, H, W) and labels (N,).
    """
    preprocessing = entry.family.preprocessing
    count = len(trainer.store.data.splits["train"])
    rows = spaced_rows(count, most=pictures)
    images = trainer.store.held_out("train", resolution, preprocessing, rows=rows)
    order = np.random.default_rng(trainer.seed).permutation(len(rows))
    for first in range(0, len(order), _BATCH):
        pixels, labels = images.batch(order[first : first + _BATCH])
        yield (
            normalise_batch(pixels, mean=preprocessing.mean, std=preprocessing.std),
            labels,
        )
