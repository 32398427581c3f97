"""Weights that read fewer channels than before, fitted again to what they computed.

Source: He et al. 2017, arXiv 1707.06168, section 3.1, equation 2: after the selection of channels,
the weights that read them are the least-squares fit of what the whole network gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.samples import (
    before_readers,
    draw_positions,
    read_columns,
    weight_of,
)
from featherweight.layers import Layer, layers
from featherweight.networks.channels import mixes_channels
from featherweight.nn.network import Network

__all__ = ["repair_readers"]

_POINTS = 10
"""Positions of each picture (He et al., section 3.2)."""
_RIDGE = 1e-3
"""Of the mean square of what is read: weights that the pictures say little about stay."""


def repair_readers(
    thin: Network,
    whole: Network,
    kept: Mapping[str, NDArray[np.int64]],
    pictures: Tensor,
    *,
    seed: int = 0,
) -> None:
    """Fit the weights of all layers that lost inputs, in place, from the first to the last.

    Args:
        thin: the network after the cut, in eval mode.
        whole: the network before, in eval mode.
        kept: channels of `whole` that each layer's output still has (`adapting.changes.narrow`).
        pictures: normalised (N, C, H, W).
        seed: of the positions that are looked at.
    """
    wanted = _wanted(whole, kept, pictures, seed=seed)
    narrowed = [
        layer
        for layer in layers(thin.architecture)
        if layer.name in wanted
        and weight_of(thin, layer).shape[1] < weight_of(whole, layer).shape[1]
    ]

    def repair(layer: Layer, x: Tensor) -> None:
        positions = _positions(layer, x, seed=seed)
        read = read_columns(thin, layer, x, positions).double()
        weight = weight_of(thin, layer)
        fitted = [
            _fitted(part.flatten(1), filters.detach().double().flatten(1), target)
            for part, filters, target in zip(
                read.chunk(layer.groups, dim=1),
                weight.chunk(layer.groups),
                wanted[layer.name].chunk(layer.groups, dim=1),
                strict=True,
            )
        ]
        weight.data.copy_(torch.cat(fitted).reshape(weight.shape))

    with before_readers(thin, narrowed, repair):
        thin(pictures)


def _wanted(
    whole: Network, kept: Mapping[str, NDArray[np.int64]], pictures: Tensor, *, seed: int
) -> dict[str, Tensor]:
    """Return what layers compute of their inputs at positions, (P, O): of the outputs kept."""
    found: dict[str, Tensor] = {}

    def visit(layer: Layer, x: Tensor) -> None:
        read = read_columns(whole, layer, x, _positions(layer, x, seed=seed)).double()
        filters = weight_of(whole, layer).detach().double()
        outputs = [
            part.flatten(1) @ own.flatten(1).T
            for part, own in zip(
                read.chunk(layer.groups, dim=1), filters.chunk(layer.groups), strict=True
            )
        ]
        rows = torch.from_numpy(kept[layer.name])
        found[layer.name] = torch.cat(outputs, dim=1)[:, rows]

    readers = [
        layer
        for layer in layers(whole.architecture)
        if mixes_channels(layer) and layer.name in kept
    ]
    with before_readers(whole, readers, visit):
        whole(pictures)
    return found


def _positions(layer: Layer, x: Tensor, *, seed: int) -> Tensor:
    return draw_positions(layer, pictures=len(x), points=_POINTS, seed=seed)


def _fitted(read: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Return the weights (O, I K) nearest to the present ones that give the target (P, O)."""
    gram = read.T @ read
    size = _RIDGE * float(gram.diagonal().mean())
    if size <= 0.0:
        return weight
    gram.diagonal().add_(size)
    missing = target - read @ weight.T
    change: Tensor = torch.linalg.solve(gram, read.T @ missing).T
    return weight + change
