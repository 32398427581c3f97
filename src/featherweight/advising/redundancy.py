"""How redundant the maps of a trained network are, on real pictures: `profile --redundancy`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight.adapting.redundancy import (
    Covariance,
    effective_rank,
    most_similar,
    unexplained_shares,
)
from featherweight.adapting.samples import covariances
from featherweight.arguments import check_seed, to_data, to_path
from featherweight.data.augmentation import normalise_batch
from featherweight.errors import DataError, UsageError
from featherweight.layers import layers
from featherweight.networks.channels import mixes_channels
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import load_network, recorded_seed
from featherweight.nn.network import Network
from featherweight.records import Record
from featherweight.tasks.task import load_data
from featherweight.training.pixels import open_store

__all__ = [
    "FEWEST_PICTURES",
    "LayerRedundancy",
    "MapPair",
    "PairOfMaps",
    "Redundancy",
    "Seen",
    "measure_redundancy",
    "redundancy",
    "similar_maps",
]

FEWEST_PICTURES = 32
_MOST_PICTURES = 256
_EXPLAINED = 0.01
"""A map counts as explained where a linear map of the others misses less of its variance."""
_PLACES_EACH = 4
"""Positions for each channel that are enough to tell what the others explain."""
_PAIRS = 3
_FEWEST_IN_BATCH, _BATCH_POSITIONS = 16, 64 * 32 * 32
"""Pictures at once: more of small ones, whose layers are short."""


class MapPair(Record):
    """Two maps of a layer that say nearly the same, and their correlation."""

    first: int
    second: int
    correlation: float


class LayerRedundancy(Record):
    """The maps that some layer reads.

    Attributes:
        layer: that writes them (an activation, where there is one).
        channels: how many there are.
        constant: how many of them are the same everywhere.
        effective_rank: directions that they fill (Roy and Vetterli 2007); at most `channels`.
        explained_share: of the maps, how many a linear map of the others gives to 1 %; `None` =
            fewer than four positions were seen for each of them, of which nearly anything follows.
        pairs: the most similar, no map in two of them.
    """

    layer: str
    channels: int
    constant: int
    effective_rank: float
    explained_share: float | None
    pairs: tuple[MapPair, ...]


class Redundancy(Record):
    """What the maps of a network repeat.

    Attributes:
        network: its name.
        split: of the pictures.
        pictures: how many were looked at.
        layers: every map that convolutions and linear layers read, in their order.
    """

    network: str
    split: str
    pictures: int
    layers: tuple[LayerRedundancy, ...]


class PairOfMaps(NamedTuple):
    """Two similar maps of one picture, (H, W) each, in 0..1."""

    layer: str
    pair: MapPair
    maps: tuple[NDArray[np.float32], NDArray[np.float32]]


class Seen(NamedTuple):
    """What was found, a picture (S, S, C) uint8, and similar maps of it."""

    found: Redundancy
    picture: NDArray[np.uint8]
    maps: tuple[PairOfMaps, ...]


def redundancy(
    network: str | Path, *, data: str | Path, split: str = "val", seed: int | None = None
) -> Seen:
    """Say how redundant the maps of a trained network are.

    Args:
        network: run directory of a trained classifier.
        data: pictures; their classes do not matter.
        split: whose pictures, up to 256 of them.
        seed: of the splits; by default the training's.

    Raises:
        UsageError: no trained classifier there, or an unknown split.
        DataError: fewer than 32 pictures, or pictures with other channels than the network's.
    """
    folder, source = to_path(network, name="network"), to_data(data)
    if not (folder / "network.json").is_file():
        raise UsageError(
            f"{network} is not trained: what its maps repeat cannot be told",
            allowed="the run directory of a trained classifier",
            hint=f"train it first: featherweight train DATA --model {network}",
        )
    stored = load_network(folder)
    seed = recorded_seed(folder) if seed is None else check_seed(seed)
    images = load_data(source, seed=seed)
    if split not in images.splits:
        raise UsageError(f"no split named {split!r}", allowed=", ".join(images.splits))
    held = open_store(images).held_out(
        split, stored.classifier.architecture.resolution, stored.preprocessing
    )
    order = np.random.default_rng(seed).permutation(len(held))[:_MOST_PICTURES]
    pixels = np.ascontiguousarray(held.pixels[np.sort(order)])
    found = measure_redundancy(stored.classifier, pixels, stored.preprocessing, split=split)
    return Seen(
        found, pixels[0], similar_maps(stored.classifier, pixels[0], stored.preprocessing, found)
    )


def measure_redundancy(
    network: Network,
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    *,
    split: str = "",
) -> Redundancy:
    """Return what the maps of a network repeat on pictures.

    Args:
        network: trained, in eval mode.
        pixels: uint8 (N, S, S, C), of the network's size.
        preprocessing: of the network.
        split: what the pictures are called.

    Raises:
        DataError: fewer than 32 pictures, or pictures with other channels than the network's.
    """
    wanted = network.architecture.input_shape[0]
    if len(pixels) < FEWEST_PICTURES:
        raise DataError(
            f"{len(pixels)} pictures are too few to tell what maps repeat",
            allowed=f"{FEWEST_PICTURES} or more",
        )
    if pixels.shape[3] != wanted:
        raise DataError(
            f"pictures with {pixels.shape[3]} channels",
            allowed=f"{wanted} channels ({network.architecture.name})",
        )
    listed = layers(network.architecture)
    readers = [layer for layer in listed if mixes_channels(layer) and layer.inputs[0] != "input"]
    size = max(_FEWEST_IN_BATCH, _BATCH_POSITIONS // (pixels.shape[1] * pixels.shape[2]))
    batches = (
        normalise_batch(
            torch.from_numpy(pixels[first : first + size]),
            mean=preprocessing.mean,
            std=preprocessing.std,
        )
        for first in range(0, len(pixels), size)
    )
    grams = covariances(network, readers, batches, count=len(pixels))
    order = {layer.name: place for place, layer in enumerate(listed)}
    return Redundancy(
        network=network.architecture.name,
        split=split,
        pictures=len(pixels),
        layers=tuple(_layer(name, grams[name]) for name in sorted(grams, key=order.__getitem__)),
    )


def _layer(name: str, gathered: Covariance) -> LayerRedundancy:
    covariance = gathered.matrix
    is_enough = gathered.count >= _PLACES_EACH * len(covariance)
    unexplained = unexplained_shares(covariance)
    return LayerRedundancy(
        layer=name,
        channels=len(covariance),
        constant=int((unexplained == 0.0).sum()),
        effective_rank=effective_rank(covariance),
        explained_share=float((unexplained < _EXPLAINED).mean()) if is_enough else None,
        pairs=tuple(
            MapPair(first=one.first, second=one.second, correlation=one.correlation)
            for one in most_similar(covariance, _PAIRS)
        ),
    )


def similar_maps(
    network: Network,
    picture: NDArray[np.uint8],
    preprocessing: Preprocessing,
    found: Redundancy,
) -> tuple[PairOfMaps, ...]:
    """Return the similar maps of one picture, of every layer whose maps have a shape.

    Args:
        network: see `measure_redundancy`.
        picture: uint8 (S, S, C).
        preprocessing: of the network.
        found: what was measured.
    """
    chosen = [one for one in found.layers if one.pairs]
    image = normalise_batch(
        torch.from_numpy(picture[None]), mean=preprocessing.mean, std=preprocessing.std
    )
    with torch.no_grad():
        outputs = network.forward_layers(image, [one.layer for one in chosen]) if chosen else []
    return tuple(
        PairOfMaps(one.layer, pair, (_shown(output[0, pair.first]), _shown(output[0, pair.second])))
        for one, output in zip(chosen, outputs, strict=True)
        if output.dim() == 4 and output.shape[-1] > 1
        for pair in one.pairs
    )


def _shown(values: torch.Tensor) -> NDArray[np.float32]:
    low, high = values.min(), values.max()
    return np.asarray(((values - low) / (high - low).clamp_min(1e-12)).numpy(), dtype=np.float32)
