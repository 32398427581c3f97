"""First weights that suit the pictures: of a training from scratch, and of a new classifier.

Source of the first: Jordan 2024, arXiv 2404.00498, section 3: a whitening first layer and
identity ("dirac") filters, two of what makes its trainings short.

Deviations: the first convolution keeps its kernel and stays trainable; its norm follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from featherweight.data.augmentation import Augmentation, augment_batch
from featherweight.data.rows import spaced_rows
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import read_weights
from featherweight.nn.network import Network
from featherweight.records import write_bytes
from featherweight.training.evaluate import TrainingImages

__all__ = [
    "FIRST_WEIGHTS",
    "kept_first_weights",
    "save_classifier",
    "suit_to_pictures",
    "with_classifier",
]

FIRST_WEIGHTS = "first_weights.safetensors"
"""Name of the file in the directory of a training from scratch."""

_PIXELS = 512 * 32 * 32  # of all pictures together: 512 of CIFAR, ten of 224 x 224
_FEWEST = 10  # pictures
_PATCHES = 100_000
_LEAST_VARIANCE = 5e-4
"""Added to the variance of every direction, so that noise is not enlarged without bound."""


def kept_first_weights(directory: Path, draw: Callable[[], Network]) -> Network:
    """Return what `draw` gives, or what it gave in an earlier attempt of the same training.

    First weights that come from linear algebra may differ in the last bit on another CPU or with
    other threads; a resumed training must start from the same ones.

    Raises:
        FailedError: the file cannot be written (disk full).
    """
    path = directory / FIRST_WEIGHTS
    network = draw()
    if path.exists():
        network.load_state_dict(load(read_weights(path)))
    else:
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        write_bytes(path, save(weights))
    return network


def save_classifier(path: Path, weight: Tensor, bias: Tensor) -> None:
    """Write a classifier (K, F) and (K,) for `with_classifier`.

    Raises:
        FailedError: the file cannot be written (disk full).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save({"weight": weight.contiguous(), "bias": bias.contiguous()}))


def with_classifier(network: Network, path: Path) -> Network:
    """Return the network, its classifier replaced by the one that `save_classifier` wrote."""
    kept = load(read_weights(path))
    parts = {"classifier.weight": kept["weight"], "classifier.bias": kept["bias"]}
    network.load_state_dict({**network.state_dict(), **parts})
    return network


@torch.no_grad()
def suit_to_pictures(
    network: Network, images: TrainingImages, *, preprocessing: Preprocessing
) -> Network:
    """Set the first convolution to whitening filters and the later dense ones to identity.

    The first dense k x k convolution gets the principal directions of the pictures' patches, each
    scaled to unit variance and each with its negative (a ReLU follows). In every later dense
    convolution with k > 1, the first filters pass their input channels on; filters beyond the
    number of inputs stay random. Depthwise and 1 x 1 convolutions stay as drawn.

    Args:
        network: freshly drawn; its weights are changed in place.
        images: training pictures, (N, S, S, C), of any size.
        preprocessing: of the network's input.

    Returns:
        the same network.
    """
    dense = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.kernel_size != (1, 1)
    ]
    if not dense:
        return network
    first = dense[0]
    if first.in_channels == images.pixels.shape[3]:
        _whiten(first, _sample(images, network.architecture.resolution, preprocessing))
    for later in dense[1:]:
        nn.init.dirac_(later.weight[: later.in_channels])
    return network


def _sample(images: TrainingImages, size: int, preprocessing: Preprocessing) -> Tensor:
    """Return evenly spaced pictures as the network sees them, (n, C, size, size)."""
    count = min(len(images), max(_FEWEST, _PIXELS // size**2))
    rows = spaced_rows(len(images), most=count)
    sample = images.batch(rows)
    return augment_batch(
        sample.pixels,
        size=size,
        augmentation=Augmentation(),
        generator=torch.Generator(),
        mean=preprocessing.mean,
        std=preprocessing.std,
        aspects=sample.aspects,
    )


def _whiten(convolution: nn.Conv2d, inputs: Tensor) -> None:
    directions = _principal_directions(inputs, kernel_size=convolution.kernel_size[0])
    pairs = min(len(directions), convolution.out_channels // 2)
    chosen = directions[:pairs].view(pairs, *convolution.weight.shape[1:])
    convolution.weight[:pairs] = chosen
    convolution.weight[pairs : 2 * pairs] = -chosen


def _principal_directions(inputs: Tensor, *, kernel_size: int) -> Tensor:
    """Return filters (C * k * k, C * k * k) of unit output variance, largest variance first."""
    patches = functional.unfold(inputs.contiguous(), kernel_size)  # (n, C * k * k, places)
    patches = patches.transpose(0, 1).flatten(1)
    # Drawn, not every n-th: a regular grid would meet the same places of every picture.
    drawn = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))
    some = patches[:, drawn[:_PATCHES]].double()
    variances, vectors = torch.linalg.eigh(torch.cov(some))
    filters: Tensor = vectors.T / (variances.clamp_min(0.0) + _LEAST_VARIANCE).sqrt()[:, None]
    return filters.flip(0).float()
