"""What every verb with a run directory of its own begins with: settings, run, trained parent."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from featherweight.arguments import check_seed, optional_path, to_data, to_path
from featherweight.budget import parse_duration_s
from featherweight.data.images import ImageData
from featherweight.errors import UsageError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, parse_platform
from featherweight.fitting.candidate import Trained
from featherweight.fitting.context import FitContext, open_context
from featherweight.fitting.parent import Parent, as_candidate
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import Look, look
from featherweight.fitting.stages.start import start
from featherweight.fitting.time_plan import TimePlan, check_time
from featherweight.run_directory import RunDirectory, is_begun, open_run
from featherweight.training.compute import choose_device

__all__ = ["FromParent", "begin", "open_verb_run", "start_from", "verb_settings"]

logger = logging.getLogger(__name__)

_DEFAULT_TIME = "30m"


def verb_settings(
    data: str | Path,
    *,
    on: str | None,
    time: str | float | None,
    epochs: int | None,
    seed: int,
    device: str,
    latency_ms: float = 1.0,
    **others: Any,
) -> FitSettings:
    """Return the settings of a verb that makes one file, in the platform's precision.

    Args:
        data: as the verb was given it, like all that follow.
        on: platform; `None` = the default one.
        time: wall clock of the verb; 30m where no epochs are given either.
        epochs: of its trainings instead.
        seed: of everything that draws.
        device: where training runs.
        latency_ms: the budget, or anything where it follows from what is measured.
        others: fields of the settings.

    Raises:
        UsageError: a bad name or number, or both time and epochs.
    """
    choose_device(device)
    check_seed(seed)
    if time is not None and epochs is not None:
        raise UsageError("both time and epochs were given", allowed="one of them")
    platform = parse_platform(on or DEFAULT_PLATFORM)
    time = _DEFAULT_TIME if time is None else time
    return FitSettings(
        data=str(to_data(data)),
        latency_ms=latency_ms,
        platform=str(platform.with_precision("fp32")),
        time_s=None if epochs is not None else parse_duration_s(time),
        epochs=epochs,
        precisions=(platform.precision,),
        seed=seed,
        device=device,
        **others,
    )


@contextmanager
def open_verb_run(
    verb: str,
    settings: FitSettings,
    images: ImageData,
    *,
    asked: Mapping[str, Any],
    output: str | Path | None,
    runs: str | Path,
    command: str,
) -> Iterator[RunDirectory]:
    """Open the run directory of a verb: the one that was named, one to go on with, or a new one.

    Args:
        verb: its name.
        settings: of the run.
        images: the data.
        asked: what else makes two calls the same.
        output: the directory, if one was named.
        runs: where others are made.
        command: the command line, for the record.

    Raises:
        UsageError: too little time for the data, or a directory of another call.
    """
    identity = {**settings.identity(fingerprint=images.fingerprint), "verb": verb, **asked}
    output, runs = optional_path(output, name="output"), to_path(runs, name="runs")
    check_time(settings, images, is_begun=is_begun(output, parent=runs, identity=identity))
    with open_run(
        output,
        parent=runs,
        identity=identity,
        command=command,
        name=f"{verb}-{images.name}",
        given=settings.given,
    ) as run:
        yield run


def begin(
    run: RunDirectory,
    images: ImageData,
    settings: FitSettings,
    seen: Look,
    *,
    workers: Executor,
    loading_s: float,
) -> FitContext:
    """Return what stages work with, after the look at machine and data.

    Args:
        run: where everything is kept.
        images: the data.
        settings: of the run.
        seen: by the look.
        workers: what tries proposals.
        loading_s: part of the time that is gone.
    """
    logger.info("run directory: %s", run.path)
    context = open_context(
        run,
        images,
        settings,
        plan=TimePlan.of(settings, spent_s=loading_s, small=seen.small),
        workers=workers,
        foreign_share=seen.foreign_cpu_share or 0.0,
    )
    context.ledger.write_splits(images)
    return context


class FromParent(NamedTuple):
    """A run that has measured and judged the network it starts from."""

    context: FitContext
    first: Trained
    seen: Look


def start_from(
    run: RunDirectory,
    images: ImageData,
    parent: Parent,
    settings: FitSettings,
    *,
    workers: Executor,
    loading_s: float,
) -> FromParent:
    """Look at machine and data, and measure the parent: the first stages.

    Args:
        run: where everything is kept.
        images: the data.
        parent: the trained network.
        settings: of the run.
        workers: what tries proposals.
        loading_s: part of the time that is gone.
    """
    seen = look(images, settings)
    context = begin(run, images, settings, seen, workers=workers, loading_s=loading_s)
    candidate, phase = as_candidate(parent, run=run.path, precision=settings.precisions[0])
    drawn = parent.stored.classifier if parent.is_fresh else None
    return FromParent(context, start(context, candidate, phase, drawn=drawn), seen)
