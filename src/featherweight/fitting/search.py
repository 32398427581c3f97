"""Search a space for the best network that a device runs in time: the verb `search`."""

from __future__ import annotations

import logging
import time as clock
import uuid
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from featherweight.arguments import check_seed, optional_path, to_data, to_path
from featherweight.budget import Budget, parse_duration_s
from featherweight.data.images import ImageData
from featherweight.errors import FailedError, UnsupportedError, UsageError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, parse_platform
from featherweight.fitting.conclude import (
    conclude,
    conclude_again,
    conclude_infeasible,
)
from featherweight.fitting.context import FitContext, open_context
from featherweight.fitting.last_trainings import train_in_turn
from featherweight.fitting.ranking import cheapest_of_equals
from featherweight.fitting.search_result import SearchResult, note_search, read_search
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import Look, look
from featherweight.fitting.stages.prove import prove
from featherweight.fitting.stages.trials import Searcher, time_first_networks
from featherweight.fitting.time_plan import TimePlan, check_time
from featherweight.fitting.train_candidate import Length
from featherweight.parallel import HERE, check_workers, open_executor
from featherweight.records import Record
from featherweight.registry import unknown_name
from featherweight.run_directory import RunDirectory, is_begun, open_run
from featherweight.searching.features import PointFeatures
from featherweight.searching.reward import Reward
from featherweight.searching.sampler import GENERATION, SAMPLERS
from featherweight.searching.space import SPACES, Space, SpaceSettings, count_points
from featherweight.searching.staged_space import read_staged_space
from featherweight.searching.study import Study, file_address, open_study
from featherweight.searching.trials_file import TrialRow
from featherweight.tasks.task import CLASSIFICATION, load_data
from featherweight.training.compute import choose_device

__all__ = ["DEFAULT_SAMPLER", "DEFAULT_TRIALS", "search"]

logger = logging.getLogger(__name__)

Objective = Literal["hard", "soft"]

DEFAULT_SAMPLER = "predictor"
DEFAULT_TRIALS = 30
_TRIALS_SHARE = 0.6
"""Of the whole time, for all trials."""
_TRAINING_SHARE = 0.9
"""Of the time for trials, for their trainings; the rest times, exports and ranks their files."""
_EPOCHS_SHARE = 5
"""A trial has one fifth of the epochs of the last trainings."""
_RETRAINED = 3
"""The best trials, trained in full: a short training errs about which of them is best."""
_PHOTOGRAPHS = 224
_SPACE_FILES = (".yaml", ".yml")


def search(  # noqa: PLR0913 - the parameters of the command
    data: str | Path,
    *,
    space: str | Path,
    latency: str | float,
    trials: int = DEFAULT_TRIALS,
    on: str | None = None,
    sampler: str = DEFAULT_SAMPLER,
    objective: str = "hard",
    time: str | float | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: str = HERE,
    storage: str | None = None,
    output: str | Path | None = None,
    runs: str | Path = "runs",
    command: str = "featherweight.search(...)",
    spent_s: float = 0.0,
) -> SearchResult:
    """Search a space for the best network that a device runs in time, train it and prove it.

    Latency is known before anything is trained: it is foretold from networks that were timed, and
    each proposed network is timed as it ships. The best three trials are trained in full.

    Args:
        data: folder of class folders, Parquet file, or `demo`.
        space: a name in `SPACES`, or a YAML file (`read_staged_space`).
        latency: budget as text (`5ms`, `200fps`) or milliseconds.
        trials: networks that are trained to be compared.
        on: platform, with the precision that ships; `None` = `local/onnxruntime:threads=1`.
        sampler: a name in `SAMPLERS`.
        objective: `hard`: what is too slow is not trained; `soft`: MnasNet's reward, for which a
            network may be slower than the budget, and the verdict is then NOT MET.
        time: wall clock of the whole command; the default is 30m.
        epochs: of the last trainings instead of `time`; a trial has a fifth of them.
        seed: of everything that draws.
        device: where training runs: auto, cpu, cuda or mps.
        workers: where the trials of a generation are trained.
        storage: address of a database for the study; `None` = `study.db` in the run directory.
        output: run directory; by default a new one under `runs`, or the unfinished one of the
            same call.
        runs: where run directories are made.
        command: the command line, for the record.
        spent_s: part of `time` that was gone before this call.

    Raises:
        UsageError: bad names or units, or a space that draws impossible networks.
        UnsupportedError: pictures with boxes.
        FailedError: the database does not answer, or the disk is full.
        DeviceError: the device could not measure.
    """
    choose_device(device)
    check_seed(seed)
    check_workers(workers)
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    if objective not in get_args(Objective):
        raise UsageError(f"unknown objective {objective!r}", allowed=", ".join(get_args(Objective)))
    if trials < 1:
        raise UsageError(f"{trials} trials", allowed="1 or more")
    if time is not None and epochs is not None:
        raise UsageError("both time and epochs were given", allowed="one of them")
    is_file = Path(space).suffix in _SPACE_FILES
    if not is_file and str(space) not in SPACES:
        raise unknown_name("space", str(space), [*SPACES, "a .yaml file"])
    started = clock.monotonic()
    platform = parse_platform(on or DEFAULT_PLATFORM)
    settings = FitSettings(
        data=str(to_data(data)),
        latency_ms=Budget.parse(latency).latency_ms,
        platform=str(platform.with_precision("fp32")),
        time_s=None if epochs is not None else parse_duration_s("30m" if time is None else time),
        epochs=epochs,
        pretrained="none",
        precisions=(platform.precision,),
        seed=seed,
        device=device,
    )
    images = load_data(to_data(data), seed=seed)
    if images.task != CLASSIFICATION:
        raise UnsupportedError(f"{images.name} has boxes", allowed="pictures of classes")
    seen = look(images, settings)
    side = seen.resolution if seen.small else min(seen.resolution, _PHOTOGRAPHS)
    shape = SpaceSettings((images.channels, side, side), len(images.classes))
    drawn = read_staged_space(Path(space), shape) if is_file else SPACES[str(space)](shape)
    if count_points(drawn) < 2:
        raise UsageError(f"{drawn.name} has one network", allowed="a space with two or more")
    ends = [tuple(place * (len(one.options) - 1) for one in drawn.choices) for place in (0, 1)]
    identity = {
        **settings.identity(fingerprint=images.fingerprint),
        "verb": "search",
        "space": drawn.name,
        "choices": [[one.name, list(one.options)] for one in drawn.choices],
        "networks": [drawn.key(point) for point in ends],
        "trials": trials,
        "sampler": sampler,
        "objective": objective,
    }
    output, runs = optional_path(output, name="output"), to_path(runs, name="runs")
    check_time(settings, images, is_begun=is_begun(output, parent=runs, identity=identity))
    request = _Request(drawn, trials, sampler, cast(Objective, objective), settings, storage)
    with open_run(
        output,
        parent=runs,
        identity=identity,
        command=command,
        name=f"search-{images.name}",
        given=settings.given,
    ) as run:
        if run.finished:
            return read_search(run, conclude_again(run))
        with open_executor(workers) as executor:
            loading_s = spent_s + clock.monotonic() - started
            return _search(run, images, request, seen, workers=executor, loading_s=loading_s)


@dataclass(frozen=True)
class _Request:
    space: Space
    trials: int
    sampler: str
    objective: Objective
    settings: FitSettings
    storage: str | None


def _search(
    run: RunDirectory,
    images: ImageData,
    request: _Request,
    seen: Look,
    *,
    workers: Executor,
    loading_s: float,
) -> SearchResult:
    """Go through the stages: each is done once, and read back when an attempt was cut after it."""
    logger.info("run directory: %s", run.path)
    settings, space = request.settings, request.space
    context = open_context(
        run,
        images,
        settings,
        plan=TimePlan.of(settings, spent_s=loading_s, small=seen.small),
        workers=workers,
        foreign_share=seen.foreign_cpu_share or 0.0,
    )
    context.ledger.write_splits(images)
    study = _own_study(run, images, request)
    features = PointFeatures(space)
    speeds = time_first_networks(context, space, features=features)
    if request.objective == "hard" and not any(speeds.fits):
        return _nothing(context, (), speeds.nearest_ms)
    total_s = context.plan.total_s
    searcher = Searcher(
        context,
        space,
        study,
        SAMPLERS[request.sampler](space),
        Reward(settings.latency_ms, request.objective),
        features,
        speeds,
        wanted=request.trials,
        length=_length_of_trial(context, request.trials),
        most_s=None if total_s is None else _TRIALS_SHARE * total_s,
    )
    trials = searcher.go()
    rows = searcher.rows()
    if not searcher.trained:
        reasons = [one.reason for one in rows if one.state == "failed"]
        if reasons:
            raise FailedError(f"no training of {space.name} succeeded: {reasons[-1]}")
        slow_ms = [one.latency_ms for one in rows if one.latency_ms is not None]
        return _nothing(context, rows, min(slow_ms, default=speeds.nearest_ms))
    rewards = {one.number: one.reward or 0.0 for one in trials}
    ranked = sorted(searcher.trained, key=lambda number: -rewards[number])
    best = [searcher.trained[number] for number in ranked[:_RETRAINED]]
    ends = train_in_turn(
        context,
        [one.measured for one in best],
        reason=lambda training: f"val loss {training.val_loss:.3f}",
    )
    shipped = cheapest_of_equals(sorted(ends, key=lambda one: one.val_loss), seed=settings.seed)
    logger.info(
        "val accuracy of the best trials, the best first: %s; after their last training: %s",
        ", ".join(f"{one.val.value:.3f}" for one in best),
        ", ".join(f"{one.val.value:.3f}" for one in ends),
    )
    summary = prove(
        context,
        shipped,
        ends,
        largest=shipped.candidate.size,
        uneven=seen.uneven,
        loading_s=loading_s,
        compared=context.ending.compared,
    )
    note_search(
        run,
        rows,
        next((one for one in rows if one.network == summary.network), None),
        tuple(one.val.value for one in ends),
    )
    return read_search(run, conclude(run, summary))


def _own_study(run: RunDirectory, images: ImageData, request: _Request) -> Study:
    """Open the study of this run; it has a name of its own, so that no other run joins it."""
    token = run.stage(
        "study", inputs={}, outputs=_Token, work=lambda: _Token(token=uuid.uuid4().hex)
    ).token
    return open_study(
        request.storage or file_address(run.path / "study.db"),
        request.space,
        name=f"{request.space.name}-{images.name}-{token[:12]}",
        identity=token,
    )


def _length_of_trial(context: FitContext, trials: int) -> Length:
    """Return how long each trial trains: its part of what timing left of the time for trials."""
    settings, total_s = context.settings, context.plan.total_s
    if total_s is None:
        assert settings.epochs is not None
        return Length(None, max(1, settings.epochs // _EPOCHS_SHARE))
    at_once = GENERATION / -(-GENERATION // context.width)

    def work() -> _Seconds:
        left_s = _TRIALS_SHARE * total_s - context.run.elapsed_s
        return _Seconds(seconds=max(1.0, _TRAINING_SHARE * left_s * at_once / trials))

    record = context.run.stage("trial-time", inputs={}, outputs=_Seconds, work=work)
    return Length(record.seconds, None)


def _nothing(context: FitContext, rows: Sequence[TrialRow], fastest_ms: float) -> SearchResult:
    """End a search that found nothing fast enough; what is named leaves the margin of a proof."""
    note_search(context.run, rows, None, ())
    nearest_ms = max(fastest_ms / context.samples.margin, context.settings.latency_ms)
    return read_search(context.run, conclude_infeasible(context.run, context.settings, nearest_ms))


class _Token(Record):
    token: str


class _Seconds(Record):
    seconds: float
