"""Search a space for the best network that a device runs in time: the verb `search`."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time as clock
import uuid
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from featherweight.arguments import to_data
from featherweight.budget import Budget
from featherweight.data.images import ImageData
from featherweight.errors import UnsupportedError, UsageError
from featherweight.fitting.candidate import Trained
from featherweight.fitting.conclude import (
    conclude,
    conclude_again,
    conclude_infeasible,
)
from featherweight.fitting.context import FitContext
from featherweight.fitting.evaluator import EVALUATORS
from featherweight.fitting.kept_seconds import kept_seconds
from featherweight.fitting.last_trainings import train_in_turn
from featherweight.fitting.ranking import cheapest_of_equals
from featherweight.fitting.search_result import SearchResult, note_search, read_search
from featherweight.fitting.stages.explore import Nothing, Objective, SearchRequest, explore
from featherweight.fitting.stages.look import Look, look
from featherweight.fitting.stages.prove import prove
from featherweight.fitting.stages.refine import SLACK, refine
from featherweight.fitting.stages.trials import Judged
from featherweight.fitting.verb_run import begin, open_verb_run, verb_settings
from featherweight.parallel import HERE, check_workers, open_executor
from featherweight.records import Record
from featherweight.registry import unknown_name
from featherweight.run_directory import RunDirectory
from featherweight.searching.reward import SOFT_EXPONENT
from featherweight.searching.sampler import SAMPLERS
from featherweight.searching.space import SPACES, SpaceSettings, count_points
from featherweight.searching.staged_space import read_staged_space
from featherweight.searching.study import Study, file_address, open_study
from featherweight.tasks.task import CLASSIFICATION, load_data

__all__ = ["DEFAULT_EVALUATOR", "DEFAULT_SAMPLER", "DEFAULT_TRIALS", "search"]

logger = logging.getLogger(__name__)

DEFAULT_SAMPLER = "predictor"
DEFAULT_EVALUATOR = "independent"
DEFAULT_TRIALS = 30
_BEFORE_STEPS_SHARE = 0.5
"""Of the time after the trials, for the best ones' trainings, where NetAdapt's steps follow."""
_PHOTOGRAPHS = 224
_FROM_SCRATCH = (
    "networks of a search learn from scratch: on 3,000 photographs that came to 0.72 in ten "
    "minutes, and `fit`, which starts from ImageNet weights, to 0.88 in fifteen"
)
"""benchmarks/results/fit_clothing_scratch.json and fit_clothing_15m.json."""
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
    weight: str | float | None = None,
    evaluator: str = DEFAULT_EVALUATOR,
    adapt: bool = False,
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

    Latency is known before anything is judged: it is foretold from networks that were timed, and
    each proposed network is timed as it ships. The best three trials are trained in full.

    Args:
        data: folder of class folders, Parquet file, or `demo`.
        space: a name in `SPACES`, or a YAML file (`read_staged_space`).
        latency: budget as text (`5ms`, `200fps`) or milliseconds.
        trials: networks that are judged.
        on: platform, with the precision that ships; `None` = `local/onnxruntime:threads=1`.
        sampler: a name in `SAMPLERS`.
        objective: `hard`: what is too slow is not trained; `soft`: MnasNet's reward, for which a
            network may be slower than the budget, and the verdict is then NOT MET.
        weight: w of `soft`, at most 0, or `auto`: fitted to the first 15 networks, so that those
            which none beats in both accuracy and milliseconds are worth about the same; `None` =
            MnasNet's -0.07.
        evaluator: a name in `EVALUATORS`; one that is cheaper than trainings alone is held against
            them first, and given up where it orders networks no better than multiply-adds.
        adapt: search for 15 % more milliseconds, and take those off step by step (MobileNetV3's
            recipe).
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
    check_workers(workers)
    _check_names(sampler, objective, evaluator, trials=trials)
    exponent = _read_weight(weight, objective)
    is_file = Path(space).suffix in _SPACE_FILES
    if not is_file and str(space) not in SPACES:
        raise unknown_name("space", str(space), [*SPACES, "a .yaml file"])
    started = clock.monotonic()
    settings = verb_settings(
        data,
        on=on,
        time=time,
        epochs=epochs,
        seed=seed,
        device=device,
        latency_ms=Budget.parse(latency).latency_ms,
        pretrained="none",
    )
    images = load_data(to_data(data), seed=seed)
    if images.task != CLASSIFICATION:
        raise UnsupportedError(f"{images.name} has boxes", allowed="pictures of classes")
    seen = look(images, settings)
    if not seen.small:
        logger.warning(_FROM_SCRATCH)
    side = seen.resolution if seen.small else min(seen.resolution, _PHOTOGRAPHS)
    shape = SpaceSettings((images.channels, side, side), len(images.classes))
    drawn = read_staged_space(Path(space), shape) if is_file else SPACES[str(space)](shape)
    if count_points(drawn) < 2:
        raise UsageError(f"{drawn.name} has one network", allowed="a space with two or more")
    ends = [tuple(place * (len(one.options) - 1) for one in drawn.choices) for place in (0, 1)]
    asked = {
        "space": drawn.name,
        "choices": [[one.name, list(one.options)] for one in drawn.choices],
        "networks": [drawn.key(point) for point in ends],
        "trials": trials,
        "sampler": sampler,
        "objective": objective,
        "weight": list(exponent),
        "evaluator": evaluator,
        "adapt": adapt,
    }
    request = SearchRequest(
        drawn,
        trials,
        sampler,
        cast(Objective, objective),
        exponent,
        evaluator,
        adapt,
        settings,
        storage,
    )
    with open_verb_run(
        "search", settings, images, asked=asked, output=output, runs=runs, command=command
    ) as run:
        if run.finished:
            return read_search(run, conclude_again(run))
        with open_executor(workers) as executor:
            loading_s = spent_s + clock.monotonic() - started
            return _search(run, images, request, seen, workers=executor, loading_s=loading_s)


def _check_names(sampler: str, objective: str, evaluator: str, *, trials: int) -> None:
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    if objective not in get_args(Objective):
        raise UsageError(f"unknown objective {objective!r}", allowed=", ".join(get_args(Objective)))
    if trials < 1:
        raise UsageError(f"{trials} trials", allowed="1 or more")
    if evaluator not in EVALUATORS:
        raise unknown_name("evaluator", evaluator, EVALUATORS)
    alone = EVALUATORS[evaluator].shares.alone_trials
    if alone is not None and trials <= alone:
        raise UsageError(
            f"{trials} trials with the evaluator {evaluator}: the first {alone} are trained alone",
            allowed=f"more than {alone} trials, or independent",
        )


def _read_weight(weight: str | float | None, objective: str) -> tuple[float, bool]:
    """Return w, and whether it is fitted instead."""
    if weight is None:
        return SOFT_EXPONENT, False
    if objective == "hard":
        raise UsageError("a weight of milliseconds with the hard objective", allowed="soft")
    if weight == "auto":
        return SOFT_EXPONENT, True
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not -10.0 <= value <= 0.0:
        raise UsageError(f"the weight {weight!r}", allowed="auto, or a number from -10 to 0")
    return value, False


def _search(
    run: RunDirectory,
    images: ImageData,
    request: SearchRequest,
    seen: Look,
    *,
    workers: Executor,
    loading_s: float,
) -> SearchResult:
    """Go through the stages: each is done once, and read back when an attempt was cut after it."""
    settings = request.settings
    context = begin(run, images, settings, seen, workers=workers, loading_s=loading_s)
    slack = SLACK if request.adapt else 1.0
    wide = settings.model_copy(update={"latency_ms": slack * settings.latency_ms})
    with contextlib.closing(_own_study(run, images, request)) as study:
        searched = explore(replace(context, settings=wide), study, request)
    if isinstance(searched, Nothing):
        note_search(run, searched.rows, None, (), None)
        nearest_ms = max(
            searched.fastest_ms / (slack * context.samples.margin), settings.latency_ms
        )
        return read_search(run, conclude_infeasible(run, settings, nearest_ms))
    most_ms = context.samples.margin * settings.latency_ms
    is_wide = any(one.measured.latency.median_ms > most_ms for one in searched.best)
    ends = train_in_turn(
        context,
        [one.measured for one in searched.best],
        reason=lambda training: f"val loss {training.val_loss:.3f}",
        until_s=_last_training_s(context) if request.adapt and is_wide else None,
    )
    _say_ranks(searched.best, ends)
    ranked = sorted(ends, key=lambda one: one.val_loss)
    found = refine(context, ranked, budget_ms=settings.latency_ms) if request.adapt else ranked
    shipped = cheapest_of_equals(found, seed=settings.seed)
    summary = prove(
        context,
        shipped,
        found,
        largest=shipped.candidate.size,
        uneven=seen.uneven,
        loading_s=loading_s,
        compared=context.ending.compared,
    )
    rows = {one.network: one for one in searched.rows}
    refined = summary.network not in rows
    note_search(
        run,
        searched.rows,
        rows[ranked[0].candidate.label if refined else str(summary.network)],
        tuple(one.val.value for one in ends),
        searched.agreement,
        refined=refined,
        weight=searched.weight,
    )
    return read_search(run, conclude(run, summary))


def _say_ranks(best: Sequence[Judged], ends: Sequence[Trained]) -> None:
    """Say what the best trials came to in their last training, and whether the order held."""
    after = {one.candidate.label: one.val.value for one in ends}
    trained = [one for one in best if one.measured.candidate.label in after]
    for one in trained:
        label = one.measured.candidate.label
        logger.info(
            "%s: val accuracy %.3f as a trial, %.3f after its last training",
            label,
            one.accuracy,
            after[label],
        )
    pairs = [(one.accuracy, after[one.measured.candidate.label]) for one in trained]
    signs = [(a - c) * (b - d) for (a, b), (c, d) in itertools.combinations(pairs, 2)]
    if signs:
        held = sum(sign > 0 for sign in signs)
        logger.info("of %d pairs of these, %d are in the same order", len(signs), held)


def _last_training_s(context: FitContext) -> float | None:
    """Return when the last trainings end that steps and one more training follow: a stage."""
    total_s = context.plan.total_s
    if total_s is None:
        return None

    def reckon() -> float:
        left_s = total_s - context.ending.seconds - context.run.elapsed_s
        return context.run.elapsed_s + _BEFORE_STEPS_SHARE * left_s

    return kept_seconds(context.run, "last-training-end", reckon)


def _own_study(run: RunDirectory, images: ImageData, request: SearchRequest) -> Study:
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


class _Token(Record):
    token: str
