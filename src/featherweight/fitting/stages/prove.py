"""The last stage: export, check the file on the test split, measure it in a fresh process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from featherweight.budget import Latency
from featherweight.errors import FailedError
from featherweight.exporting.bundle import write_bundle
from featherweight.exporting.verification import Verification
from featherweight.exporting.verify import verify_artifact
from featherweight.fitting.candidate import Candidate, Proof, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.policy import ProvePolicy
from featherweight.fitting.ranking import evaluate_on_val
from featherweight.fitting.trainer import Trainer
from featherweight.measuring.agreement import MOST_DIFFERENCE, device_difference
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import Measurement
from featherweight.networks.modules import AnyNetwork, at_size
from featherweight.records import Record
from featherweight.reporting.run import FitSummary
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.tasks.detection_findings import write_findings

__all__ = ["Prover", "prove", "sizes_to_prove", "worth_shipping"]

logger = logging.getLogger(__name__)

_S_PER_SAMPLE = 0.05


class _SummaryRecord(Record):
    summary: FitSummary


@dataclass(frozen=True)
class _Try:
    """One file that was measured."""

    trained: Trained
    network: AnyNetwork
    artifact: Artifact
    measurement: Measurement

    @property
    def latency(self) -> Latency:
        return Latency(
            median_ms=self.measurement.median_ms, interval_ms=self.measurement.interval_ms
        )


def prove(
    context: FitContext,
    trained: Trained,
    raced: Sequence[Trained],
    *,
    largest: float,
    uneven: float,
    loading_s: float,
    compared: int | None = None,
) -> FitSummary:
    """Prove the trained network, or what replaces it; return the answer of the run: a stage.

    Args:
        context: of the fit.
        trained: what should ship.
        raced: everything else that was trained.
        largest: size at which the trained network should just fit.
        uneven: largest class over smallest class in train.
        loading_s: seconds spent before the run directory was opened.
        compared: most test pictures that the network answers too; `None` = all.
    """
    run, ledger, candidate = context.run, context.ledger, trained.candidate
    proofs: list[Proof] = []

    def work() -> _SummaryRecord:
        others = [other for other in raced if other.candidate is not candidate]
        others.sort(key=lambda other: other.val_loss)
        prover = Prover(context, largest=largest, compared=compared)
        shipped, proof, nearest_ms = prover.prove(trained, others)
        proofs.append(proof)
        ledger.note_verification(proof.verification)
        ledger.note_winner(shipped, proof)
        context.trainer.save(proof.network, shipped.candidate, folder=run.path)
        return _SummaryRecord(
            summary=ledger.summary(
                shipped,
                raced,
                proof,
                settings=context.settings,
                uneven=uneven,
                seconds=run.elapsed_s + loading_s,
                nearest_feasible_ms=None if proof.met else nearest_ms,
            )
        )

    # Cut between the proof and its report, the test split stays read once.
    return run.stage(
        "prove",
        inputs={"trained": candidate.key, "phase": str(trained.phase), "largest": largest},
        outputs=_SummaryRecord,
        work=work,
        files=lambda: list(proofs[0].artifact.paths),
    ).summary


class Prover:
    """Measures trained networks' files until one meets the budget.

    Args:
        context: of the fit.
        largest: size at which the network that should ship should just fit.
        compared: most test pictures that the network answers too; `None` = all.
    """

    def __init__(self, context: FitContext, *, largest: float, compared: int | None) -> None:
        self._context = context
        self._largest, self._compared = largest, compared
        self._policy: ProvePolicy = context.policy.prove

    def prove(
        self, trained: Trained, alternatives: Sequence[Trained]
    ) -> tuple[Trained, Proof, float]:
        """Prove the trained network's file; over budget, fall back to what is faster.

        First the next smaller resolutions of the same weights (a network on photographs runs at any
        size), then the other networks of the race, best first, if they learned comparably. The test
        split is read once, for the file that ships.

        Returns:
            what ships, its proof, and the least upper end that was measured in ms.
        """
        first: _Try | None = None
        nearest_ms = float("inf")
        worth = worth_shipping(trained, alternatives, least_share=self._policy.least_share)
        for one in (trained, *worth):
            largest = self._largest if one is trained else one.candidate.size
            for found in self._tries(one, largest=largest):
                first = first or found
                nearest_ms = min(nearest_ms, found.measurement.interval_ms[1])
                if self._context.budget.is_met(found.latency):
                    return found.trained, self._verify(found, met=True), nearest_ms
        assert first is not None
        # Later tries overwrote its file.
        artifact = self._export(first.trained.candidate, first.network)
        kept = _Try(first.trained, first.network, artifact, first.measurement)
        return first.trained, self._verify(kept, met=False), nearest_ms

    def _tries(self, trained: Trained, *, largest: float) -> Iterator[_Try]:
        """Measure a trained network's file, then at smaller resolutions, each in a fresh process.

        After a miss, sizes that should miss too are passed over: time grows with the multiply-adds.
        The size of the training, which a network answers best at, is always tried.
        """
        candidate, budget_ms = trained.candidate, self._context.budget.latency_ms
        network = self._context.trainer.load(candidate, trained.phase).network
        sizes = sizes_to_prove(candidate, largest=largest)
        always = {sizes[-1].size, trained.training.candidate.size}
        most_macs = float("inf")
        for one in sizes:
            if one.macs > most_macs and one.size not in always:
                continue
            sized = at_size(network, one.resolution)
            artifact = self._export(one, sized)
            measurement = self._measure_size(
                artifact, one, trained=trained, is_first=one is sizes[0]
            )
            logger.info(
                "prove: %s at %d: median %.3f ms [%.3f, %.3f], budget %.3f ms",
                candidate.title,
                one.resolution,
                measurement.median_ms,
                *measurement.interval_ms,
                budget_ms,
            )
            yield _Try(trained, sized, artifact, measurement)
            most_macs = self._policy.slack * one.macs * budget_ms / measurement.interval_ms[1]

    def _measure_size(
        self, artifact: Artifact, one: Candidate, *, trained: Trained, is_first: bool
    ) -> Measurement:
        """Measure a file at one size, as often and as long as it is worth.

        Where one size has missed more may miss, and a proof takes up to 25 s beside other work: a
        short fit looks briefly first.
        """
        samples, budget_ms = self._context.samples, self._context.budget.latency_ms
        measurement = None
        if not is_first and not samples.repeats:
            measurement = self._measure(artifact, one, is_short=True)
        if measurement is None or measurement.interval_ms[0] <= budget_ms:
            measurement = self._measure(artifact, one)
        upper_ms = measurement.interval_ms[1]
        has_grown = one.size > trained.training.candidate.size
        looks_again = is_first and (samples.repeats or not has_grown)
        if looks_again and budget_ms < upper_ms < self._policy.second_look * budget_ms:
            logger.info("prove: %.3f ms is over the budget: measuring again", upper_ms)
            again = self._measure(artifact, one)
            measurement = min(measurement, again, key=lambda found: found.interval_ms[1])
        return measurement

    def _measure(
        self, artifact: Artifact, one: Candidate, *, is_short: bool = False
    ) -> Measurement:
        """Measure a file in a fresh process; a short measurement shows a sure miss, and no more."""
        context = self._context
        count = context.samples.alone if is_short else context.samples.prove
        (measurement,) = measure_artifacts(
            [artifact],
            platform=context.trainer.platform.with_precision(artifact.precision),
            names=[one.label],
            samples=count,
            max_s_each=_S_PER_SAMPLE * count,
            seed=context.seed,
            repeat_disturbed=context.samples.repeats,
        )
        context.ledger.note_measurements([measurement], purpose="prove")
        return measurement

    def _export(self, one: Candidate, network: AnyNetwork) -> Artifact:
        trainer = self._context.trainer
        name = f"{trainer.platform.runtime}-{one.precision}"
        return trainer.export(network, one, out=trainer.folder / "artifacts" / name)

    def _verify(self, shipped: _Try, *, met: bool) -> Proof:
        trainer, artifact, network = self._context.trainer, shipped.artifact, shipped.network
        resolution, preprocessing = artifact.input_shape[0], artifact.preprocessing
        test = trainer.store.held_out("test", resolution, preprocessing)
        verification = verify_artifact(
            artifact,
            network,
            images=test.pixels,
            targets=test.targets,
            split="test",
            most_compared=self._compared,
        )
        _judge(verification)
        if shipped.trained.candidate.family.anchored:
            write_findings(
                load_answers(artifact)(test.pixels),
                trainer.store.data,
                split="test",
                pixels=test.pixels,
                folder=trainer.folder,
            )
        difference = _difference_there(artifact, trainer=trainer)
        verification = verification.model_copy(update={"device_difference": difference})
        candidate, val = shipped.trained.candidate, shipped.trained.val
        if resolution != candidate.resolution:
            val = evaluate_on_val(trainer, candidate, network)
        bundle = None
        if artifact.runtime == "onnxruntime":
            answer = RUNTIMES[artifact.runtime].load(artifact, num_threads=1)
            pictures = trainer.store.held_out("val", resolution, preprocessing)
            sample = np.ascontiguousarray(pictures.pixels[:1])
            bundle = write_bundle(
                artifact, trainer.folder / "bundle", sample=sample, expected=answer(sample)
            )
        return Proof(
            artifact=artifact,
            network=network,
            measurement=shipped.measurement,
            verification=verification,
            commonest=trainer.task.chance(test.targets),
            val_accuracy=val.value,
            bundle=bundle,
            met=met,
        )


def worth_shipping(
    trained: Trained, alternatives: Sequence[Trained], *, least_share: float
) -> list[Trained]:
    """Return the networks of the race that may replace one that misses the budget.

    A race can be a few steps long. A network that learned far less is no answer to the budget:
    `not met`, with the nearest feasible value, says more.
    """
    least = least_share * trained.val.value
    return [other for other in alternatives if other.val.value >= least]


def sizes_to_prove(candidate: Candidate, *, largest: float) -> list[Candidate]:
    """Return the sizes to prove, the one that should just fit first.

    Whatever may fit is tried, without a margin: a proof that fails costs a measurement, a size
    too small costs accuracy.
    """
    if not candidate.family.moves:
        return [candidate]
    sizes = reversed(candidate.family.sizes)
    return [candidate.at(size) for size in sizes if size <= largest]


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
