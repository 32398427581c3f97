"""What a fit writes down: one place that knows which record goes into which file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from featherweight.budget import Budget
from featherweight.data.images import ImageData
from featherweight.exporting.verification import Verification
from featherweight.fitting.families import Family
from featherweight.fitting.halving import Ranked
from featherweight.fitting.prove import Proof
from featherweight.fitting.remembered import Remembered
from featherweight.fitting.settings import FitSettings
from featherweight.journal import Journal
from featherweight.measuring.measurement import Measurement
from featherweight.networks.weight_sources import find_pretrained
from featherweight.profiling.profile import profile
from featherweight.records import parse_record, read_json, to_plain, write_json
from featherweight.reporting.run import (
    Candidate,
    CurvePoint,
    FileAccuracy,
    FitSummary,
    MeasuredLatency,
    Verdict,
)
from featherweight.run_directory import RunDirectory

__all__ = ["Ledger"]

_UNEVEN = 1.5
"""Largest class over smallest class from which balanced accuracy is stated."""


class Ledger:
    """Appends records to a run's journals.

    Attributes:
        remembered: measurements that choose, those of a cut attempt among them.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self.remembered = Remembered(run)
        self._candidates = Journal(run.path / "candidates.jsonl")
        self._measurements = Journal(run.path / "measurements.jsonl")
        self._verifications = Journal(run.path / "verifications.jsonl")

    def write_splits(self, images: ImageData) -> None:
        """Write how many pictures of which class are in which split."""
        splits = {
            name: {label: int((split.labels == k).sum()) for k, label in enumerate(images.classes)}
            for name, split in images.splits.items()
        }
        write_json(self._run.path / "splits.json", splits)

    def note_measurements(self, measured: Iterable[Measurement], *, purpose: str) -> None:
        """Append measurements with what they were for."""
        for measurement in measured:
            self._measurements.append({**to_plain(measurement), "purpose": purpose})

    def note_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Append candidates; a later line of the same network and precision counts."""
        for candidate in candidates:
            self._candidates.append(to_plain(candidate))

    def note_race(self, raced: Sequence[Ranked]) -> None:
        """Append how far the raced candidates came."""
        best = raced[0] if raced else None
        for ranked in raced:
            final = ranked.phase == "race-2"
            if ranked is best:
                reason = "won the race"
            elif best is not None and ranked.phase == best.phase:
                reason = (
                    f"val loss {ranked.val_loss:.3f}; {best.entry.candidate.name} "
                    f"{best.entry.candidate.precision} has {best.val_loss:.3f}"
                )
            else:
                reason = f"val loss {ranked.val_loss:.3f} after the first rung"
            self._append_ranked(ranked, status="finalist" if final else "raced", reason=reason)

    def note_settled(self, settled: Sequence[Ranked], *, as_trained: Ranked) -> None:
        """Append at which sizes the trained network was tried, with a classifier for each."""
        before = f"{as_trained.entry.candidate.name} as trained has {as_trained.val_loss:.3f}"
        for ranked in settled:
            reason = f"val loss {ranked.val_loss:.3f} with its classifier fitted again; {before}"
            self._append_ranked(ranked, status="finalist", reason=reason)

    def note_verification(self, verification: Verification) -> None:
        """Append what was verified about the file."""
        self._verifications.append(to_plain(verification))

    def note_winner(self, trained: Ranked, proof: Proof) -> None:
        """Append the network that ships, at the size it ships in, with its proven latency."""
        counted = profile(proof.network.architecture)
        shipped = {
            "name": trained.entry.label_at(counted.input_shape[1]),
            "resolution": counted.input_shape[1],
            "architecture_digest": proof.network.architecture.digest,
            "macs": counted.macs,
            "val_accuracy": proof.val_accuracy,
            "latency_ms": proof.measurement.median_ms,
            "interval_ms": proof.measurement.interval_ms,
        }
        reason = "ships" if proof.met else "trained, but over the budget when proven"
        self._append_ranked(trained, status="winner", reason=reason, **shipped)

    def summary(
        self,
        trained: Ranked,
        raced: Sequence[Ranked],
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
            budget=Budget(latency_ms=settings.latency_ms),
            platform=measured.platform,
            measured=MeasuredLatency(
                median_ms=measured.median_ms, interval_ms=measured.interval_ms
            ),
            utilisation=measured.median_ms / settings.latency_ms,
            accuracy=FileAccuracy(
                network=verification.network_accuracy,
                artifact=verification.accuracy,
                split=verification.split,
                n=verification.n,
                interval=verification.interval,
            ),
            balanced_accuracy=(
                verification.balanced_accuracy
                if uneven >= _UNEVEN or settings.metric == "balanced_accuracy"
                else None
            ),
            curve=self._curve(trained, raced, proof),
            artifact=str(proof.artifact.paths[0].parent.relative_to(self._run.path)),
            bundle=(
                None if proof.bundle is None else str(proof.bundle.relative_to(self._run.path))
            ),
            report="report.html",
            run_directory=str(self._run.path),
            network=trained.entry.label_at(proof.artifact.input_shape[0]),
            precision=proof.artifact.precision,
            pretrained=_start(trained.entry.family),
            images_seen=trained.images_seen,
            images_per_s=epochs[-1]["images_seen"] / busy_s if busy_s else None,
            foreign_cpu_share=sum(loads) / len(loads) if loads else None,
            seconds=seconds,
            nearest_feasible_ms=nearest_feasible_ms,
        )

    def read_summary(self) -> FitSummary:
        """Return the summary of a finished run."""
        path = self._run.path / "summary.json"
        return parse_record(FitSummary, read_json(path), source=str(path))

    def _append_ranked(self, ranked: Ranked, *, status: str, reason: str, **measured: Any) -> None:
        candidate = ranked.entry.candidate.model_copy(
            update={
                "status": status,
                "reason": reason,
                "val_accuracy": ranked.val_accuracy,
                "val_loss": ranked.val_loss,
                "stage": ranked.phase,
                **measured,
            }
        )
        self._candidates.append(to_plain(candidate))

    def _epochs(self, trained: Ranked) -> list[dict[str, Any]]:
        told_as = trained.told_as or (trained.entry.title, trained.phase)
        needed = ("network", "phase", "images_seen", "images_per_s")
        lines = Journal(self._run.path / "train.jsonl").read(event="epoch", needed=needed)
        return [line for line in lines if (line["network"], line["phase"]) == told_as]

    def _curve(
        self, trained: Ranked, raced: Sequence[Ranked], proof: Proof
    ) -> tuple[CurvePoint, ...]:
        points = [
            CurvePoint(
                name=trained.entry.label_at(proof.artifact.input_shape[0]),
                precision=proof.artifact.precision,
                resolution=proof.artifact.input_shape[0],
                latency_ms=proof.measurement.median_ms,
                interval_ms=proof.measurement.interval_ms,
                val_accuracy=proof.val_accuracy,
                architecture_digest=proof.artifact.architecture_digest,
            )
        ]
        for ranked in raced:
            candidate = ranked.entry.candidate
            if ranked.entry is trained.entry or candidate.latency_ms is None:
                continue
            points.append(
                CurvePoint(
                    name=candidate.name,
                    precision=candidate.precision,
                    resolution=candidate.resolution,
                    latency_ms=candidate.latency_ms,
                    interval_ms=candidate.interval_ms,
                    val_accuracy=ranked.val_accuracy,
                    architecture_digest=candidate.architecture_digest,
                )
            )
        return tuple(points)


def _start(family: Family) -> str | None:
    """Name where the first weights came from."""
    if family.source != "auto":
        return family.source
    found = find_pretrained(family.weights_name)
    return "auto" if found is None else found.package


def _increments(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace the running total of pictures by each epoch's own."""
    before, own = 0, []
    for epoch in epochs:
        own.append({**epoch, "images_seen": epoch["images_seen"] - before})
        before = epoch["images_seen"]
    return own
