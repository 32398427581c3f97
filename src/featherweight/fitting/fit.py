"""Fit a network to data, a device and a latency budget: the whole story on one screen."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from pathlib import Path

from featherweight.arguments import check_seed, optional_path, to_data, to_path
from featherweight.budget import parse_duration_s, parse_latency_ms, parse_share
from featherweight.data.images import ImageData, load_images
from featherweight.errors import UsageError
from featherweight.fitting.curve import fit_from
from featherweight.fitting.ending import end_again, end_infeasible, prove_stage
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import families
from featherweight.fitting.fill import fill_stage
from featherweight.fitting.finish import finish_stage
from featherweight.fitting.halving import run_race
from featherweight.fitting.last_training import last_training, training_times
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import look
from featherweight.fitting.moments import Moments
from featherweight.fitting.pace import pace_stage
from featherweight.fitting.probe import FeatureReaders
from featherweight.fitting.race import open_trainer
from featherweight.fitting.result import FitResult
from featherweight.fitting.settings import FitSettings, allowed_metric, allowed_precisions
from featherweight.fitting.settle import FARTHEST, is_known_to_grow, settle_stage
from featherweight.fitting.stages import (
    create_sizer,
    kept_entries,
    probe_stage,
    ship_size_stage,
    shop_stage,
    size_stage,
    with_first_classifiers,
)
from featherweight.fitting.time_plan import TimePlan, check_time
from featherweight.measuring.platform import DEFAULT_PLATFORM, parse_platform
from featherweight.reporting.run import FitSummary
from featherweight.run_directory import RunDirectory, is_begun, open_run
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
    from_run: str | Path | None = None,
    output: str | Path | None = None,
    runs: str | Path = "runs",
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
        from_run: run directory of an earlier fit: its networks answer the new budget, nothing is
            trained. Data, seed, networks and weights are then that run's.
        output: run directory; by default a new one under `runs`, or the unfinished one of the
            same call.
        runs: where run directories are made.
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
    output, runs = optional_path(output, name="output"), to_path(runs, name="runs")
    if from_run is not None:
        given = {
            "DATA": data, "--time": time, "--epochs": epochs, "--model": model,
            "--metric": None if metric == "accuracy" else metric,
            "--seed": seed or None, "--pretrained": None if pretrained == "auto" else pretrained,
        }  # fmt: skip
        _refuse_beside_from([name for name, value in given.items() if value is not None])
        return fit_from(
            to_path(from_run, name="from_run"), latency=latency, on=on, precisions=precisions,
            min_accuracy=parse_share(min_accuracy), device=device, output=output, runs=runs,
            command=command,
        )  # fmt: skip
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
        latency_ms=parse_latency_ms(latency),
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
    started = clock.monotonic()
    images = load_images(settings.data, seed=settings.seed)
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
            return FitResult(end_again(run), run.path)
        return FitResult(_work(run, images, settings, loading_s=loading_s), run.path)


def _work(
    run: RunDirectory, images: ImageData, settings: FitSettings, *, loading_s: float
) -> FitSummary:
    logger.info("run directory: %s", run.path)
    ledger, moments = Ledger(run), Moments()
    ledger.write_splits(images)
    found = look(images, settings)
    moments.take()
    plan = TimePlan.of(settings, spent_s=loading_s, small=found.small)
    ending = EndingTime.of(images, settings, foreign_share=found.foreign_cpu_share or 0.0)
    stalls = families(found, settings)
    candidates, nearest = shop_stage(
        run, ledger, stalls, settings, plan=plan, moments=moments, ending=ending
    )
    entries = kept_entries(candidates, stalls)
    if not entries:
        return end_infeasible(run, settings, nearest)
    trainer = open_trainer(images, settings, folder=run.path)
    readers = FeatureReaders(trainer)
    entries, trainer = probe_stage(
        entries, trainer=trainer, run=run, ledger=ledger, readers=readers, plan=plan,
        moments=moments, ending=ending,
    )  # fmt: skip
    sizer = create_sizer(run, ledger, settings)
    # What nothing races with gets its size before its speed is timed: pictures are decoded once.
    alone = len(entries) == 1 and entries[0].family.knob == "resolution"
    if alone:
        entries = [size_stage(run, ledger, entries[0], sizer=sizer, within_s=plan.size_s)]
    entries, trainer = pace_stage(
        entries, trainer=trainer, run=run, ledger=ledger, settings=settings, plan=plan,
        moments=moments, ending=ending,
    )  # fmt: skip
    raced = run_race(entries, trainer=trainer, run=run, plan=plan)
    ledger.note_race(raced)
    first = raced[0].entry if raced else entries[0]
    winner = first
    if not alone:
        winner = size_stage(run, ledger, first, sizer=sizer, within_s=plan.size_s)
    ending.grow(first, winner)
    trainer = with_first_classifiers(
        [winner], trainer=trainer, run=run, readers=readers, plan=plan, ending=ending
    )
    winner, filled = fill_stage(run, ledger, winner, trainer=trainer, settings=settings, plan=plan)
    raced = [*raced, *filled]
    times = training_times(run, winner, raced, trainer=trainer, plan=plan, ending=ending)
    trained = last_training(
        run, winner, raced, trainer=trainer, plan=plan, times=times, settings=settings
    )
    trained = finish_stage(
        run, trained, trainer=trainer, time_s=times.finish_s, epochs=settings.epochs
    )
    # One that was not held back by its pace was trained at the largest size that fitted then.
    paced = trained.entry.ceiling is not None and trained.entry.family.source is not None
    value = ship_size_stage(
        run, trained, sizer=sizer, within_s=plan.size_s,
        has_time=plan.total_s is None or ending.leaves_time(plan.total_s - run.elapsed_s),
        growth=FARTHEST if paced else max(trained.entry.family.seen_scales, default=1.0),
    )  # fmt: skip
    if plan.races or not is_known_to_grow(trained, value, trainer=trainer):
        trained = settle_stage(
            run, ledger, trained, value, trainer=trainer, is_short=not plan.races
        )
        value = min(value, trained.entry.value)
    return prove_stage(
        run, ledger, trained, raced, trainer=trainer, settings=settings, value=value, found=found,
        loading_s=loading_s, compared=ending.compared,
    )  # fmt: skip


def _refuse_beside_from(given: list[str]) -> None:
    if given:
        raise UsageError(
            f"{given[0]} was given together with --from",
            allowed="--latency, --on, --precision, --device and --output",
            hint="data, seed and networks are the earlier run's, and no network is trained",
        )
