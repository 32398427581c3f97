"""What a fit writes down: one place that knows which record goes into which file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from featherweight.budget import Latency
from featherweight.candidates import CandidateRow, CurvePoint, FileAccuracy
from featherweight.data.images import ImageData
from featherweight.exporting.verification import Verification
from featherweight.fitting.candidate import Candidate, Measured, Proof, Trained
from featherweight.fitting.family import Family
from featherweight.fitting.settings import FitSettings
from featherweight.journal import Journal
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.remembered import Remembered
from featherweight.networks.weight_sources import find_pretrained
from featherweight.profiling.profile import profile
from featherweight.records import parse_record, read_json, to_plain, write_json
from featherweight.reporting.run import FitSummary, Verdict
from featherweight.run_directory import RunDirectory
from featherweight.tasks.task import TASKS

__all__ = ["Ledger", "Status", "read_summary"]

_UNEVEN = 1.5
"""Largest class over smallest class from which balanced accuracy is stated."""


Status = Literal["rejected", "raced", "finalist", "winner", "kept"]


class Ledger:
    """Appends records to a run's journals.

    Args:
        run: the run directory.
        runtime: what the files are for.

    Attributes:
        remembered: measurements that choose, those of a cut attempt among them.
    """

    def __init__(self, run: RunDirectory, *, runtime: str) -> None:
        self._run, self._runtime = run, runtime
        self.remembered = Remembered(run)
        self._candidates = Journal(run.path / "candidates.jsonl")
        self._measurements = Journal(run.path / "measurements.jsonl")
        self._verifications = Journal(run.path / "verifications.jsonl")

    def write_splits(self, images: ImageData) -> None:
        """Write how many pictures of which class are in which split."""
        task, classes = TASKS[images.task], images.classes
        splits = {
            name: dict(
                zip(
                    classes,
                    task.counts(split.targets, classes=len(classes)).tolist(),
                    strict=True,
                )
            )
            for name, split in images.splits.items()
        }
        write_json(self._run.path / "splits.json", splits)

    def note_measurements(self, measured: Iterable[Measurement], *, purpose: str) -> None:
        """Append measurements with what they were for."""
        for measurement in measured:
            self._measurements.append({**to_plain(measurement), "purpose": purpose})

    def note(
        self,
        measured: Measured,
        *,
        status: Status,
        reason: str,
        stage: str,
        val_accuracy: float | None = None,
        val_loss: float | None = None,
    ) -> None:
        """Append a row; a later one of the same network and precision counts.

        Args:
            measured: the candidate.
            status: how far it came.
            reason: one sentence.
            stage: that says so.
            val_accuracy: on val, where it was trained.
            val_loss: likewise.
        """
        one, counted = measured.candidate, profile(measured.candidate.architecture)
        row = CandidateRow(
            name=one.label,
            architecture_digest=one.architecture.digest,
            family=one.family.name,
            width=one.size if one.family.axis == "width" else None,
            resolution=one.resolution,
            precision=one.precision,
            runtime=self._runtime,
            params=counted.params,
            macs=counted.macs,
            latency_ms=measured.latency.median_ms,
            interval_ms=measured.latency.interval_ms,
            pretrained=one.family.source is not None,
            status=status,
            reason=reason,
            val_accuracy=val_accuracy,
            val_loss=val_loss,
            stage=stage,
        )
        self._candidates.append(to_plain(row))

    def note_trained(
        self, trained: Trained, *, status: Status, reason: str, stage: str | None = None
    ) -> None:
        """Append the row of a trained candidate; the stage is its phase where none is named."""
        self.note(
            trained.measured,
            status=status,
            reason=reason,
            stage=stage or str(trained.phase),
            val_accuracy=trained.val.value,
            val_loss=trained.val_loss,
        )

    def note_race(self, raced: Sequence[Trained]) -> None:
        """Append how far the raced candidates came; the winner is the first."""
        for trained in raced:
            best = raced[0]
            if trained is best:
                reason = "won the race"
            elif trained.phase == best.phase:
                reason = (
                    f"val loss {trained.val_loss:.3f}; {best.candidate.title} has "
                    f"{best.val_loss:.3f}"
                )
            else:
                reason = f"val loss {trained.val_loss:.3f} after the first rung"
            is_final = trained.phase.rung == 2
            self.note_trained(trained, status="finalist" if is_final else "raced", reason=reason)

    def note_verification(self, verification: Verification) -> None:
        """Append what was verified about the file."""
        self._verifications.append(to_plain(verification))

    def note_winner(self, trained: Trained, proof: Proof) -> None:
        """Append the network that ships, at the size it ships in, with its proven latency."""
        self.note(
            Measured(_shipped(trained, proof), proof.latency),
            status="winner",
            reason="ships" if proof.met else "trained, but over the budget when proven",
            stage=str(trained.phase),
            val_accuracy=proof.val_accuracy,
            val_loss=trained.val_loss,
        )

    def summary(
        self,
        trained: Trained,
        raced: Sequence[Trained],
        proof: Proof,
        *,
        settings: FitSettings,
        uneven: float,
        seconds: float,
        nearest_feasible_ms: float | None,
    ) -> FitSummary:
        """Return the answer of the run."""
        verification, measured = proof.verification, proof.measurement
        epochs = self._epochs(trained)
        busy_s = sum(epoch["images_seen"] / epoch["images_per_s"] for epoch in _increments(epochs))
        loads = [e["foreign_cpu_share"] for e in epochs if e.get("foreign_cpu_share") is not None]
        shortfall = proof.shortfall(settings.min_accuracy)
        verdict: Verdict = "met" if shortfall is None else "too_inaccurate"
        return FitSummary(
            verdict=verdict if proof.met else "not_met",
            shortfall=shortfall,
            min_accuracy=settings.min_accuracy,
            commonest_class=proof.commonest,
            budget=settings.budget,
            platform=measured.platform,
            measured=proof.latency,
            utilisation=measured.median_ms / settings.latency_ms,
            accuracy=FileAccuracy(
                network=verification.network_accuracy,
                artifact=verification.accuracy,
                split=verification.split,
                n=verification.n,
                interval=verification.interval,
            ),
            metric=TASKS[proof.artifact.task].metric,
            details=verification.details,
            balanced_accuracy=(
                verification.balanced_accuracy
                if uneven >= _UNEVEN or settings.metric == "balanced_accuracy"
                else None
            ),
            curve=_curve(trained, raced, proof),
            artifact=str(proof.artifact.paths[0].parent.relative_to(self._run.path)),
            bundle=(
                None if proof.bundle is None else str(proof.bundle.relative_to(self._run.path))
            ),
            report="report.html",
            run_directory=str(self._run.path),
            network=_shipped(trained, proof).label,
            precision=proof.artifact.precision,
            pretrained=_start(trained.candidate.family),
            images_seen=trained.training.images_seen,
            images_per_s=epochs[-1]["images_seen"] / busy_s if busy_s else None,
            foreign_cpu_share=sum(loads) / len(loads) if loads else None,
            seconds=seconds,
            nearest_feasible_ms=nearest_feasible_ms,
        )

    def _epochs(self, trained: Trained) -> list[dict[str, Any]]:
        """Return the lines of the training in train.jsonl."""
        training = trained.training
        named = (training.candidate.title, str(training.phase))
        needed = ("network", "phase", "images_seen", "images_per_s")
        lines = Journal(self._run.path / "train.jsonl").read(event="epoch", needed=needed)
        return [line for line in lines if (line["network"], line["phase"]) == named]


def read_summary(run: Path) -> FitSummary:
    """Return the summary of a finished run.

    Raises:
        RecordError: summary.json is damaged.
    """
    path = run / "summary.json"
    return parse_record(FitSummary, read_json(path), source=str(path))


def _shipped(trained: Trained, proof: Proof) -> Candidate:
    """Return the candidate at the size of the file."""
    one = trained.candidate
    if one.family.axis == "width":
        return one
    return one.at(float(proof.artifact.input_shape[0]))


def _curve(trained: Trained, raced: Sequence[Trained], proof: Proof) -> tuple[CurvePoint, ...]:
    """Return what ships, then everything else that was trained, as it was measured."""
    shipped = _shipped(trained, proof)
    points = [_point(shipped, proof.latency, val_accuracy=proof.val_accuracy)]
    points += [
        _point(other.candidate, other.measured.latency, val_accuracy=other.val.value)
        for other in raced
        if other.candidate is not trained.candidate
    ]
    return tuple(points)


def _point(candidate: Candidate, latency: Latency, *, val_accuracy: float) -> CurvePoint:
    return CurvePoint(
        name=candidate.label,
        precision=candidate.precision,
        resolution=candidate.resolution,
        latency_ms=latency.median_ms,
        interval_ms=latency.interval_ms,
        val_accuracy=val_accuracy,
        architecture_digest=candidate.architecture.digest,
    )


def _start(family: Family) -> str | None:
    """Name where the first weights came from."""
    if family.source != "auto":
        return family.source
    found = find_pretrained(family.weights_of)
    return "auto" if found is None else found.package


def _increments(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace the running total of pictures by each epoch's own."""
    before, own = 0, []
    for epoch in epochs:
        own.append({**epoch, "images_seen": epoch["images_seen"] - before})
        before = epoch["images_seen"]
    return own
