"""Fit a network to data, a device and a latency budget: the whole story on one screen."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from featherweight.arguments import check_seed, optional_path, to_data, to_path
from featherweight.budget import Budget, parse_duration_s, parse_share
from featherweight.data.images import ImageData
from featherweight.errors import UsageError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, parse_platform
from featherweight.fitting.candidate import Measured, Trained
from featherweight.fitting.conclude import (
    FitResult,
    conclude,
    conclude_again,
    conclude_infeasible,
)
from featherweight.fitting.context import FitContext, open_context
from featherweight.fitting.curve import fit_from
from featherweight.fitting.families import families
from featherweight.fitting.settings import FitSettings, allowed_metric, allowed_precisions
from featherweight.fitting.stages.fill import fill
from featherweight.fitting.stages.float32 import prefer_float32
from featherweight.fitting.stages.int8_finetune import finetune_int8
from featherweight.fitting.stages.look import look
from featherweight.fitting.stages.pace import pace
from featherweight.fitting.stages.probe import probe, with_first_classifiers
from featherweight.fitting.stages.prove import prove
from featherweight.fitting.stages.race import race, racers
from featherweight.fitting.stages.refit_head import is_known_to_grow, refit_head
from featherweight.fitting.stages.shop import shop
from featherweight.fitting.stages.size import choose_shipped_size, choose_trained_size
from featherweight.fitting.stages.train import plan_training, train
from featherweight.fitting.time_plan import TimePlan, check_time
from featherweight.parallel import HERE, check_workers, open_executor
from featherweight.run_directory import RunDirectory, is_begun, open_run
from featherweight.tasks.task import load_data
from featherweight.training.compute import choose_device

__all__ = ["FitResult", "fit"]

logger = logging.getLogger(__name__)


def fit(  # noqa: PLR0913 - the parameters of the command
    data: str | Path | None = None,
    *,
    latency: str | float,
    on: str | None = None,
    time: str | float | None = None,
    epochs: int | None = None,
    model: str | None = None,
    pretrained: str = "auto",
    precisions: Sequence[str] | None = None,
    metric: str = "accuracy",
    min_accuracy: str | float | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: str = HERE,
    from_run: str | Path | None = None,
    output: str | Path | None = None,
    runs: str | Path = "runs",
    show_plan: bool = False,
    command: str = "featherweight.fit(...)",
    spent_s: float = 0.0,
) -> FitResult:
    """Train, export, measure and verify the best network for a latency budget.

    Args:
        data: folder of class folders, Parquet file, or `demo`; `None` only with `from_run`.
        latency: budget as text (`5ms`, `200fps`) or milliseconds.
        on: platform; `None` = `local/onnxruntime:threads=1`, or that of `from_run`.
        time: wall clock of the whole command as text (`30m`) or seconds; the default is 30m.
        epochs: epochs of the final training instead of `time`.
        model: restrict the choice to one network.
        pretrained: `auto`, `none`, or a weights file for `model`.
        precisions: what may ship; by default the one `on` spells out, else fp32 and int8.
        metric: `accuracy`, or `balanced_accuracy`: every class counts the same in trainings and
            choices, however many pictures it has.
        min_accuracy: least accuracy of the exported file on test, `0.8` or `80%`; `None` = surely
            better than always answering with the commonest class.
        seed: of everything that draws.
        device: where training runs: auto, cpu, cuda or mps.
        workers: where trainings run that do not depend on each other: `here`, `processes=N`, `ray`
            or `ray://HOST:PORT` (`parallel.open_executor`). Measuring stays one at a time.
        from_run: run directory of an earlier fit: its networks answer the new budget, nothing is
            trained. Data, seed, networks and weights are then that run's.
        output: run directory; by default a new one under `runs`, or the unfinished one of the
            same call.
        runs: where run directories are made.
        show_plan: whether the log says first where the time goes.
        command: the command line, for the record.
        spent_s: part of `time` that was gone before this call.

    Raises:
        UsageError: bad data, names or units, a time too short, or a run directory that belongs to
            another fit.
        FailedError: training failed (loss not finite) or the disk is full.
        DeviceError: the device could not measure.
    """
    choose_device(device)  # one that is not there is refused before anything is read
    check_seed(seed)
    check_workers(workers)
    output, runs = optional_path(output, name="output"), to_path(runs, name="runs")
    if from_run is not None:
        given = {
            "DATA": data,
            "--time": time,
            "--epochs": epochs,
            "--model": model,
            "--metric": None if metric == "accuracy" else metric,
            "--seed": seed or None,
            "--pretrained": None if pretrained == "auto" else pretrained,
            "--plan": show_plan or None,
            "--workers": None if workers == HERE else workers,
        }
        _refuse_beside_from([name for name, value in given.items() if value is not None])
        return fit_from(
            to_path(from_run, name="from_run"),
            latency=latency,
            on=on,
            precisions=precisions,
            min_accuracy=parse_share(min_accuracy),
            device=device,
            output=output,
            runs=runs,
            command=command,
        )
    if data is None:
        raise UsageError(
            "no DATA was named", allowed="a folder of class folders, a Parquet file, or demo"
        )
    if time is not None and epochs is not None:
        raise UsageError("both time and epochs were given", allowed="one of them")
    on = on or DEFAULT_PLATFORM
    platform = parse_platform(on)
    settings = FitSettings(
        data=to_data(data),
        latency_ms=Budget.parse(latency).latency_ms,
        platform=str(platform),
        time_s=None if epochs is not None else parse_duration_s("30m" if time is None else time),
        epochs=epochs,
        model=model,
        pretrained=pretrained,
        precisions=allowed_precisions(precisions, platform, on),
        metric=allowed_metric(metric),
        min_accuracy=parse_share(min_accuracy),
        seed=seed,
        device=device,
    )
    return _run(
        settings,
        output=output,
        runs=runs,
        command=command,
        workers=workers,
        show_plan=show_plan,
        spent_s=spent_s,
    )


def _run(
    settings: FitSettings,
    *,
    output: Path | None,
    runs: Path,
    command: str,
    workers: str,
    show_plan: bool,
    spent_s: float,
) -> FitResult:
    """Read the data and do the fit, or the rest of it, in its run directory."""
    started = clock.monotonic()
    images = load_data(settings.data, seed=settings.seed)
    identity = settings.identity(fingerprint=images.fingerprint)
    check_time(settings, images, is_begun=is_begun(output, parent=runs, identity=identity))
    loading_s = spent_s + clock.monotonic() - started
    with open_run(
        output,
        parent=runs,
        identity=identity,
        command=command,
        name=f"fit-{images.name}",
        given=settings.given,
    ) as run:
        if run.finished:
            return conclude_again(run)
        with open_executor(workers) as executor:
            return _fit(
                run,
                images,
                settings,
                workers=executor,
                loading_s=loading_s,
                show_plan=show_plan,
            )


def _fit(
    run: RunDirectory,
    images: ImageData,
    settings: FitSettings,
    *,
    workers: Executor,
    loading_s: float,
    show_plan: bool = False,
) -> FitResult:
    """Go through the stages: each is done once, and read back when an attempt was cut after it."""
    logger.info("run directory: %s", run.path)
    seen = look(images, settings)
    plan = TimePlan.of(settings, spent_s=loading_s, small=seen.small)
    if show_plan:
        for line in plan.told():
            logger.info("plan: %s", line)
    context = open_context(
        run,
        images,
        settings,
        plan=plan,
        workers=workers,
        foreign_share=seen.foreign_cpu_share or 0.0,
    )
    context.ledger.write_splits(images)
    context.moments.take()
    entrants, nearest_ms = shop(context, families(seen, settings))
    if not entrants:
        return conclude_infeasible(run, settings, nearest_ms)
    entrants, context = probe(context, entrants)
    winner, raced, context = _choose(context, entrants)
    winner, filled = fill(context, winner)
    raced = [*raced, *filled]
    times = plan_training(context, winner.candidate, raced)
    trained = train(context, winner, raced, times=times)
    trained = finetune_int8(context, trained, time_s=times.int8_s)
    trained = prefer_float32(context, trained)
    trained, largest = _settle(context, trained)
    summary = prove(
        context,
        trained,
        raced,
        largest=largest,
        uneven=seen.uneven,
        loading_s=loading_s,
        compared=context.ending.compared,
    )
    return conclude(run, summary)


def _choose(
    context: FitContext, entrants: list[Measured]
) -> tuple[Measured, list[Trained], FitContext]:
    """Return what the last training should train, everything that was raced, and the context."""
    # What nothing races with gets its size before its speed is timed: pictures are decoded once.
    alone = len(entrants) == 1 and entrants[0].candidate.family.axis == "resolution"
    if alone:
        entrants = [choose_trained_size(context, entrants[0])]
    entrants, context = pace(context, entrants)
    entrants = racers(context, entrants)
    raced = race(context, entrants)
    first = raced[0].measured if raced else entrants[0]
    winner = first if alone else choose_trained_size(context, first)
    context.ending.grow(first.candidate, winner.candidate)
    return winner, raced, with_first_classifiers(context, [winner.candidate])


def _settle(context: FitContext, trained: Trained) -> tuple[Trained, float]:
    """Return what ships, and the size at which it should just fit."""
    plan, candidate = context.plan, trained.candidate
    # One that was not held back by its pace was trained at the largest size that fitted then.
    growth = max(candidate.family.seen_scales, default=1.0)
    if candidate.is_held_back and candidate.family.source is not None:
        growth = context.policy.size.farthest
    has_time = plan.total_s is None or context.ending.leaves_time(
        plan.total_s - context.run.elapsed_s
    )
    fitting = choose_shipped_size(context, trained, growth=growth, has_time=has_time)
    size = fitting.candidate.size
    if not plan.races and is_known_to_grow(context, trained, size):
        return trained, size
    trained = refit_head(context, trained, fitting, is_short=not plan.races)
    return trained, min(size, trained.candidate.size)


def _refuse_beside_from(given: list[str]) -> None:
    if given:
        raise UsageError(
            f"{given[0]} was given together with --from",
            allowed="--latency, --on, --precision, --device and --output",
            hint="data, seed and networks are the earlier run's, and no network is trained",
        )
