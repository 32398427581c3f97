"""What the loss would lose with each channel: a first-order estimate from gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight.errors import UsageError
from featherweight.nn.network import Network

__all__ = ["channel_importance"]


def channel_importance(
    network: Network,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, NDArray[np.float64]]:
    """Return the importance of every channel behind a norm.

    Setting a channel to zero changes the loss by about -(gamma dL/dgamma + beta dL/dbeta); the
    square of that, averaged over the batches, is the importance of the channel, and the sum over
    channels that of a group.

    Source: Molchanov et al. 2019, arXiv 1906.10771, equation 8, with the norm as the gate; used
    with a latency table by HALP, arXiv 2110.10811.

    Args:
        network: trained for these targets; it stays as it is.
        batches: normalised pictures (N, C, H, W) and their targets (N, ...), on the CPU.
        loss: mean loss of answers to a batch, from them and its targets.

    Returns:
        name of the convolution in `layers` -> (its channels,).

    Raises:
        UsageError: no batch was given.
    """
    copied = copy.deepcopy(network).to("cpu").eval().requires_grad_(True)  # noqa: FBT003
    norms = {
        name.removesuffix(".norm"): module
        for name, module in copied.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    sums = {name: np.zeros(norm.num_features) for name, norm in norms.items()}
    seen = 0
    for images, targets in batches:
        copied.zero_grad(set_to_none=True)
        loss(copied(images), targets).backward()  # type: ignore[no-untyped-call]
        for name, norm in norms.items():
            sums[name] += _gate_gradient(norm) ** 2
        seen += 1
    if not seen:
        raise UsageError("importance cannot be estimated without pictures")
    return {name: total / seen for name, total in sums.items()}


def _gate_gradient(norm: nn.BatchNorm2d) -> NDArray[np.float64]:
    total = np.zeros(norm.num_features)
    for parameter in (norm.weight, norm.bias):
        if parameter.grad is not None:
            total += (parameter.detach() * parameter.grad).double().numpy()
    return total
