"""Which channels matter: by name, one number for every channel that can be cut.

All channels that are cut together (`networks.channels`) are one here: what a number says is what
the network loses without all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.lasso import entry_order
from featherweight.adapting.pictures import Batch
from featherweight.adapting.redundancy import worth_in_order
from featherweight.adapting.samples import covariances, weight_of
from featherweight.errors import UsageError
from featherweight.layers import Layer, layers
from featherweight.networks.channels import channels_of, mixes_channels
from featherweight.networks.slicing import filter_norms
from featherweight.nn.network import Network
from featherweight.registry import Registry

__all__ = ["IMPORTANCES", "REPAIRED", "Importance", "Loss", "channel_importance"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of answers to a batch, from them and its targets."""

Importance = Callable[[Network, Sequence[Batch], Loss, int], dict[int, float]]
"""(trained network in eval mode, batches, loss, seed) -> importance of each channel number."""

_LASSO_PICTURES = 64
"""Everything that a layer reads of them is laid out as columns at once."""

IMPORTANCES: Registry[Importance] = Registry("importance", plugins=__name__)


def channel_importance(
    network: Network,
    batches: Iterable[Batch],
    *,
    loss: Loss,
    method: str = "taylor",
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Return the importance of every channel that a convolution or linear layer gives.

    Args:
        network: trained for these targets; it stays as it is.
        batches: pictures that tell; `l2` and `random` look at none.
        loss: what the network was trained for.
        method: a name in `IMPORTANCES`: `taylor`, `gradient`, `lasso`, `l2`, `redundancy`,
            `random`.
        seed: of `random` and of what `lasso` looks at.

    Returns:
        name of the layer in `layers` -> (its channels,); tied channels have the same number.

    Raises:
        UsageError: an unknown method, or no batch was given to one that needs pictures.
    """
    estimate = IMPORTANCES[method]
    copied = copy.deepcopy(network).to("cpu").eval().requires_grad_(True)  # noqa: FBT003
    worth = estimate(copied, tuple(batches), loss, seed)
    numbers = channels_of(network.architecture).numbers
    return {
        layer.name: np.array([worth.get(number, 0.0) for number in numbers[layer.name]])
        for layer in layers(network.architecture)
        if layer.op in {"conv", "linear"}
    }


def _taylor(network: Network, batches: Sequence[Batch], loss: Loss, _seed: int) -> dict[int, float]:
    """Square of the first-order change of the loss where a channel is zero for all its readers.

    The change is the sum of w dL/dw over all weights that read the channel: for a layer y = W x it
    equals the sum of x dL/dx, whatever lies before it. Averaged over batches.

    Source: Molchanov et al. 2019, arXiv 1906.10771, equations 5 to 8; here at the readers, where
    channels that are added to each other are one. Used with a latency table by HALP, arXiv
    2110.10811.
    """
    numbers = channels_of(network.architecture).numbers
    readers = [layer for layer in layers(network.architecture) if mixes_channels(layer)]

    def change() -> dict[int, float]:
        found: dict[int, float] = {}
        for layer in readers:
            shares = _column_sums(_products(network, layer), layer)
            for number, share in zip(numbers[layer.inputs[0]], shares.tolist(), strict=True):
                found[number] = found.get(number, 0.0) + share
        return {number: total**2 for number, total in found.items()}

    return _mean_over(network, batches, loss, change)


def _gradient(
    network: Network, batches: Sequence[Batch], loss: Loss, _seed: int
) -> dict[int, float]:
    """Sum of (w dL/dw)^2 over the weights of the filters that compute a channel.

    Source: Molchanov et al. 2019, arXiv 1906.10771, equation 8, weight by weight; averaged over
    batches.
    """
    numbers = channels_of(network.architecture).numbers
    writers = [layer for layer in layers(network.architecture) if layer.op in {"conv", "linear"}]

    def change() -> dict[int, float]:
        found: dict[int, float] = {}
        for layer in writers:
            squares = _products(network, layer).square().flatten(1).sum(1)
            for number, square in zip(numbers[layer.name], squares.tolist(), strict=True):
                found[number] = found.get(number, 0.0) + square
        return found

    return _mean_over(network, batches, loss, change)


def _l2(network: Network, _batches: Sequence[Batch], _loss: Loss, _seed: int) -> dict[int, float]:
    """L2 norm of the filters that compute a channel, with their norms, over their layer's mean.

    Source: NetAdapt, arXiv 1804.03230, section 3.3.
    """
    return filter_norms(network)


def _random(
    network: Network, _batches: Sequence[Batch], _loss: Loss, seed: int
) -> dict[int, float]:
    """Drawn: what the others have to be better than."""
    generator = np.random.default_rng(seed)
    distinct = sorted(
        {number for given in channels_of(network.architecture).numbers.values() for number in given}
    )
    return dict(zip(distinct, generator.random(len(distinct)).tolist(), strict=True))


def _lasso(network: Network, batches: Sequence[Batch], _loss: Loss, seed: int) -> dict[int, float]:
    """How early a channel enters the sparsest reconstruction of what its readers compute.

    Source: He et al. 2017, arXiv 1707.06168, section 3.1 (see `adapting.lasso`).
    """
    _check(batches)
    numbers = channels_of(network.architecture).numbers
    found: dict[int, float] = {}
    pictures = torch.cat([images for images, _ in batches])[:_LASSO_PICTURES]
    for layer, order in entry_order(network, pictures, seed=seed).items():
        for number, worth in zip(numbers[layer], order.tolist(), strict=True):
            found[number] = found.get(number, 0.0) + worth
    return found


def _redundancy(
    network: Network, batches: Sequence[Batch], _loss: Loss, _seed: int
) -> dict[int, float]:
    """What the other channels of a map cannot give by a linear map, as its readers weigh it.

    Channels that say the same go one after the other (`adapting.redundancy`); over all layers that
    read the map.

    Source: GhostNet, arXiv 1911.11907, section 3.1, for the idea; the measure is our own.
    """
    _check(batches)
    numbers = channels_of(network.architecture).numbers
    readers = [layer for layer in layers(network.architecture) if mixes_channels(layer)]
    found: dict[int, float] = {}
    grams = covariances(network, readers, (images for images, _ in batches))
    for layer in readers:
        gathered = grams[layer.inputs[0]]
        covariance = gathered.matrix
        squares = _column_sums(weight_of(network, layer).detach().double().square(), layer)
        worth = worth_in_order(covariance, squares.numpy(), count=gathered.count)
        scale = max(float((np.diag(covariance) * squares.numpy()).sum()), 1e-300)
        for number, lost in zip(numbers[layer.inputs[0]], (worth / scale).tolist(), strict=True):
            found[number] = found.get(number, 0.0) + lost
    return found


def _products(network: Network, layer: Layer) -> Tensor:
    """Return w dL/dw of a layer, (O, I / groups, ...)."""
    weight = weight_of(network, layer)
    if weight.grad is None:  # nothing that it computes reaches the answer
        return torch.zeros_like(weight, dtype=torch.float64)
    return weight.detach().double() * weight.grad.double()


def _column_sums(products: Tensor, layer: Layer) -> Tensor:
    """Return the sums over all weights that read each input channel."""
    parts = products.flatten(2) if products.dim() > 2 else products[..., None]
    sums = torch.cat([part.sum((0, 2)) for part in parts.chunk(layer.groups)])
    return sums.reshape(layer.input_shape[0], -1).sum(1)


def _mean_over(
    network: Network,
    batches: Sequence[Batch],
    loss: Loss,
    change: Callable[[], dict[int, float]],
) -> dict[int, float]:
    """Return the mean over batches of what `change` reads from the gradients."""
    _check(batches)
    total: dict[int, float] = {}
    for images, targets in batches:
        network.zero_grad(set_to_none=True)
        loss(network(images), targets).backward()  # type: ignore[no-untyped-call]
        for number, value in change().items():
            total[number] = total.get(number, 0.0) + value
    return {number: value / len(batches) for number, value in total.items()}


def _check(batches: Sequence[Batch]) -> None:
    if not batches:
        raise UsageError("importance cannot be estimated without pictures")


REPAIRED = frozenset({"lasso", "redundancy"})
"""Those that count on the weights which lose inputs being fitted again (`adapting.repair`)."""

IMPORTANCES.add("taylor", _taylor)
IMPORTANCES.add("gradient", _gradient)
IMPORTANCES.add("lasso", _lasso)
IMPORTANCES.add("l2", _l2)
IMPORTANCES.add("redundancy", _redundancy)
IMPORTANCES.add("random", _random)
