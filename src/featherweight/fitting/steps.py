"""NetAdapt inside a fit: the winner, at a resolution too slow for the budget, made faster.

The other way to fill the gap beside `fitting.shrinking`: not all widths at once by importance, but
step by step, each tried on pictures. It needs time for many short trainings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.adapting.netadapt import Adapted, Timed, netadapt
from featherweight.adapting.savings import Savings
from featherweight.architecture import Architecture
from featherweight.fitting.families import SHRUNK, Family
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.shop import Shopper
from featherweight.fitting.shrinking import training_batches
from featherweight.fitting.timing import time_architectures
from featherweight.networks.storage import save_network
from featherweight.nn.network import Network, resized

__all__ = ["adapt_parent", "mean_loss", "tune_briefly"]

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]

_PICTURES = 320
"""Training pictures, of which `_HELD_OUT` judge proposals and the others fine-tune them."""
_HELD_OUT = 0.6
"""Telling proposals apart takes more pictures than a first fine-tuning does."""
_LEARNING_RATE = 2e-3
_MOMENTUM = 0.9
_SAMPLES = 60


def adapt_parent(
    winner: Entry,
    value: float,
    *,
    savings: Savings,
    trainer: Trainer,
    shopper: Shopper,
    budget_ms: float,
    within_s: float,
) -> dict[str, Any]:
    """Adapt the winner, at a resolution that is too slow, to the budget.

    Args:
        winner: trained in phase `fill`: the steps start from those weights.
        value: the parent's resolution.
        savings: measured block by block.
        trainer: has the weights, the pictures and the platform.
        shopper: measures what comes out.
        budget_ms: the budget.
        within_s: no further step begins after this time.

    Returns:
        `folder` of the saved network, relative to the run (`None` = nothing fits), its `candidate`
        and the `steps`.
    """
    parent = winner.family.build(value)
    precision = winner.candidate.precision

    def clock(architecture: Architecture) -> Timed:
        (one,) = time_architectures(
            [(architecture.name, architecture, precision)],
            trainer.folder / "artifacts" / "fill",
            platform=trainer.platform, samples=_SAMPLES, seed=trainer.seed,
        )  # fmt: skip
        return Timed(one.median_ms, *one.interval_ms)

    batches = list(
        training_batches(trainer, winner, resolution=parent.resolution, pictures=_PICTURES)
    )
    held = max(1, round(_HELD_OUT * len(batches)))
    judging, tuning = batches[:held], batches[held:]
    deadline = time.monotonic() + within_s
    adapted = netadapt(
        resized(trainer.load(winner, "fill").network, parent.resolution),
        savings,
        target_ms=shopper.target_ms(budget_ms),
        clock=clock,
        tune=lambda network: tune_briefly(network, tuning),
        loss=lambda network: mean_loss(network, judging),
        is_over=lambda: time.monotonic() > deadline,
    )
    plain = {"steps": [_plain(step) for step in adapted.steps]}
    if not adapted.steps or adapted.timed.median_ms > shopper.target_ms(budget_ms):
        logger.info("fill: %s at %g: the steps end above the budget", winner.family.name, value)
        return {"folder": None, **plain}
    family = _drawn(winner, value, adapted)
    shopper.confirm([(family, precision, value)])
    candidate = shopper.at(family, precision, value)
    if (candidate.latency_ms or 0.0) > shopper.target_ms(budget_ms):
        return {"folder": None, **plain}
    network = Network(family.build(value))
    network.load_state_dict(adapted.network.state_dict())
    saved = trainer.folder / "networks" / f"{candidate.architecture_digest[:16]}-start"
    save_network(
        network.eval(), saved, preprocessing=winner.family.preprocessing,
        classes=trainer.store.data.classes,
    )  # fmt: skip
    return {
        "folder": str(saved.relative_to(trainer.folder)),
        "candidate": candidate.model_dump(mode="json"),
        **plain,
    }


def tune_briefly(network: Network, batches: Sequence[Batch]) -> None:
    """Take one step of SGD on each batch, in place; norms keep their statistics.

    A step cuts too little to move them much, and pictures of one kind are no measure of them
    (docs/adr/0012-norm-statistics.md); scales and biases follow.
    """
    network.eval()
    optimiser = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM)
    for images, labels in batches:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@torch.no_grad()
def mean_loss(network: Network, batches: Sequence[Batch]) -> float:
    """Return the mean cross entropy over the pictures of all batches."""
    total = sum(
        float(nn.functional.cross_entropy(network(images), labels, reduction="sum"))
        for images, labels in batches
    )
    return total / sum(len(labels) for _, labels in batches)


def _drawn(winner: Entry, value: float, adapted: Adapted) -> Family:
    """Return what the steps made as a family of one size."""
    architecture = adapted.network.architecture
    name = f"{winner.family.name}{SHRUNK}-{architecture.digest[:6]}"
    return replace(
        winner.family, name=name, values=(value,), build=lambda _: architecture.changed(name=name)
    )


def _plain(step: Any) -> dict[str, Any]:
    return {
        "block": step.position, "width": step.width, "loss": step.loss,
        "median_ms": step.timed.median_ms, "tried": step.tried, "rejected": step.rejected,
    }  # fmt: skip
