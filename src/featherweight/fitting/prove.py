"""The last stage: export, check the file on the test split, measure it in a fresh process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherweight.errors import FailedError
from featherweight.exporting.bundle import write_bundle
from featherweight.exporting.export import export_network
from featherweight.exporting.verification import Verification
from featherweight.exporting.verify import verify_artifact
from featherweight.fitting.halving import Ranked
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.time_plan import SamplePlan
from featherweight.measuring.agreement import MOST_DIFFERENCE, device_difference
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import Measurement
from featherweight.nn.network import Network, resized
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Shortfall
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.training.classify import evaluate_network

__all__ = ["MOST_GROWTH", "Proof", "prove", "worth_shipping"]

logger = logging.getLogger(__name__)

MOST_GROWTH = 1.15
"""Largest multiple of the resolution it was trained at that an earlier network is offered at."""
_SLACK = 1.05
"""A network of fewer multiply-adds may miss by so much less than it should."""
_SECOND_LOOK = 1.25
"""A file that misses by less than this factor is measured once more, in another process: a moment
of the machine can be that slow, and another size would cost accuracy. Both are in the journal. In a
fit of less than half an hour not at a size beyond that of its training: there is one that it learnt
at, and a look takes up to 25 s beside other programs."""
_LEAST_SHARE = 0.75
"""Share of the trained network's val accuracy below which a replacement is not shipped."""


@dataclass(frozen=True)
class Proof:
    """What was proven about the exported file.

    Attributes:
        artifact: the file.
        network: the PyTorch network of that file.
        measurement: from a fresh process that took no part in any choice.
        verification: parity and accuracy of the file on the test split.
        commonest: share of the test pictures that are of the commonest class.
        val_accuracy: of that network on val, at the size that ships.
        bundle: folder to copy to the device; `None` = the runtime has none.
        met: the upper end of the interval of the median is within the budget.
    """

    artifact: Artifact
    network: Network
    measurement: Measurement
    verification: Verification
    commonest: float
    val_accuracy: float
    bundle: Path | None
    met: bool

    def shortfall(self, least: float | None) -> Shortfall | None:
        """Return why the file's accuracy is too low to be of use; `None` = it is not.

        Args:
            least: accuracy that the user asks for; `None` = surely better than guessing.
        """
        if least is not None and self.verification.accuracy < least:
            return "below_asked"
        return "guessing" if self.verification.interval[0] <= self.commonest else None


@dataclass(frozen=True)
class _Try:
    """One file that was measured."""

    ranked: Ranked
    network: Network
    artifact: Artifact
    measurement: Measurement


def prove(
    trained: Ranked,
    alternatives: Sequence[Ranked],
    *,
    trainer: Trainer,
    value: float,
    budget_ms: float,
    samples: SamplePlan,
    compared: int | None,
    record: Callable[[Measurement], None],
) -> tuple[Ranked, Proof, float]:
    """Prove the trained network's file; over budget, fall back to what is faster.

    `value` is the size at which the trained network should just fit, `compared` how many test
    pictures the network answers too (`None` = all).

    First the next smaller resolutions of the same weights (a network on photographs runs at any
    size), then the other networks of the race, best first, if they learned comparably. The test
    split is read once, for the file that ships.

    Returns:
        what ships, its proof, and the least upper end that was measured in ms.
    """
    first: _Try | None = None
    nearest_ms = float("inf")
    for ranked in (trained, *worth_shipping(trained, alternatives)):
        for found in _tries(
            ranked, trainer=trainer, record=record, budget_ms=budget_ms, samples=samples,
            value=value if ranked is trained else ranked.entry.value,
        ):  # fmt: skip
            first = first or found
            nearest_ms = min(nearest_ms, found.measurement.interval_ms[1])
            if found.measurement.interval_ms[1] <= budget_ms:
                proof = _verify(found, trainer=trainer, compared=compared, met=True)
                return found.ranked, proof, nearest_ms
    assert first is not None
    again = _export(first.ranked.entry, first.network, trainer=trainer)  # later tries overwrote it
    kept = _Try(first.ranked, first.network, again, first.measurement)
    return first.ranked, _verify(kept, trainer=trainer, compared=compared, met=False), nearest_ms


def worth_shipping(trained: Ranked, alternatives: Sequence[Ranked]) -> list[Ranked]:
    """Return the networks of the race that may replace one that misses the budget.

    A race can be a few steps long. A network that learned far less is no answer to the budget:
    `not met`, with the nearest feasible value, says more.
    """
    least = _LEAST_SHARE * trained.val_accuracy
    return [ranked for ranked in alternatives if ranked.val_accuracy >= least]


def _tries(
    ranked: Ranked,
    *,
    trainer: Trainer,
    budget_ms: float,
    samples: SamplePlan,
    value: float,
    record: Callable[[Measurement], None],
) -> Iterator[_Try]:
    """Measure a trained network's file, then at smaller resolutions, each in a fresh process.

    After a miss, sizes that should miss too are passed over: time grows with the multiply-adds.
    The size of the training, which a network answers best at, is always tried.
    """
    entry = ranked.entry
    network = trainer.load(entry, ranked.phase).network
    sizes = _resolutions(entry, largest=value)
    trained_value = ranked.trained_value or entry.value
    always = {sizes[-1], trained_value}
    most_macs = float("inf")
    for resolution in sizes:
        macs = profile(network.architecture.at_resolution(resolution)).macs or 0
        if macs > most_macs and resolution not in always:
            continue
        sized = resized(network, resolution)
        artifact = _export(entry, sized, trainer=trainer)
        # Where one size has missed more may miss, and a proof takes up to 25 s beside other work.
        measurement = None
        if resolution != sizes[0] and not samples.repeats:
            measurement = _measure(artifact, entry, trainer=trainer, samples=samples, is_short=True)
            record(measurement)
        if measurement is None or measurement.interval_ms[0] <= budget_ms:
            measurement = _measure(artifact, entry, trainer=trainer, samples=samples)
            record(measurement)
        upper_ms = measurement.interval_ms[1]
        has_grown = resolution > trained_value
        looks_again = resolution == sizes[0] and (samples.repeats or not has_grown)
        if looks_again and budget_ms < upper_ms < _SECOND_LOOK * budget_ms:
            logger.info("prove: %.3f ms is over the budget: measuring again", upper_ms)
            again = _measure(artifact, entry, trainer=trainer, samples=samples)
            record(again)
            measurement = min(measurement, again, key=lambda one: one.interval_ms[1])
        logger.info(
            "prove: %s %s at %d: median %.3f ms [%.3f, %.3f], budget %.3f ms",
            entry.candidate.name, entry.candidate.precision, resolution,
            measurement.median_ms, *measurement.interval_ms, budget_ms,
        )  # fmt: skip
        yield _Try(ranked, sized, artifact, measurement)
        most_macs = _SLACK * macs * budget_ms / measurement.interval_ms[1]


def _resolutions(entry: Entry, *, largest: float) -> list[int]:
    """Return the resolutions to prove, the one that should just fit first.

    Whatever may fit is tried, without a margin: a proof that fails costs a measurement, a size
    too small costs accuracy.
    """
    if entry.family.knob != "resolution" or len(entry.family.values) < 2:
        return [entry.candidate.resolution]
    return [int(value) for value in reversed(entry.family.values) if value <= largest]


def _export(entry: Entry, network: Network, *, trainer: Trainer) -> Artifact:
    preprocessing = entry.family.preprocessing
    precision = entry.candidate.precision
    calibration = None
    if precision == "int8":
        calibration = trainer.calibration(network.architecture.resolution, preprocessing)
    return export_network(
        network,
        runtime=trainer.platform.runtime,
        precision=precision,
        out=trainer.folder / "artifacts" / f"{trainer.platform.runtime}-{precision}",
        calibration=calibration,
        preprocessing=preprocessing,
        labels=trainer.store.data.classes,
        limit_pairs=trainer.platform.limits_pairs,
    )


def _judge(verification: Verification) -> None:
    """Refuse a float file that computes something else; warn where int8 often answers otherwise.

    Raises:
        FailedError: a float32 file differs from its network by more than rounding.
    """
    if verification.passed:
        return
    if verification.platform.endswith("fp32"):
        raise FailedError(
            f"the exported file differs from the network by {verification.relative_error:.2g} of "
            "its largest logit",
            allowed="rounding, about 1e-6",
            hint="this is a defect of the export: please report the network",
        )
    logger.warning(
        "the int8 file gives the network's answer on %.1f %% of the test pictures only; "
        "its own accuracy is %.3f: consider --precision fp32",
        100 * verification.top1_agreement,
        verification.accuracy,
    )


def _measure(
    artifact: Artifact,
    entry: Entry,
    *,
    trainer: Trainer,
    samples: SamplePlan,
    is_short: bool = False,
) -> Measurement:
    """Measure a file in a fresh process; a short measurement shows a sure miss, and proves none."""
    count = samples.alone if is_short else samples.prove
    (measurement,) = measure_artifacts(
        [artifact],
        platform=trainer.platform.with_precision(artifact.precision),
        names=[entry.label_at(artifact.input_shape[0])],
        samples=count,
        max_s_each=0.05 * count,
        seed=trainer.seed,
        repeat_disturbed=samples.repeats,
    )
    return measurement


def _difference_there(artifact: Artifact, *, trainer: Trainer) -> float | None:
    """Compare the answer of another device with this machine's.

    `None` = it is this machine, or the device cannot tell its answers.

    Raises:
        FailedError: it computes something else, so that the accuracy found here is not its own.
    """
    if trainer.platform.device == "local":
        return None
    difference = device_difference(
        artifact, platform=trainer.platform.with_precision(artifact.precision)
    )
    if difference is None:
        logger.warning(
            "%s tells times, not answers: the accuracy is that of the same file on this machine",
            trainer.platform.device,
        )
        return None
    most = MOST_DIFFERENCE[artifact.precision]
    if difference > most:
        raise FailedError(
            f"the device {trainer.platform.device!r} computes something else from the file than "
            f"this machine: {difference:.2g} of the largest logit",
            allowed=f"up to {most:g}",
            hint=f"look at its runtime: featherweight device check {trainer.platform.device}",
        )
    return difference


def _verify(shipped: _Try, *, trainer: Trainer, compared: int | None, met: bool) -> Proof:
    artifact, network = shipped.artifact, shipped.network
    resolution, preprocessing = artifact.input_shape[0], artifact.preprocessing
    test = trainer.store.held_out("test", resolution, preprocessing)
    verification = verify_artifact(
        artifact, network, images=test.pixels, labels=test.labels, split="test",
        most_compared=compared,
    )  # fmt: skip
    _judge(verification)
    difference = _difference_there(artifact, trainer=trainer)
    verification = verification.model_copy(update={"device_difference": difference})
    val = trainer.store.held_out("val", resolution, preprocessing)
    val_accuracy = shipped.ranked.val_accuracy
    if resolution != shipped.ranked.entry.candidate.resolution:
        val_accuracy = evaluate_network(
            network, images=val, preprocessing=preprocessing, device=trainer.device
        ).accuracy
    run = RUNTIMES[artifact.runtime].load(artifact, num_threads=1)
    sample = np.ascontiguousarray(val.pixels[:1])
    bundle = None
    if artifact.runtime == "onnxruntime":
        bundle = write_bundle(
            artifact, trainer.folder / "bundle", sample=sample, expected=run(sample)
        )
    return Proof(
        artifact=artifact,
        network=network,
        measurement=shipped.measurement,
        verification=verification,
        commonest=float(np.bincount(test.labels).max() / len(test.labels)),
        val_accuracy=val_accuracy,
        bundle=bundle,
        met=met,
    )
