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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from featherweight.nn.network import Network

__all__ = ["Seen", "move_norms", "norms_seen", "with_carried_norms"]

_LEAST_SHARE = 0.01
"""Of a variance: what the pictures do not show of it cannot be seen to change either."""

Visit = Callable[[str, nn.BatchNorm2d, Tensor, Tensor], None]
"""Gets a norm with its name, and the mean and variance of its input, (C,) each."""

Seen = Mapping[str, tuple[Tensor, Tensor]]
"""Norm -> mean and variance of its input on some pictures, (C,) each."""


def with_carried_norms(
    parent: Network,
    cut: Callable[[Network], Network],
    images: Tensor,
    *,
    plainly: Callable[[Network], Network] | None = None,
) -> Network:
    """Return the cut network, in eval mode, with the parent's statistics, moved as the cut did.

    Args:
        parent: with statistics that fit it; it stays as it is.
        cut: network -> a copy without some channels or blocks. What it leaves out must not depend
            on the means and biases of norms.
        images: normalised pictures, (N, C, H, W), of all kinds there are; about a hundred.
        plainly: the same cut, where `cut` changes weights as well; `None` = it does not.
    """
    seen = norms_seen(parent, images)
    carrier = copy.deepcopy(parent)  # the numbers travel through the cut as means and biases
    with torch.no_grad():
        for name, (mean, variance) in seen.items():
            norm = carrier.get_submodule(name)
            norm.get_buffer("running_mean").copy_(mean)
            norm.get_parameter("bias").copy_(variance)
    carried = {
        name: (module.get_buffer("running_mean"), module.get_parameter("bias").detach())
        for name, module in (plainly or cut)(carrier).named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    thin = cut(parent).eval()
    move_norms(thin, carried, images)
    return thin


def norms_seen(network: Network, images: Tensor) -> Seen:
    """Return what every norm sees of normalised pictures, (N, C, H, W), in eval mode."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str, _: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        seen[name] = mean, variance

    training = network.training
    try:
        with torch.no_grad(), _before_norms(network.eval(), record):
            network(images)
    finally:
        network.train(training)
    return seen


def move_norms(thin: Network, before: Seen, images: Tensor) -> None:
    """Move the statistics of a network's norms by what a cut moved their inputs, in place.

    Args:
        thin: in eval mode, with the statistics of the network before the cut.
        before: what its norms saw before the cut, of the channels that are left.
        images: the same pictures.
    """

    def move(name: str, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        then_mean, then_variance = before[name]
        running_mean, running_var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        floor = _LEAST_SHARE * (running_var + norm.eps)
        running_mean += mean - then_mean
        running_var *= (variance + floor) / (then_variance + floor)

    # Each norm moves before it computes what the next one sees.
    with torch.no_grad(), _before_norms(thin, move):
        thin(images)


@contextmanager
def _before_norms(network: Network, visit: Visit) -> Iterator[None]:
    """Call `visit` for every norm of a network, in eval mode, right before it computes."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.BatchNorm2d)
            variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
            visit(name, module, mean, variance)

        return look

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
