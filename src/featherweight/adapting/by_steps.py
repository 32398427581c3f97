"""Make a network that is too slow faster step by step, each tried on pictures (NetAdapt).

The other way beside `adapting.by_knapsack`: not all widths at once by importance. It needs time
for many short trainings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from featherweight.adapting.netadapt import Adapted, netadapt
from featherweight.adapting.savings import Saving
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.nn.network import Network

__all__ = ["adapt_by_steps", "mean_loss", "tune_briefly"]

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]

_LEARNING_RATE = 2e-3
_MOMENTUM = 0.9


def adapt_by_steps(
    network: Network,
    *,
    judging: Sequence[Batch],
    tuning: Sequence[Batch],
    savings: Sequence[Saving],
    time_network: Callable[[Architecture], Latency],
    target_ms: float,
    within_s: float,
    loss: Loss,
) -> Adapted:
    """Adapt a network to a latency.

    Args:
        network: where it starts; it stays as it is.
        judging: pictures, normalised (N, C, H, W), with targets (N, ...), that compare proposals.
        tuning: others, that proposals are fine-tuned on.
        savings: measured block by block (`measure_savings`).
        time_network: measures a whole network as it would ship.
        target_ms: latency that is asked for.
        within_s: no further step begins after this time.
        loss: mean loss of a network's answers to a batch, from them and its targets.

    Returns:
        what was reached, which may be above the target.
    """
    deadline = time.monotonic() + within_s
    return netadapt(
        network,
        savings,
        target_ms=target_ms,
        clock=time_network,
        tune=lambda proposal: tune_briefly(proposal, tuning, loss=loss),
        loss=lambda proposal: mean_loss(proposal, judging, loss=loss),
        is_over=lambda: time.monotonic() > deadline,
    )


def tune_briefly(network: Network, batches: Sequence[Batch], *, loss: Loss) -> None:
    """Take one step of SGD on each batch, in place; norms keep their statistics.

    A step cuts too little to move them much, and pictures of one kind are no measure of them
    (docs/adr/0012-norm-statistics.md); scales and biases follow.
    """
    network.eval()
    optimiser = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM)
    for images, targets in batches:
        optimiser.zero_grad(set_to_none=True)
        loss(network(images), targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@torch.no_grad()
def mean_loss(network: Network, batches: Sequence[Batch], *, loss: Loss) -> float:
    """Return the mean loss over the pictures of all batches."""
    total = sum(float(loss(network(images), targets)) * len(targets) for images, targets in batches)
    return total / sum(len(targets) for _, targets in batches)
