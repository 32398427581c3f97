"""Read the files of a run directory without judging them: what is absent or broken is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from featherweight.adapting.steps import Step
from featherweight.advising.advice import ADVICE_FILE, Advice
from featherweight.architecture import Architecture, read_architecture
from featherweight.candidates import CandidateRow, latest_candidates
from featherweight.errors import FeatherweightError, RecordError, UsageError
from featherweight.networks.kinds import AnyArchitecture, read_any_architecture
from featherweight.records import parse_json, parse_record, read_json, read_yaml
from featherweight.reporting.run import FitSummary
from featherweight.run_lock import is_locked
from featherweight.searching.trials_file import TRIALS_FILE, TrialRow
from featherweight.tasks.detection_findings import FINDINGS_FILE, DetectionFindings
from featherweight.tasks.task import CLASSIFICATION, TASKS

__all__ = [
    "EpochLine",
    "FitRun",
    "MeasurementLine",
    "StageLine",
    "TrainedLine",
    "VerificationLine",
    "read_run",
]


class _Line(BaseModel):
    """What the report needs of a journal line; further keys belong to other readers."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class StageLine(_Line):
    """A finished stage."""

    stage: str
    seconds: float | None = None
    outputs: dict[str, Any] | None = None


class MeasurementLine(_Line):
    """A latency measurement; `purpose` is `shop` or `size` (choosing) or `prove`."""

    network: str = ""
    platform: str = ""
    samples_ms: tuple[float, ...] = ()
    median_ms: float | None = None
    p90_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    relative_iqr: float | None = None
    disturbed: bool | None = None
    foreign_cpu_share: float | None = None
    runtime_version: str | None = None
    artifact_sha256: str | None = None
    started: str | None = None
    purpose: str = ""

    @field_validator("platform", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        settings = f"threads={value.get('num_threads', 1)},precision={value.get('precision')}"
        return f"{value.get('device')}/{value.get('runtime')}:{settings}"


class EpochLine(_Line):
    """One epoch of training."""

    network: str = ""
    phase: str = "train"
    epoch: int = 0
    images_seen: int = 0
    seconds: float | None = None
    images_per_s: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    learning_rate: float | None = None
    resolution: int | None = None
    memory_format: str | None = None
    dtype: str | None = None
    foreign_cpu_share: float | None = None


class VerificationLine(_Line):
    """The exported file against the network, on the same pictures."""

    platform: str = ""
    max_abs_error: float | None = None
    relative_error: float | None = None
    top1_agreement: float | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    split: str = ""
    n: int | None = None
    compared: int | None = None
    passed: bool | None = None


class TrainedLine(_Line):
    """What summary.json holds of a `train`; `value` is that of the task's metric."""

    split: str
    value: float
    interval: tuple[float, float]
    n: int
    epochs: int


class FitRun(NamedTuple):
    """A run as its directory tells it; empty or `None` = the file is not there (yet).

    Attributes:
        under_way: whether a process works in the directory now.
        ended: whether the run wrote its summary, be it readable or not.
        trained: the answer of a `train`, which has no verdict.
        metric: what the network's answers are judged by, as the task names it.
        parent: what `adapt` started from.
        steps: of NetAdapt.
        trials: of a search.
        detection: of a detector, what its answers say beyond their figures.
        advice: why the network is slow, where somebody asked `guidelines`.
    """

    directory: Path
    under_way: bool
    ended: bool
    trained: TrainedLine | None
    metric: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    splits: Mapping[str, Any]
    stages: tuple[StageLine, ...]
    candidates: tuple[CandidateRow, ...]
    measurements: tuple[MeasurementLine, ...]
    epochs: tuple[EpochLine, ...]
    events: tuple[Mapping[str, Any], ...]
    verifications: tuple[VerificationLine, ...]
    architecture: AnyArchitecture | None
    parent: Architecture | None
    steps: tuple[Step, ...]
    artifact: Mapping[str, Any]
    summary: FitSummary | None
    problems: tuple[str, ...]
    detection: DetectionFindings | None = None
    trials: tuple[TrialRow, ...] = ()
    advice: Advice | None = None

    @property
    def status(self) -> str:
        """The verdict; without one `finished`, `running`, or `cut` (unfinished, nobody works)."""
        if self.summary is not None:
            return self.summary.verdict
        if self.ended:
            return "finished"
        return "running" if self.under_way else "cut"

    @property
    def identity(self) -> Mapping[str, Any]:
        """What was asked for: data, latency_ms, platform, seed and the like."""
        inner = self.settings.get("identity")
        return inner if isinstance(inner, Mapping) else self.settings

    @property
    def data(self) -> str | None:
        """The pictures as they were named."""
        given = self.settings.get("given")
        kept = given if isinstance(given, Mapping) else {}
        named = kept.get("data", self.identity.get("data"))
        return None if named is None else str(named)

    @property
    def budget_ms(self) -> float | None:
        """The latency limit, from the summary or else from what was asked for."""
        if self.summary is not None:
            return self.summary.budget.latency_ms
        value = self.identity.get("latency_ms")
        return float(value) if isinstance(value, int | float) else None

    @property
    def proof(self) -> MeasurementLine | None:
        """The measurement the verdict rests on: the one the summary quotes, else the last."""
        proofs = [line for line in self.measurements if line.purpose == "prove"]
        if self.summary is not None and self.summary.measured is not None:
            quoted = self.summary.measured.median_ms
            proofs = [line for line in proofs if line.median_ms == quoted] or proofs
        return proofs[-1] if proofs else None


T = TypeVar("T")
L = TypeVar("L", bound=BaseModel)


def read_run(directory: Path) -> FitRun:
    """Read whatever a run has written so far. Only reads: the run may still be going.

    Raises:
        UsageError: the directory is absent or is not a run directory.
    """
    # Not Path.is_file, which raises for a name that is too long.
    if not any(os.path.isfile(directory / name) for name in ("run.yaml", "summary.json")):  # noqa: PTH113
        raise UsageError(
            f"{directory} is not a run directory",
            allowed="a folder with run.yaml, written by `featherweight fit` or `train`",
        )
    # Asked first: a run that ends meanwhile has written its summary by the time that is read.
    under_way = is_locked(directory)
    problems: list[str] = []

    def lines(name: str) -> list[tuple[str, Any]]:
        return _read_lines(directory / name, problems=problems)

    def one(name: str, read: Callable[[Path], T]) -> T | None:
        return _read_file(directory / name, read, problems=problems)

    events = lines("train.jsonl")
    is_epoch = [isinstance(plain, dict) and plain.get("event") == "epoch" for _, plain in events]
    metric = one("network.json", _read_metric) or TASKS[CLASSIFICATION].metric
    answer = one("summary.json", partial(_read_answer, metric=metric))
    summary = answer if isinstance(answer, FitSummary) else None
    return FitRun(
        directory=directory,
        under_way=under_way,
        ended=(directory / "summary.json").is_file(),
        trained=answer if isinstance(answer, TrainedLine) else None,
        metric=metric,
        settings=_without_version(one("run.yaml", read_yaml)),
        environment=_without_version(one("environment.json", read_json)),
        splits=_without_version(one("splits.json", read_json)),
        stages=_parse(StageLine, lines("stages.jsonl"), problems=problems),
        candidates=latest_candidates(
            _parse(CandidateRow, lines("candidates.jsonl"), problems=problems)
        ),
        measurements=_parse(MeasurementLine, lines("measurements.jsonl"), problems=problems),
        epochs=_latest_epochs(
            _parse(
                EpochLine,
                [line for line, keep in zip(events, is_epoch, strict=True) if keep],
                problems=problems,
            )
        ),
        events=tuple(
            plain
            for (_, plain), keep in zip(events, is_epoch, strict=True)
            if not keep and isinstance(plain, dict)
        ),
        verifications=_parse(VerificationLine, lines("verifications.jsonl"), problems=problems),
        architecture=one("architecture.json", read_any_architecture),
        parent=one(_parent_record(directory), read_architecture),
        steps=_parse(Step, lines("adapt.jsonl"), problems=problems),
        artifact=_without_version(one(_artifact_record(directory, summary), read_json)),
        summary=summary,
        detection=one(FINDINGS_FILE, _read_findings),
        advice=one(ADVICE_FILE, _read_advice),
        trials=_parse(TrialRow, lines(TRIALS_FILE), problems=problems),
        problems=tuple(problems),
    )


def _read_findings(path: Path) -> DetectionFindings:
    return parse_record(DetectionFindings, read_json(path), source=path.name)


def _read_advice(path: Path) -> Advice:
    return parse_record(Advice, read_json(path), source=path.name)


def _parent_record(directory: Path) -> str:
    """Return where the architecture lies that `adapt` started from."""
    found = sorted(directory.glob("networks/*-parent/architecture.json"))
    return str(found[0].relative_to(directory)) if found else "networks/parent"


def _artifact_record(directory: Path, summary: FitSummary | None) -> str:
    """Return where artifact.json lies; the summary may name the model file or its folder."""
    named = Path(summary.artifact) if summary is not None and summary.artifact else Path()
    folder = named.parent if (directory / named).is_file() else named
    return str(folder / "artifact.json")


def _read_metric(path: Path) -> str:
    """Return the metric of the task that a network was made for."""
    plain = read_json(path)
    task = plain.get("task", CLASSIFICATION) if isinstance(plain, dict) else CLASSIFICATION
    if not isinstance(task, str):
        raise RecordError(f"{path.name}: key 'task': {task!r} is no text")
    return TASKS[task].metric if task in TASKS else task


def _read_answer(path: Path, *, metric: str) -> FitSummary | TrainedLine:
    """Return what a fit or a training found; the latter has no verdict but epochs."""
    plain = read_json(path)
    if isinstance(plain, dict) and "verdict" not in plain and "epochs" in plain:
        try:
            return TrainedLine.model_validate({"value": plain.get(metric), **plain})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            key = metric if key == "value" else key
            raise RecordError(f"{path.name}: key {key!r}: {first['msg']}") from error
    return parse_record(FitSummary, plain, source=path.name)


def _read_file(path: Path, read: Callable[[Path], T], *, problems: list[str]) -> T | None:
    if not path.is_file():
        return None
    try:
        return read(path)
    except FeatherweightError as error:
        problems.append(str(error))
        return None


def _read_lines(path: Path, *, problems: list[str]) -> list[tuple[str, Any]]:
    """Return (where, plain) of every readable line.

    Not `Journal.read`: a report is also made of a journal that somebody damaged, and names the
    damage. A last line without a line break is one that the run is still writing.
    """
    if not path.is_file():
        return []
    found: list[tuple[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            # NaN is not JSON; a loss that diverged is drawn as a gap.
            plain = parse_json(line, parse_constant=lambda _: None)
        except ValueError:
            problems.append(f"{path.name} line {number} is not JSON and was left out")
            continue
        found.append((f"{path.name} line {number}", plain))
    return found


def _parse(
    line_type: type[L], lines: list[tuple[str, Any]], *, problems: list[str]
) -> tuple[L, ...]:
    parsed: list[L] = []
    for where, plain in lines:
        known = _without_version(plain) if isinstance(plain, dict) else plain
        try:
            parsed.append(line_type.model_validate(known))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the line"
            problems.append(f"{where} was left out: {key}: {first['msg']}")
    return tuple(parsed)


def _latest_epochs(lines: tuple[EpochLine, ...]) -> tuple[EpochLine, ...]:
    """Keep the last line of an epoch that a resumed attempt trained again."""
    latest = {(line.network, line.phase, line.epoch): line for line in lines}
    return tuple(latest.values())


def _without_version(plain: object) -> dict[str, Any]:
    if not isinstance(plain, dict):
        return {}
    return {str(key): value for key, value in plain.items() if key != "schema_version"}
