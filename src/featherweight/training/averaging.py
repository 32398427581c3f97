"""The exponential moving average of a network's weights and norm statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from featherweight.networks.modules import AnyNetwork
from featherweight.networks.slicing import recalibrate_norms

__all__ = ["WeightAverage"]

_YOUNG_UPDATES = 300
"""Norms follow the last ten batches: while the weights still move fast, the mean of what they saw
belongs to no network, and the average answers nonsense (val losses above 1,000 were seen)."""


class WeightAverage:
    """A copy of a network that follows it slowly; it is what is validated and kept.

    Update t (from 0) uses decay_t = min(decay, (1 + t) / (1 / share + t)), so that a short training
    averages about this last share of it whatever `decay` is. Norm statistics are averaged like
    weights.

    Source: Shamir and Zhang 2013, arXiv 1212.1824, section 4 (polynomial-decay averaging; their eta
    is 1 / share - 1).

    Args:
        network: what to follow; it is copied.
        decay: upper limit of the decay.
        share: of the steps so far that the average is about, in 0..1.

    Attributes:
        network: the averaged network, in eval mode.
        num_updates: how often `update` was called.
    """

    def __init__(self, network: AnyNetwork, *, decay: float, share: float = 0.1) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)  # noqa: FBT003
        self.num_updates = 0
        self._decay, self._share = decay, share

    @torch.no_grad()
    def update(self, network: AnyNetwork) -> None:
        """Move the average one step towards `network`."""
        growing = (1 + self.num_updates) / (1 / self._share + self.num_updates)
        decay = min(self._decay, growing)
        averaged: list[Tensor] = []
        followed: list[Tensor] = []
        source = network.state_dict()
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(tensor)
                followed.append(source[name])
            else:  # num_batches_tracked
                tensor.copy_(source[name])
        torch._foreach_lerp_(averaged, followed, 1.0 - decay)
        self.num_updates += 1

    @property
    def is_young(self) -> bool:
        """Whether the norm statistics cannot be averaged yet: `settle` before it is asked."""
        return self.num_updates < _YOUNG_UPDATES

    def settle(self, batches: Iterable[Tensor], *, norms: Sequence[nn.BatchNorm2d]) -> None:
        """Replace averaged norm statistics by those of the averaged weights on some pictures.

        Args:
            batches: normalised training pictures (N, C, H, W), some hundred in all.
            norms: of the averaged network, that have statistics of their own.
        """
        recalibrate_norms(self.network, batches, norms=norms)
