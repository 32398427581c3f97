"""What a previous fit trained, read from its run directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight.errors import UsageError
from featherweight.fitting.candidate import Candidate, Phase, TrainingRecord
from featherweight.fitting.families import stored_family
from featherweight.fitting.family import Family
from featherweight.fitting.settings import FitSettings
from featherweight.journal import Journal, plain_digest
from featherweight.records import parse_record
from featherweight.run_record import StageRecord, read_run_record, read_stages

__all__ = ["PreviousNetwork", "PreviousRun", "read_previous_run"]


@dataclass(frozen=True)
class PreviousNetwork:
    """A network that a previous run trained.

    Attributes:
        candidate: at the size of its training.
        record: of its training.
        folder: of its files.
    """

    candidate: Candidate
    record: TrainingRecord
    folder: Path

    @property
    def name(self) -> str:
        """What names it in a stage: two runs may have trained the same architecture."""
        return f"{self.record.key} {self.record.phase}"


@dataclass(frozen=True)
class _Line:
    """A training's line in stages.jsonl."""

    stage: StageRecord
    record: TrainingRecord


@dataclass(frozen=True)
class PreviousRun:
    """A previous run.

    Attributes:
        path: its directory.
        settings: what it was asked for.
        fingerprint: of its pictures.
        trainings: finished trainings, the longest of each network.
    """

    path: Path
    settings: FitSettings
    fingerprint: str
    trainings: tuple[_Line, ...]

    @property
    def identity(self) -> dict[str, str]:
        """Which weights these are, wherever the directory lies: training -> digest of its files."""
        return {line.stage.stage: plain_digest(line.stage.files) for line in self.trainings}

    def networks(self, families: Sequence[Family]) -> list[PreviousNetwork]:
        """Return the trained networks.

        A network that no family has (it was shrunk, or the zoo draws it otherwise today) is a
        family of its own.

        Raises:
            RecordError: the files of such a network are damaged.
        """
        source = next((family.source for family in families if family.source is not None), None)
        known = {
            family.build(size).digest[:16]: (family, size)
            for family in families
            for size in family.sizes
        }
        found = []
        for line in self.trainings:
            record = line.record
            digest = record.key.partition("-")[0]
            folder = self.path / "networks" / f"{record.key}-{record.phase}"
            if digest not in known:
                known[digest] = stored_family(folder, source=source, weights_of=record.weights_of)
            candidate = Candidate(*known[digest], record.precision)
            found.append(PreviousNetwork(candidate, record, folder))
        return found

    def copy_epochs(self, network: PreviousNetwork, *, title: str, phase: Phase, to: Path) -> None:
        """Copy the journal lines of a network's training under another title, once."""
        journal = Journal(to / "train.jsonl")
        needed = ("network", "phase", "epoch")
        written = {
            tuple(line[key] for key in needed)
            for line in journal.read(event="epoch", needed=needed)
        }
        for line in self._epochs(network):
            if (title, str(phase), line["epoch"]) not in written:
                journal.append({**line, "network": title, "phase": str(phase)})

    def _epochs(self, network: PreviousNetwork) -> Iterator[dict[str, Any]]:
        named = (network.candidate.title, str(network.record.phase))
        journal = Journal(self.path / "train.jsonl")
        for line in journal.read(event="epoch", needed=("network", "phase", "epoch")):
            if (line["network"], line["phase"]) == named:
                yield line


def read_previous_run(path: Path) -> PreviousRun:
    """Read what a fit trained; the run may be unfinished.

    Raises:
        UsageError: the directory is no run of fit, or nothing in it was trained.
        RecordError: a file of the run is damaged.
    """
    file = path / "run.yaml"
    if not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises for a name too long
        raise UsageError(
            f"--from {path} is not a run directory",
            allowed="a folder with run.yaml, written by `featherweight fit`",
        )
    described = read_run_record(file)
    identity = described.identity
    if "latency_ms" not in identity:
        raise UsageError(
            f"--from {path} is a run of another command",
            allowed="the run directory of a `featherweight fit`",
        )
    if "from" in identity:
        raise UsageError(
            f"--from {path} trained nothing: it came from another run itself",
            hint="name the run that trained the networks",
        )
    plain = {name: identity[name] for name in FitSettings.model_fields if name in identity}
    plain.update(described.given)
    longest: dict[str, _Line] = {}
    journal = Journal(path / "stages.jsonl")
    stages = read_stages(journal)
    for stage in stages:
        if stage.outputs.get("kind") != "training":
            continue
        source = f"stage {stage.stage} in {journal.path}"
        line = _Line(stage, parse_record(TrainingRecord, stage.outputs, source=source))
        digest = line.record.key.partition("-")[0]
        before = longest.get(digest)
        if before is None or _is_further(line.record, before.record):
            longest[digest] = line
    if not longest:
        if any("val_loss" in stage.outputs for stage in stages):
            raise UsageError(
                f"--from {path} was written by another version of featherweight",
                hint="ask that version, or fit without --from",
            )
        raise UsageError(
            f"--from {path} has no trained network",
            hint="continue that run first, or fit without --from",
        )
    return PreviousRun(
        path=path,
        settings=parse_record(FitSettings, plain, source=str(file)),
        fingerprint=str(identity["fingerprint"]),
        trainings=tuple(longest.values()),
    )


def _is_further(record: TrainingRecord, before: TrainingRecord) -> bool:
    """Whether a training came later; one in int8 counts only if it made the file better."""
    if record.phase.kind == "int8-finetune" and record.val_loss >= before.val_loss:
        return False
    return record.phase.order > before.phase.order
