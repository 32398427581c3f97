"""What the classifier of an exported file reads, int8 damage included."""

from __future__ import annotations

import torch

from featherweight.exporting.export import export_network
from featherweight.fitting.race import Entry, Trainer
from featherweight.nn.network import Network
from featherweight.runtimes.answers import Answers, load_answers

__all__ = ["emitting", "load_features"]

_QUICK_STEP = 4


def load_features(
    entry: Entry, network: Network, *, trainer: Trainer, name: str, quickly: bool = False
) -> Answers:
    """Export a network with an identity for its classifier; what the file answers are features.

    Args:
        entry: says precision and preprocessing.
        network: at the resolution that would ship.
        trainer: has pictures and platform.
        name: of a folder among the run's artifacts.
        quickly: take int8 ranges from a quarter of the pictures: for files that do not ship.
    """
    preprocessing = entry.family.preprocessing
    precision = entry.candidate.precision
    calibration = None
    if precision == "int8":
        calibration = trainer.calibration(network.architecture.resolution, preprocessing)
        calibration = calibration[::_QUICK_STEP] if quickly else calibration
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
    return load_answers(artifact)


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
