"""Norm statistics of a network that lost channels or blocks, from a few pictures of one kind.

A network's norms hold the mean and variance that their inputs had on the pictures it was trained
on. When something before a norm is cut away, its input changes. Taken anew from pictures of one
kind the statistics would be wrong in another way: channels that such pictures leave nearly
constant would be divided by a spread close to zero (docs/adr/0012-norm-statistics.md). So only the
change is taken from the pictures: each mean moves by what the cut moved it, and each variance is
multiplied by what the cut multiplied it with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from featherweight.networks.slicing import norms_of
from featherweight.nn.network import Network

__all__ = ["with_carried_norms"]

_LEAST_SHARE = 0.01
"""Of a variance: what the pictures do not show of it cannot be seen to change either."""

Visit = Callable[[nn.BatchNorm2d, Tensor, Tensor], None]
"""Gets a norm, and the mean and variance of its input, (C,) each."""


@torch.no_grad()
def with_carried_norms(
    parent: Network, cut: Callable[[Network], Network], images: Tensor
) -> Network:
    """Return the cut network, in eval mode, with the parent's statistics, moved as the cut did.

    Args:
        parent: with statistics that fit it; it stays as it is.
        cut: network -> a copy without some channels or blocks. What it leaves out must not depend
            on the means of norms.
        images: normalised pictures, (N, C, H, W), of all kinds there are; about a hundred.
    """
    means: list[Tensor] = []
    variances: list[Tensor] = []

    def record(_: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        means.append(mean)
        variances.append(variance)

    watched = copy.deepcopy(parent).eval()
    with _before_norms(watched, record):
        watched(images)
    thin = cut(parent).eval()
    before = dict(
        zip(
            norms_of(thin),
            zip(
                _cut_numbers(parent, cut, means), _cut_numbers(parent, cut, variances), strict=True
            ),
            strict=True,
        )
    )

    def move(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        then_mean, then_variance = before[norm]
        running_mean, running_var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        floor = _LEAST_SHARE * (running_var + norm.eps)
        running_mean += mean - then_mean
        running_var *= (variance + floor) / (then_variance + floor)

    with _before_norms(thin, move):  # each norm moves before it computes what the next one sees
        thin(images)
    return thin


def _cut_numbers(
    parent: Network, cut: Callable[[Network], Network], numbers: Sequence[Tensor]
) -> list[Tensor]:
    """Return what a cut leaves of one number per channel and norm: they travel as means."""
    carrier = copy.deepcopy(parent)
    for norm, values in zip(norms_of(carrier), numbers, strict=True):
        norm.get_buffer("running_mean").copy_(values)
    return [norm.get_buffer("running_mean") for norm in norms_of(cut(carrier))]


@contextmanager
def _before_norms(network: Network, visit: Visit) -> Iterator[None]:
    """Call `visit` for every norm of a network, in eval mode, right before it computes."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        visit(module, inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False))

    handles = [norm.register_forward_pre_hook(hook) for norm in norms_of(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
