"""A classifier that suits the file it ships in: fitted again where that makes the file better.

A network that ships at another resolution than it was trained at emits other features than its
classifier has learnt; one that was trained for a minute has a classifier that has learnt little.
Both are put right in seconds, because only the classifier is fitted, on features that the file
itself emits.

Source: Touvron et al. 2019, arXiv 1906.06423, section 4 (a network used at another resolution:
only its last layers are fitted again).
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight.data.rows import spaced_rows
from featherweight.fitting.features import load_features
from featherweight.fitting.race import Entry, Trainer, file_losses
from featherweight.nn.network import Network
from featherweight.profiling.profile import profile
from featherweight.training.refit import refit_classifier

__all__ = ["pictures_to_see", "with_fitted_classifier"]

logger = logging.getLogger(__name__)

_MOST_PICTURES = 1500
_FEWEST_PICTURES = 300
_MOST_MACS = 1.5e12
"""Of all pictures together, about half a minute: a network of 5G sees the fewest pictures."""


def with_fitted_classifier(
    entry: Entry, network: Network, *, trainer: Trainer, name: str
) -> Network | None:
    """Return a copy with a new classifier; `None` = the file answers val no better with it.

    Args:
        entry: says precision and preprocessing.
        network: at the resolution that would ship.
        trainer: has pictures and platform.
        name: of a folder among the run's artifacts.
    """
    preprocessing, resolution = entry.family.preprocessing, network.architecture.resolution
    count = len(trainer.store.data.splits["train"])
    most = pictures_to_see(profile(network.architecture).macs or 0)
    rows = spaced_rows(count, most=most)
    train = trainer.store.held_out("train", resolution, preprocessing, rows=rows)
    val = trainer.store.held_out("val", resolution, preprocessing)
    ranked = spaced_rows(len(val), most=most)
    features = load_features(entry, network, trainer=trainer, name=name)
    weight, bias = (
        network.get_parameter(part).detach().float().cpu()
        for part in ("classifier.weight", "classifier.bias")
    )
    fitted = refit_classifier(
        weight, bias, torch.from_numpy(features(train.pixels)),
        torch.from_numpy(train.labels.astype(np.int64)),
        importance=None if train.weights is None else torch.from_numpy(train.weights).float(),
        seed=trainer.seed,
    )  # fmt: skip
    answers = features(val.pixels[ranked])
    importance = 1.0 if val.weights is None else val.weights[ranked]
    before, after = (
        float((_losses(answers, *classifier, labels=val.labels[ranked]) * importance).mean())
        for classifier in ((weight, bias), fitted)
    )
    logger.info(
        "refit: %s: loss of the file on val %.3f with its classifier fitted again, before %.3f",
        entry.title, after, before,
    )  # fmt: skip
    if after >= before:
        return None
    better = Network(network.architecture)
    better.load_state_dict({
        **network.state_dict(), "classifier.weight": fitted[0], "classifier.bias": fitted[1],
    })  # fmt: skip
    return better.eval()


def pictures_to_see(macs: int) -> int:
    """Return how many pictures a classifier is fitted to, for a network of so many multiply-adds.

    Not by the clock: the same call gives the same classifier on a slower machine.
    """
    return int(min(_MOST_PICTURES, max(_FEWEST_PICTURES, _MOST_MACS / max(macs, 1))))


def _losses(
    features: NDArray[np.float32],
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    labels: NDArray[np.int64],
) -> NDArray[np.float64]:
    return file_losses(features @ weight.numpy().T + bias.numpy(), labels)
