"""What the classifier of an exported file reads, int8 damage included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight.exporting.export import export_network
from featherweight.fitting.race import Entry, Trainer
from featherweight.nn.network import Network
from featherweight.runtimes.runtime import RUNTIMES

__all__ = ["Features", "emitting", "load_features"]

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pictures as the file takes them, uint8 (n, R, R, C), to features (n, F)."""


def load_features(entry: Entry, network: Network, *, trainer: Trainer, name: str) -> Features:
    """Export a network with an identity for its classifier; what the file answers are features.

    Args:
        entry: says precision and preprocessing.
        network: at the resolution that would ship.
        trainer: has pictures and platform.
        name: of a folder among the run's artifacts.
    """
    preprocessing = entry.family.preprocessing
    precision = entry.candidate.precision
    calibration = None
    if precision == "int8":
        calibration = trainer.calibration(network.architecture.resolution, preprocessing)
    emitter = emitting(network)
    artifact = export_network(
        emitter,
        runtime=trainer.platform.runtime,
        precision=precision,
        out=trainer.folder / "artifacts" / name / entry.key,
        calibration=calibration,
        preprocessing=preprocessing,
        labels=tuple(str(index) for index in range(emitter.architecture.num_classes)),
        limit_pairs=trainer.platform.limits_pairs,
    )
    run = RUNTIMES[artifact.runtime].load(artifact, num_threads=2)

    def features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = [run(np.ascontiguousarray(pixels[k : k + 1]))[0] for k in range(len(pixels))]
        return np.stack(rows).astype(np.float32)

    return features


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
