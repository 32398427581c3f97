"""What the classifier of an exported file reads, int8 damage included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight.layers import LOGITS
from featherweight.nn.network import Network
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact

__all__ = ["Features", "emitting", "load_features"]

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 (N, H, W, 3) -> (N, F)."""


def load_features(
    network: Network, *, export: Callable[[Network, tuple[str, ...]], Artifact]
) -> Features:
    """Export a network with an identity for its classifier; what the file answers are features.

    Args:
        network: at the resolution that would ship.
        export: exports a network with names for its outputs.
    """
    emitter = emitting(network)
    labels = tuple(str(index) for index in range(emitter.architecture.num_classes))
    answers = load_answers(export(emitter, labels))
    return lambda images: answers(images)[LOGITS]


def emitting(network: Network) -> Network:
    """Return the network with an identity for its classifier: the logits are the features."""
    width = network.get_parameter("classifier.weight").shape[1]
    weights = {
        **network.state_dict(),
        "classifier.weight": torch.eye(width),
        "classifier.bias": torch.zeros(width),
    }
    emitter = Network(network.architecture.changed(num_classes=width))
    emitter.load_state_dict(weights)
    return emitter.eval()
