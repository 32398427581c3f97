"""The last stage: export, check the file on the test split, measure it in a fresh process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherweight.data.metrics import balanced_accuracy
from featherweight.exporting.bundle import write_bundle
from featherweight.exporting.verification import Verification
from featherweight.exporting.verify import verify_artifact
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.workshop import export_weights
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import Measurement
from featherweight.nn.network import Network
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.training.classify import evaluate_network

__all__ = ["Proof", "prove"]

logger = logging.getLogger(__name__)

_SAMPLES = 200
_SMALLER_TRIED = 3
_STEP = 8


@dataclass(frozen=True)
class Proof:
    """What was proven about the exported file.

    Attributes:
        artifact: the file.
        network: the PyTorch network of that file.
        measurement: from a fresh process that took no part in any choice.
        verification: parity and accuracy of the file on the test split.
        network_accuracy: of the PyTorch network on the same pictures.
        balanced: balanced accuracy of the network on the test split.
        bundle: folder to copy to the device.
        met: the upper end of the interval of the median is within the budget.
    """

    artifact: Artifact
    network: Network
    measurement: Measurement
    verification: Verification
    network_accuracy: float
    balanced: float
    bundle: Path
    met: bool


def prove(
    entry: Entry,
    network: Network,
    *,
    trainer: Trainer,
    budget_ms: float,
    record: Callable[[Measurement], None],
) -> Proof:
    """Prove the trained network's file; over budget, try the next smaller resolutions.

    A network on photographs runs at a smaller resolution with the same weights, so a file that
    turned out too slow is replaced by a slightly smaller one, never reported as it is while a
    feasible one exists. The test split is read once, for the file that ships.
    """
    resolutions = [entry.candidate.resolution]
    if entry.family.knob == "resolution":
        lower = entry.candidate.resolution - _STEP * np.arange(1, _SMALLER_TRIED + 1)
        resolutions += [int(value) for value in lower if value >= 64]
    artifact, measurement = None, None
    for resolution in resolutions:
        artifact = _export(entry, network, resolution=resolution, trainer=trainer)
        measurement = _measure(artifact, entry, trainer=trainer)
        record(measurement)
        logger.info(
            "prove: %s %s at %d: median %.3f ms [%.3f, %.3f], budget %.3f ms",
            entry.candidate.name, entry.candidate.precision, resolution,
            measurement.median_ms, *measurement.interval_ms, budget_ms,
        )  # fmt: skip
        if measurement.interval_ms[1] <= budget_ms:
            break
    assert artifact is not None
    assert measurement is not None
    return _verify(
        artifact, measurement, entry, network, trainer=trainer,
        met=measurement.interval_ms[1] <= budget_ms,
    )  # fmt: skip


def _export(entry: Entry, network: Network, *, resolution: int, trainer: Trainer) -> Artifact:
    preprocessing = entry.family.preprocessing
    precision = entry.candidate.precision
    sized = (
        network if resolution == network.architecture.resolution else _resized(network, resolution)
    )
    return export_weights(
        sized,
        platform=trainer.platform.with_precision(precision),
        out=trainer.folder / "artifacts" / f"{trainer.platform.runtime}-{precision}",
        calibration=(
            trainer.calibration(resolution, preprocessing) if precision == "int8" else None
        ),
        preprocessing=preprocessing,
        labels=trainer.store.data.classes,
    )


def _resized(network: Network, resolution: int) -> Network:
    """Return the same weights in a network drawn for another input size."""
    smaller = Network(network.architecture.at_resolution(resolution))
    smaller.load_state_dict(network.state_dict())
    return smaller.eval()


def _measure(artifact: Artifact, entry: Entry, *, trainer: Trainer) -> Measurement:
    (measurement,) = measure_artifacts(
        [artifact],
        platform=trainer.platform.with_precision(artifact.precision),
        names=[entry.candidate.name],
        samples=_SAMPLES,
        max_s_each=8.0,
        seed=trainer.seed,
    )
    return measurement


def _verify(
    artifact: Artifact,
    measurement: Measurement,
    entry: Entry,
    network: Network,
    *,
    trainer: Trainer,
    met: bool,
) -> Proof:
    resolution = artifact.input_shape[0]
    sized = _resized(network, resolution)
    preprocessing = entry.family.preprocessing
    test = trainer.store.held_out("test", resolution, preprocessing)
    verification = verify_artifact(
        artifact, sized, images=test.pixels, labels=test.labels, split="test", num_threads=2
    )
    evaluated = evaluate_network(
        sized, images=test, preprocessing=preprocessing, device=trainer.device
    )
    run = RUNTIMES[artifact.runtime].load(artifact, num_threads=1)
    sample = np.ascontiguousarray(
        trainer.store.held_out("val", resolution, preprocessing).pixels[:1]
    )
    bundle = write_bundle(artifact, trainer.folder / "bundle", sample=sample, expected=run(sample))
    return Proof(
        artifact=artifact,
        network=sized,
        measurement=measurement,
        verification=verification,
        network_accuracy=evaluated.accuracy,
        balanced=balanced_accuracy(
            test.labels, evaluated.predictions, num_classes=len(trainer.store.data.classes)
        ),
        bundle=bundle,
        met=met,
    )
