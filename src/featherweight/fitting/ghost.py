"""Ghost modules in a trained network, where the device is faster with them: the verb `ghost`."""

from __future__ import annotations

import logging
import time as clock
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from featherweight.adapting.ghost import GhostForm
from featherweight.arguments import to_data
from featherweight.budget import Latency
from featherweight.errors import UsageError
from featherweight.fitting.candidate import Candidate, Measured, Trained
from featherweight.fitting.conclude import (
    FitResult,
    conclude,
    conclude_again,
    conclude_infeasible,
)
from featherweight.fitting.families import stored_family
from featherweight.fitting.last_trainings import train_in_turn
from featherweight.fitting.parent import read_parent
from featherweight.fitting.stages.ghosts import Ghosts, choose_ghosts
from featherweight.fitting.stages.prove import prove
from featherweight.fitting.verb_run import FromParent, open_verb_run, start_from, verb_settings
from featherweight.parallel import HERE, open_executor
from featherweight.records import Record
from featherweight.run_directory import RunDirectory
from featherweight.tasks.task import load_data

__all__ = ["GhostResult", "ghost"]

logger = logging.getLogger(__name__)


class _Record(Record):
    """What `ghost` writes down of itself."""

    start_ms: float
    start_accuracy: float
    form: GhostForm
    ghosts: Ghosts


@dataclass(frozen=True)
class GhostResult:
    """What `ghost` hands back.

    Attributes:
        fit: the answer as that of a fit: verdict, measured latency, accuracy, files. The budget is
            what the network took before.
        start_ms, start_accuracy: of the network before, on val.
        form: of the modules.
        ghosts: which layers became modules, and the speed-ups.
    """

    fit: FitResult
    start_ms: float
    start_accuracy: float
    form: GhostForm
    ghosts: Ghosts

    @property
    def met(self) -> bool:
        """Whether the exported file is at least as fast as what it was made of."""
        return self.fit.met

    @property
    def theoretical_speed_up(self) -> float:
        """Multiply-adds before over those after."""
        return 1 / self.ghosts.macs_ratio

    @property
    def measured_speed_up(self) -> float | None:
        """Milliseconds before over those after; `None` = nothing was changed."""
        return None if self.ghosts.ratio is None else 1 / self.ghosts.ratio

    def plain(self) -> dict[str, Any]:
        """Return the JSON of `ghost --json`."""
        summary, accuracy = self.fit.summary, self.fit.summary.accuracy
        return {
            "run_directory": str(self.fit.path),
            "verdict": summary.verdict,
            "platform": summary.platform,
            **self.form.model_dump(mode="json"),
            "start": {
                "latency_ms": self.start_ms,
                "accuracy": self.start_accuracy,
                "split": "val",
            },
            "layers": [one.model_dump(mode="json") for one in self.ghosts.trials],
            "explained": self.ghosts.explained,
            "theoretical_speed_up": self.theoretical_speed_up,
            "measured_speed_up": self.measured_speed_up,
            "final": None
            if summary.measured is None
            else {
                "latency_ms": summary.measured.median_ms,
                "interval_ms": summary.measured.interval_ms,
                "accuracy": None if accuracy is None else accuracy.artifact,
                "split": None if accuracy is None else accuracy.split,
                "architecture": str(self.fit.path / "architecture.json"),
            },
            "report": str(self.fit.report),
        }


def ghost(  # noqa: PLR0913 - the parameters of the command
    network: str | Path | nn.Module,
    data: str | Path,
    *,
    on: str | None = None,
    form: Literal["ghost", "rep"] = "ghost",
    ratio: int = 2,
    kernel_size: int = 3,
    everywhere: bool = False,
    pretrained: str | None = None,
    time: str | float | None = None,
    epochs: int | None = None,
    resolution: int | None = None,
    seed: int = 0,
    device: str = "auto",
    output: str | Path | None = None,
    runs: str | Path = "runs",
    command: str = "featherweight.ghost(...)",
    spent_s: float = 0.0,
) -> GhostResult:
    """Put ghost modules in the place of dense convolutions where that is faster; train and prove.

    Args:
        network: run directory of a trained network, or a name of the zoo with `pretrained`; in
            Python also a trained module whose outputs are the classes of the data in their order.
        data: the pictures it was trained on.
        on: platform, with the precision that ships; `None` = `local/onnxruntime:threads=1`.
        form: `ghost` or `rep`, see `adapting.ghost`.
        ratio: channels of a map per channel that is convolved.
        kernel_size: side of the cheap filters.
        everywhere: modules in the place of all layers that can be ones, faster or not.
        pretrained: weights of a name, see `adapt`.
        time: wall clock of the whole command; the default is 30m.
        epochs: of the training instead of `time`.
        resolution: side of the pictures that a module takes.
        seed: of everything that draws.
        device: where training runs: auto, cpu, cuda or mps.
        output: run directory; by default a new one under `runs`, or the unfinished one of the
            same call.
        runs: where run directories are made.
        command: the command line, for the record.
        spent_s: part of `time` that was gone before this call.

    Raises:
        UsageError: bad names or numbers, a network that is not trained, for other classes, or
            without a convolution that could be a module.
        DeviceError: the device could not measure, or is too disturbed to tell.
    """
    if form not in ("ghost", "rep"):
        raise UsageError(f"no form of ghost modules named {form!r}", allowed="ghost, rep")
    modules = GhostForm(form=form, ratio=ratio, kernel_size=kernel_size)
    modules.check()
    started = clock.monotonic()
    settings = verb_settings(data, on=on, time=time, epochs=epochs, seed=seed, device=device)
    images = load_data(to_data(data), seed=seed)
    parent = read_parent(network, images, resolution=resolution, pretrained=pretrained, seed=seed)
    asked = {
        "latency_ms": None,
        "modules": modules.model_dump(mode="json"),
        "everywhere": everywhere,
        "network": parent.content,
    }
    with open_verb_run(
        "ghost", settings, images, asked=asked, output=output, runs=runs, command=command
    ) as run:
        if run.finished:
            return _result(run, conclude_again(run))
        with open_executor(HERE) as executor:
            loading_s = spent_s + clock.monotonic() - started
            begun = start_from(run, images, parent, settings, workers=executor, loading_s=loading_s)
            return _ghost(begun, modules, everywhere=everywhere, loading_s=loading_s)


def _ghost(
    begun: FromParent, modules: GhostForm, *, everywhere: bool, loading_s: float
) -> GhostResult:
    """Go through the stages: each is done once, and read back when an attempt was cut after it."""
    context, first, seen = begun
    run = context.run
    most_ms = first.measured.latency.interval_ms[1]
    context = replace(context, settings=context.settings.model_copy(update={"latency_ms": most_ms}))
    ghosts = choose_ghosts(context, first, modules, everywhere=everywhere)
    record = _Record(
        start_ms=first.measured.latency.median_ms,
        start_accuracy=first.val.value,
        form=modules,
        ghosts=ghosts,
    )
    run.stage("ghost", inputs={}, outputs=_Record, work=lambda: record)
    if ghosts.folder is None:
        return _result(run, conclude_infeasible(run, context.settings, None))
    trained = train_in_turn(
        context,
        [_measured(run, first, ghosts)],
        teacher=first.training,
        reason=lambda training: (
            f"val loss {training.val_loss:.3f}; before it was {first.val_loss:.3f}"
        ),
    )
    summary = prove(
        context,
        trained[0],
        trained,  # nothing else ships: the figures are those of this network
        largest=trained[0].candidate.size,
        uneven=seen.uneven,
        loading_s=loading_s,
        compared=context.ending.compared,
    )
    return _result(run, conclude(run, summary))


def _measured(run: RunDirectory, first: Trained, ghosts: Ghosts) -> Measured:
    """Return the network with its modules as a candidate."""
    before = first.candidate.family
    family, size = stored_family(
        run.path / str(ghosts.folder), source=before.source, weights_of=before.weights_of
    )
    candidate = Candidate(replace(family, sizes=(size,)), size, first.candidate.precision)
    start_ms = first.measured.latency.median_ms
    low, high = ghosts.interval or (1.0, 1.0)
    latency = Latency(
        median_ms=start_ms * (ghosts.ratio or 1.0), interval_ms=(start_ms * low, start_ms * high)
    )
    return Measured(candidate, latency)


def _result(run: RunDirectory, fit: FitResult) -> GhostResult:
    def missing() -> _Record:
        raise UsageError(f"{run.path} is no finished run of ghost", hint="choose another --output")

    found = run.stage("ghost", inputs={}, outputs=_Record, work=missing)
    return GhostResult(fit, found.start_ms, found.start_accuracy, found.form, found.ghosts)
