"""A detector whose backbone has weights of a larger data set."""

from __future__ import annotations

from typing import NamedTuple

from featherweight.detection.detector import Detector, backbone_of
from featherweight.detection.network import DetectorNetwork, build_detector
from featherweight.networks.detectors import classifier_of
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import read_pretrained

__all__ = ["PretrainedDetector", "read_pretrained_detector", "stretched"]


class PretrainedDetector(NamedTuple):
    """A detector to train.

    Attributes:
        network: its backbone has the norm epsilon that the weights were trained with.
        preprocessing: what the weights expect, of whole pictures.
        sliced: whether the weights are the most important channels of a wider network: the
            statistics of its norms do not suit them.
    """

    network: DetectorNetwork
    preprocessing: Preprocessing
    sliced: bool


def read_pretrained_detector(detector: Detector, *, source: str, seed: int) -> PretrainedDetector:
    """Build a detector on pretrained blocks; its head is drawn.

    Args:
        detector: over a network of the zoo.
        source: of the backbone's weights, as `read_pretrained` takes it.
        seed: of what is drawn.

    Raises:
        MissingDependencyError, FailedError, UsageError: see `read_pretrained`.
    """
    whole = classifier_of(detector)
    found = read_pretrained(whole, source=source, seed=seed)
    keep_last = len(detector.backbone.blocks) == len(whole.blocks)
    backbone = backbone_of(found.network.architecture, keep_last=keep_last)
    network = build_detector(
        detector.changed(backbone=backbone), seed=seed, backbone=found.network.state_dict()
    )
    return PretrainedDetector(network, stretched(found.preprocessing), found.sliced)


def stretched(published: Preprocessing) -> Preprocessing:
    """Return how a detector takes pictures: whole, with the colours that its weights expect."""
    return published.model_copy(update={"stretch": True, "crop_fraction": 1.0})
