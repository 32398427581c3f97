"""Make a trained network fast enough: the verb `adapt`, the whole story on one screen."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from featherweight.adapting.importance import IMPORTANCES
from featherweight.adapting.steps import Step
from featherweight.adapting.ways import WAYS
from featherweight.arguments import to_data
from featherweight.budget import Budget
from featherweight.errors import UsageError
from featherweight.fitting.candidate import Measured, Trained
from featherweight.fitting.conclude import (
    FitResult,
    conclude,
    conclude_again,
    conclude_infeasible,
)
from featherweight.fitting.last_trainings import train_in_turn
from featherweight.fitting.parent import read_parent
from featherweight.fitting.ranking import cheapest_of_equals
from featherweight.fitting.stages.prove import prove
from featherweight.fitting.stages.ways import Screened, make_smaller
from featherweight.fitting.steps_file import StepsFile
from featherweight.fitting.time_plan import ADAPT_STEPS_SHARE
from featherweight.fitting.verb_run import FromParent, open_verb_run, start_from, verb_settings
from featherweight.parallel import HERE, check_workers, open_executor
from featherweight.records import Record
from featherweight.registry import unknown_name
from featherweight.run_directory import RunDirectory
from featherweight.tasks.task import load_data

__all__ = ["AdaptResult", "Start", "adapt"]

logger = logging.getLogger(__name__)

AUTO = "auto"


@dataclass(frozen=True)
class AdaptResult:
    """What `adapt` hands back.

    Attributes:
        fit: the answer as that of a fit: verdict, measured latency, accuracy, files.
        start: the parent: its latency, and how well it answers val.
        steps: of NetAdapt, if that way was gone.
        way: how the network that ships was made; `None` = the parent ships, or nothing does.
    """

    fit: FitResult
    start: Start
    steps: tuple[Step, ...]
    way: str | None

    @property
    def met(self) -> bool:
        """Whether the exported file keeps the budget."""
        return self.fit.met

    def plain(self) -> dict[str, Any]:
        """Return the JSON of `adapt --json`."""
        summary = self.fit.summary
        accuracy = summary.accuracy
        return {
            "run_directory": str(self.fit.path),
            "verdict": summary.verdict,
            "budget": summary.budget.model_dump(mode="json"),
            "platform": summary.platform,
            "start": {
                "latency_ms": self.start.latency_ms,
                "accuracy": self.start.accuracy,
                "split": "val",
            },
            "steps": [
                {
                    "group": step.change.group,
                    "channels": step.change.channels,
                    "latency_ms": step.latency.median_ms,
                    "accuracy": step.score,
                }
                for step in self.steps
                if step.change is not None
            ],
            "way": self.way,
            "final": None
            if summary.measured is None
            else {
                "latency_ms": summary.measured.median_ms,
                "interval_ms": summary.measured.interval_ms,
                "accuracy": None if accuracy is None else accuracy.artifact,
                "split": None if accuracy is None else accuracy.split,
                "architecture": str(self.fit.path / "architecture.json"),
            },
            "nearest_feasible_ms": summary.nearest_feasible_ms,
            "report": str(self.fit.report),
        }


class Start(Record):
    """The parent as it was measured."""

    latency_ms: float
    accuracy: float


class _WayRecord(Record):
    """Which way was gone in the end, and from where."""

    start: Start
    way: str | None


def adapt(  # noqa: PLR0913 - the parameters of the command
    network: str | Path | nn.Module,
    data: str | Path,
    *,
    latency: str | float,
    on: str | None = None,
    method: str = AUTO,
    importance: str = "taylor",
    pretrained: str | None = None,
    time: str | float | None = None,
    epochs: int | None = None,
    resolution: int | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: str = HERE,
    output: str | Path | None = None,
    runs: str | Path = "runs",
    command: str = "featherweight.adapt(...)",
    spent_s: float = 0.0,
) -> AdaptResult:
    """Make a trained network fast enough for a latency, and prove it.

    Args:
        network: run directory of a trained network, or a name of the zoo with `pretrained`; in
            Python also a trained module whose outputs are the classes of the data in their order.
        data: the pictures it was trained on.
        latency: budget as text (`5ms`, `200fps`, `70%` of the network as it is) or milliseconds.
        on: platform, with the precision that ships; `None` = `local/onnxruntime:threads=1`.
        method: a name in `WAYS`, or `auto`: all are tried for a few steps of training, the best
            two are trained, and the one that answers val better ships.
        importance: a name in `IMPORTANCES`: what tells which channels go.
        pretrained: weights of a name: `auto` for the installed package, `torchvision`, or a file.
            Where they are of other classes, the classifier is fitted to the data first.
        time: wall clock of the whole command; the default is 30m.
        epochs: of each training instead of `time`.
        resolution: side of the pictures that a module takes.
        seed: of everything that draws.
        device: where training runs: auto, cpu, cuda or mps.
        workers: where NetAdapt's proposals are tried: `here`, `processes=N`, `ray` or
            `ray://HOST:PORT`.
        output: run directory; by default a new one under `runs`, or the unfinished one of the
            same call.
        runs: where run directories are made.
        command: the command line, for the record.
        spent_s: part of `time` that was gone before this call.

    Raises:
        UsageError: bad names or units, a network that is not trained or for other classes.
        UnsupportedError: a network whose channels cannot be cut.
        DeviceError: the device could not measure.
    """
    check_workers(workers)
    if method != AUTO and method not in WAYS:
        raise unknown_name("method", method, [AUTO, *WAYS])
    if importance not in IMPORTANCES:
        raise unknown_name("importance", importance, IMPORTANCES)
    started = clock.monotonic()
    is_share = isinstance(latency, str) and latency.strip().endswith("%")
    Budget.parse(latency, start_ms=1.0)  # a unit that nobody knows is refused before data are read
    settings = verb_settings(
        data,
        on=on,
        time=time,
        epochs=epochs,
        seed=seed,
        device=device,
        latency_ms=1.0 if is_share else Budget.parse(latency).latency_ms,
    )
    images = load_data(to_data(data), seed=seed)
    parent = read_parent(network, images, resolution=resolution, pretrained=pretrained, seed=seed)
    ways = tuple(WAYS) if method == AUTO else (method,)
    asked = {
        "latency": str(latency),
        "latency_ms": None if is_share else settings.latency_ms,
        "method": method,
        "importance": importance,
        "network": parent.content,
    }
    with open_verb_run(
        "adapt", settings, images, asked=asked, output=output, runs=runs, command=command
    ) as run:
        if run.finished:
            return _result(run, conclude_again(run))
        with open_executor(workers) as executor:
            loading_s = spent_s + clock.monotonic() - started
            begun = start_from(run, images, parent, settings, workers=executor, loading_s=loading_s)
            return _adapt(begun, _Request(str(latency), ways, importance), loading_s=loading_s)


@dataclass(frozen=True)
class _Request:
    latency: str
    ways: tuple[str, ...]
    importance: str


def _adapt(begun: FromParent, request: _Request, *, loading_s: float) -> AdaptResult:
    """Go through the stages: each is done once, and read back when an attempt was cut after it."""
    context, first, seen = begun
    run, settings = context.run, context.settings
    budget = Budget.parse(request.latency, start_ms=first.measured.latency.median_ms)
    context = replace(
        context, settings=settings.model_copy(update={"latency_ms": budget.latency_ms})
    )
    trained, raced = first, [first]
    found: list[tuple[Screened, Measured]] = []
    most_ms = context.samples.margin * budget.latency_ms
    if budget.is_met(first.measured.latency) or first.measured.latency.median_ms <= most_ms:
        logger.info("nothing to do: it takes %.3f ms already", first.measured.latency.median_ms)
    else:
        found, nearest_ms = make_smaller(
            context,
            first,
            request.ways,
            importance=request.importance,
            path_s=None if settings.time_s is None else ADAPT_STEPS_SHARE * settings.time_s,
        )
        if not found:
            _note_way(run, first, None)
            nearest_ms = max(nearest_ms / context.samples.margin, budget.latency_ms)
            return _result(run, conclude_infeasible(run, context.settings, nearest_ms))
        kept = found[: context.policy.adapt.trained]
        ends = train_in_turn(
            context,
            [measured for _, measured in kept],
            teacher=first.training,
            reason=lambda training: (
                f"val loss {training.val_loss:.3f}; the parent has {first.val_loss:.3f}"
            ),
        )
        trained = cheapest_of_equals(sorted(ends, key=lambda one: one.val_loss), seed=settings.seed)
        raced = [*ends, first]
    summary = prove(
        context,
        trained,
        raced,
        largest=trained.candidate.size,
        uneven=seen.uneven,
        loading_s=loading_s,
        compared=context.ending.compared,
    )
    _note_way(run, first, _shipped_way(str(summary.network), first, found))
    return _result(run, conclude(run, summary))


def _shipped_way(
    network: str, parent: Trained, found: Sequence[tuple[Screened, Measured]]
) -> str | None:
    """Return how what ships was made: the proof may have taken another finalist, or size."""
    named = {measured.candidate.family.name: screened.way for screened, measured in found}
    named[parent.candidate.family.name] = "resolution"
    if network == parent.candidate.label:
        return None
    return named[max((name for name in named if network.startswith(name)), key=len)]


def _note_way(run: RunDirectory, parent: Trained, way: str | None) -> None:
    """Write down how the answer was found, for the result."""
    record = _WayRecord(
        start=Start(latency_ms=parent.measured.latency.median_ms, accuracy=parent.val.value),
        way=way,
    )
    run.stage("way", inputs={}, outputs=_WayRecord, work=lambda: record)


def _result(run: RunDirectory, fit: FitResult) -> AdaptResult:
    def missing() -> _WayRecord:
        raise UsageError(f"{run.path} is no finished run of adapt", hint="choose another --output")

    record = run.stage("way", inputs={}, outputs=_WayRecord, work=missing)
    return AdaptResult(fit, record.start, StepsFile(run.path).read(), record.way)
