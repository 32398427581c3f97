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
from featherweight.exporting.file_features import load_features
from featherweight.fitting.candidate import Candidate
from featherweight.fitting.policy import DEFAULT_POLICY, RefitPolicy
from featherweight.fitting.trainer import Trainer
from featherweight.layers import LOGITS
from featherweight.nn.network import Network
from featherweight.profiling.profile import profile
from featherweight.tasks.task import Answers
from featherweight.training.refit import refit_classifier

__all__ = ["pictures_to_see", "with_fitted_classifier"]

logger = logging.getLogger(__name__)


def with_fitted_classifier(
    candidate: Candidate,
    network: Network,
    *,
    trainer: Trainer,
    name: str,
    policy: RefitPolicy = DEFAULT_POLICY.refit,
) -> Network | None:
    """Return a copy with a new classifier; `None` = the file answers val no better with it.

    Args:
        candidate: says precision and preparation of pictures.
        network: at the resolution that would ship.
        trainer: has pictures and platform.
        name: of a folder among the run's artifacts.
        policy: how many pictures it is fitted to.
    """
    preprocessing, resolution = candidate.family.preprocessing, network.architecture.resolution
    most = pictures_to_see(profile(network.architecture).macs or 0, policy=policy)
    rows = spaced_rows(trainer.count("train"), most=most)
    train = trainer.store.held_out("train", resolution, preprocessing, rows=rows)
    val = trainer.store.held_out("val", resolution, preprocessing)
    ranked = spaced_rows(len(val), most=most)
    out = trainer.folder / "artifacts" / name / candidate.key
    features = load_features(
        network,
        export=lambda emitter, labels: trainer.export(emitter, candidate, out=out, labels=labels),
    )
    weight, bias = (
        network.get_parameter(part).detach().float().cpu()
        for part in ("classifier.weight", "classifier.bias")
    )
    fitted = refit_classifier(
        weight,
        bias,
        torch.from_numpy(features(train.pixels)),
        train.batch(slice(None)).targets,
        objective=trainer.objective,
        importance=None if train.weights is None else torch.from_numpy(train.weights).float(),
        seed=trainer.seed,
    )
    emitted = features(val.pixels[ranked])
    importance = 1.0 if val.weights is None else val.weights[ranked]
    before, after = (
        float(
            (trainer.task.losses(_answers(emitted, *head), val.targets[ranked]) * importance).mean()
        )
        for head in ((weight, bias), fitted)
    )
    logger.info(
        "refit: %s: loss of the file on val %.3f with its classifier fitted again, before %.3f",
        candidate.title,
        after,
        before,
    )
    if after >= before:
        return None
    better = Network(network.architecture)
    weights = {"classifier.weight": fitted[0], "classifier.bias": fitted[1]}
    better.load_state_dict({**network.state_dict(), **weights})
    return better.eval()


def pictures_to_see(macs: int, *, policy: RefitPolicy = DEFAULT_POLICY.refit) -> int:
    """Return how many pictures a classifier is fitted to, for a network of so many multiply-adds.

    Not by the clock: the same call gives the same classifier on a slower machine.
    """
    wanted = policy.most_macs / max(macs, 1)
    return int(min(policy.most_pictures, max(policy.fewest_pictures, wanted)))


def _answers(features: NDArray[np.float32], weight: torch.Tensor, bias: torch.Tensor) -> Answers:
    """Return what a linear layer answers to features (n, F)."""
    return {LOGITS: features @ weight.numpy().T + bias.numpy()}
