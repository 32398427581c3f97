"""What an earlier fit trained, read from its run directory."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight.errors import UsageError
from featherweight.fitting.families import Family, stored_family
from featherweight.fitting.settings import FitSettings
from featherweight.journal import Journal, plain_digest
from featherweight.records import parse_record
from featherweight.run_record import StageRecord, read_run_record, read_stages

__all__ = ["Earlier", "TrainedNetwork", "read_earlier"]

logger = logging.getLogger(__name__)

_PHASES = ("race-1", "race-2", "fill", "teacher", "train", "finish")
"""Of trainings, the longest last; the last one counts only if it made the file better."""
_STAGE = re.compile(rf"({'|'.join(_PHASES)}):(([0-9a-f]{{16}})-(\w+))")


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that an earlier run trained.

    Attributes:
        family, value: how it was drawn.
        key, phase: name of its training there.
        name: what people read.
        folder: of its files.
        images_seen, seconds: of its training.
    """

    family: Family
    value: float
    key: str
    phase: str
    name: str
    folder: Path
    images_seen: int
    seconds: float


@dataclass(frozen=True)
class Earlier:
    """An earlier run.

    Attributes:
        path: its directory.
        settings: what it was asked for.
        fingerprint: of its pictures.
        trainings: finished trainings, the longest of each network.
    """

    path: Path
    settings: FitSettings
    fingerprint: str
    trainings: tuple[StageRecord, ...]

    @property
    def identity(self) -> dict[str, str]:
        """Which weights these are, wherever the directory lies: training -> digest of its files."""
        return {line.stage: plain_digest(line.files) for line in self.trainings}

    def networks(self, families: Sequence[Family]) -> list[TrainedNetwork]:
        """Return what was trained, as sizes of the families it was drawn from.

        A network that no family draws (it was shrunk, or the zoo draws it otherwise today) is a
        family of its own.

        Raises:
            RecordError: the files of such a network are damaged.
        """
        source = next((family.source for family in families if family.source is not None), None)
        drawn = {
            family.build(value).digest[:16]: (family, value)
            for family in families
            for value in family.values
        }
        found = []
        for line in self.trainings:
            phase, key, digest, _ = _parts(line.stage)
            folder = self.path / "networks" / f"{key}-{phase}"
            if digest not in drawn:
                drawn[digest] = stored_family(folder, source=source)
            family, value = drawn[digest]
            found.append(
                TrainedNetwork(
                    family=family,
                    value=value,
                    key=key,
                    phase=phase,
                    name=family.label(value),
                    folder=folder,
                    images_seen=int(line.outputs["images_seen"]),
                    seconds=float(line.outputs["seconds"]),
                )
            )
        return found

    def copy_epochs(self, network: TrainedNetwork, *, title: str, phase: str, to: Path) -> None:
        """Copy the journal lines of a network's training under another title, once."""
        journal = Journal(to / "train.jsonl")
        needed = ("network", "phase", "epoch")
        told = {
            tuple(line[key] for key in needed)
            for line in journal.read(event="epoch", needed=needed)
        }
        for line in self._epochs(network):
            if (title, phase, line["epoch"]) not in told:
                journal.append({**line, "network": title, "phase": phase})

    def _epochs(self, network: TrainedNetwork) -> Iterator[dict[str, Any]]:
        trained_as = f"{network.name} {network.key.rsplit('-', 1)[1]}"
        journal = Journal(self.path / "train.jsonl")
        for line in journal.read(event="epoch", needed=("network", "phase", "epoch")):
            if (line.get("network"), line.get("phase")) == (trained_as, network.phase):
                yield line


def read_earlier(path: Path) -> Earlier:
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
    longest: dict[str, StageRecord] = {}
    for record in read_stages(Journal(path / "stages.jsonl")):
        if _STAGE.fullmatch(record.stage):
            digest = _parts(record.stage)[2]
            before = longest.get(digest)
            if before is None or _is_further(record, before):
                longest[digest] = record
    if not longest:
        raise UsageError(
            f"--from {path} has no trained network",
            hint="continue that run first, or fit without --from",
        )
    return Earlier(
        path=path,
        settings=parse_record(FitSettings, plain, source=str(file)),
        fingerprint=str(identity["fingerprint"]),
        trainings=tuple(longest.values()),
    )


def _is_further(record: StageRecord, before: StageRecord) -> bool:
    phase, phase_before = _parts(record.stage)[0], _parts(before.stage)[0]
    if phase == "finish" and record.outputs["val_loss"] >= before.outputs["val_loss"]:
        return False
    return _PHASES.index(phase) > _PHASES.index(phase_before)


def _parts(stage: str) -> tuple[str, str, str, str]:
    """Return phase, key, digest and precision of a training's stage."""
    match = _STAGE.fullmatch(stage)
    assert match is not None
    return match[1], match[2], match[3], match[4]
