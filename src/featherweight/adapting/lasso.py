"""Channel selection by LASSO on feature maps.

Source: He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017,
arXiv 1707.06168: a layer's outputs at sampled positions are the sum of its channels' contributions;
LASSO finds which few of them reconstruct it. (The weights that read them are then fitted by least
squares: `adapting.repair`.)
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path
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

__all__ = ["entry_order"]

_POINTS = 10
"""Positions of each picture (He et al., section 3.2)."""
_PENALTIES = 25
"""On a logarithmic scale: each is a quarter below the one before."""
_LEAST_PENALTY = 1e-3
"""Over that at which nothing is used."""
_TOLERANCE = 1e-2
_SWEEPS = 200
"""Of coordinate descent at each penalty, at most."""
_TIE = 0.1
"""Less than two penalties are apart."""


def entry_order(network: Network, pictures: Tensor, *, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return, of every map that a layer reads, how early each channel enters the LASSO path.

    Args:
        network: in eval mode.
        pictures: normalised (N, C, H, W).
        seed: of the positions.

    Returns:
        map -> the penalty at which each channel enters, over that of the first, summed over all
        layers that read the map; 0 = never.
    """
    found: dict[str, NDArray[np.float64]] = {}
    readers = [layer for layer in layers(network.architecture) if mixes_channels(layer)]

    def visit(layer: Layer, x: Tensor) -> None:
        positions = draw_positions(layer, pictures=len(x), points=_POINTS, seed=seed)
        read = read_columns(network, layer, x, positions).double()
        parts = zip(
            (read - read.mean(0)).chunk(layer.groups, dim=1),
            weight_of(network, layer).detach().double().chunk(layer.groups),
            strict=True,
        )
        orders = [_entry_penalties(_gram(part, weight).numpy()) for part, weight in parts]
        name = layer.inputs[0]
        found[name] = found.get(name, 0.0) + np.concatenate(orders)

    with before_readers(network, readers, visit):
        network(pictures)
    return found


def _gram(read: Tensor, weight: Tensor) -> Tensor:
    """Return the products of the contributions of channels, (I, I), summed over all outputs.

    A channel's contribution to output o at a position is the sum over pixels k of x[k] w[o, k].
    """
    channels, pixels = read.shape[1:]
    flat, filters = read.flatten(1), weight.flatten(1)
    products = (flat.T @ flat) * (filters.T @ filters)
    return products.reshape(channels, pixels, channels, pixels).sum((1, 3))


def _entry_penalties(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest penalty at which each channel is used, over the largest of all.

    Of channels that enter at the same one, those with larger coefficients in the end come first.
    """
    values, vectors = np.linalg.eigh(gram)
    rows = (vectors * np.sqrt(values.clip(0.0))).T  # rows.T @ rows = gram
    target = rows.sum(1)
    largest = float(np.abs(gram.sum(1)).max()) / len(rows)
    if largest <= 0.0:
        return np.zeros(len(gram))
    penalties = np.geomspace(largest, _LEAST_PENALTY * largest, _PENALTIES)
    with warnings.catch_warnings():  # an order needs no exact coefficients
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, coefficients, _ = lasso_path(
            rows, target, alphas=penalties, precompute=gram, tol=_TOLERANCE, max_iter=_SWEEPS
        )
    sizes = np.abs(coefficients)  # (I, penalties)
    used = sizes > 0.0
    entered = np.where(used.any(1), penalties[used.argmax(1)] / largest, 0.0)
    last = sizes[:, -1] / max(float(sizes[:, -1].max()), 1e-300)
    return np.asarray(entered * (1.0 + _TIE * last), dtype=np.float64)
