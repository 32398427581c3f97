"""Who teaches the winner, and how the time that is left is shared."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from featherweight.errors import DivergedError, UsageError
from featherweight.fitting import last_training as training
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import Family, families
from featherweight.fitting.halving import Ranked
from featherweight.fitting.last_training import (
    TrainingTimes,
    last_training,
    teacher_of,
    training_times,
)
from featherweight.fitting.look import Look
from featherweight.fitting.prove import _resolutions
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages import ship_size_stage
from featherweight.fitting.time_plan import TimePlan, check_time
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory

PHOTOS = Look(
    images={"train": 100, "val": 10, "test": 10}, classes=10, typical_size=400, small=False,
    resolution=320, weights=("efficientnet_lite0",), foreign_cpu_share=0.0, uneven=1.0,
)  # fmt: skip


def entry(family: Family, value: float) -> Entry:
    architecture = family.build(value)
    candidate = Candidate(
        name=family.label(value), architecture_digest=architecture.digest, family=family.name,
        resolution=architecture.resolution, precision="int8", runtime="onnxruntime",
        latency_ms=1.0, interval_ms=(0.9, 1.1), pretrained=True, status="kept", stage="shop",
    )  # fmt: skip
    return Entry(candidate, family, value)


def plan(time_s: float | None) -> TimePlan:
    epochs = 3 if time_s is None else None
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s, epochs=epochs)
    return TimePlan.of(settings, spent_s=5.0, small=False)


def photo_family(**settings: str) -> Family:
    (family,) = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p", **settings))
    return family


@pytest.mark.parametrize(("value", "expected"), [(96.0, 168.0), (104.0, 176.0), (208.0, 320.0)])
def test_the_winner_at_a_larger_size_teaches(value: float, expected: float) -> None:
    teacher = teacher_of(entry(photo_family(), value), plan=plan(7200))
    assert teacher is not None
    assert teacher.value == expected
    assert teacher.candidate.name == f"efficientnet_lite0:resolution={expected:g}"
    assert teacher.candidate.precision == "fp32"
    assert teacher.key != entry(photo_family(), value).key


def test_nobody_teaches_where_it_would_cost_more_than_it_gives() -> None:
    family = photo_family()
    assert teacher_of(entry(family, 96.0), plan=plan(1800)) is None, "too short"
    assert teacher_of(entry(family, 96.0), plan=plan(7200)) is not None, "loading does not count"
    assert teacher_of(entry(family, 280.0), plan=plan(7200)) is None, "hardly larger"
    scratch = photo_family(model="mobilenet_v2", pretrained="none")
    assert teacher_of(entry(scratch, 96.0), plan=plan(7200)) is None, "knows nothing itself"
    small = PHOTOS.model_copy(update={"small": True, "resolution": 32, "weights": ()})
    (convnet,) = families(small, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))
    assert teacher_of(entry(convnet, 1.0), plan=plan(7200)) is None, "sized by width"


def test_epochs_allow_a_teacher() -> None:
    assert teacher_of(entry(photo_family(), 96.0), plan=plan(None)) is not None


@pytest.mark.parametrize(("teacher_loss", "taught"), [(0.4, True), (0.6, False), (None, False)])
def test_only_a_teacher_that_learned_more_than_the_race_teaches(
    teacher_loss: float | None, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`None` = the teacher's training diverges, which must not end the fit."""
    winner = entry(photo_family(), 96.0)
    asked: dict[str, Any] = {}

    def train_stage(one: Entry, phase: str, **more: Any) -> Ranked:
        asked[phase] = more
        if phase == "teacher" and teacher_loss is None:
            raise DivergedError("loss is nan")
        loss = teacher_loss if phase == "teacher" else 0.3
        return Ranked(one, phase, np.full(4, loss), 0.8, images_seen=1, seconds=1.0)

    monkeypatch.setattr(training, "train_stage", train_stage)
    raced = [Ranked(winner, "race-2", np.full(4, 0.5), 0.7, images_seen=1, seconds=1.0)]
    trained = last_training(
        cast(RunDirectory, None), winner, raced, trainer=cast(Trainer, None), plan=plan(None),
        times=TrainingTimes(None, None, None, 0.0),
        settings=FitSettings(data="d", latency_ms=1, platform="p", epochs=3),
    )  # fmt: skip
    assert trained.phase == "train"
    teacher = asked["train"]["teacher"]
    assert (teacher is not None) == taught
    assert teacher is None or (teacher[0].value, teacher[1]) == (168.0, "teacher")


def test_sizes_are_proven_from_the_one_that_should_fit_downwards() -> None:
    trained = entry(photo_family(), 96.0)
    assert _resolutions(trained, largest=104.0) == [104, 96, 88, 80, 72, 64]
    assert _resolutions(trained, largest=80.0) == [80, 72, 64]


class Run:
    """A run directory that has worked for a while and remembers stages."""

    def __init__(self, elapsed_s: float) -> None:
        self.elapsed_s = elapsed_s
        self.done: dict[str, dict[str, Any]] = {}

    def stage_done(self, name: str, **_: Any) -> dict[str, Any] | None:
        return self.done.get(name)

    def finish_stage(self, name: str, *, outputs: dict[str, Any], **_: Any) -> None:
        self.done[name] = outputs


def ending(seconds: float) -> EndingTime:
    return cast(EndingTime, SimpleNamespace(seconds=seconds))


def test_all_that_is_left_is_training_and_a_resumed_run_keeps_its_plan() -> None:
    run = Run(elapsed_s=95.0)
    more: dict[str, Any] = {"trainer": cast(Trainer, None), "plan": plan(480)}
    one = entry(photo_family(), 96.0)
    times = training_times(cast(RunDirectory, run), one, [], ending=ending(60.0), **more)
    assert times == TrainingTimes(0.0, 480 - 5 - 95 - 60, 0.0, 95.0)
    run.elapsed_s = 300.0
    again = training_times(cast(RunDirectory, run), one, [], ending=ending(99.0), **more)
    assert again == times


@pytest.mark.parametrize("costly", [True, False])
def test_time_for_int8_is_set_aside_only_where_the_race_has_shown_its_cost(
    costly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "is_worth_finishing", lambda *_, **__: costly)
    one = entry(photo_family(), 96.0)
    raced = [Ranked(one, "race-2", np.full(4, 0.5), 0.7, images_seen=1, seconds=1.0)]
    times = training_times(
        cast(RunDirectory, Run(500.0)), one, raced, trainer=cast(Trainer, None), plan=plan(1800),
        ending=ending(60.0),
    )  # fmt: skip
    assert (times.finish_s != 0.0) == costly
    assert times.training_s is not None
    assert times.training_s + (times.finish_s or 0.0) == pytest.approx(1800 - 5 - 500 - 60)


def test_a_last_training_that_is_short_says_so(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("featherweight").propagate = True
    training_times(
        cast(RunDirectory, Run(50.0)), entry(photo_family(), 96.0), [], trainer=cast(Trainer, None),
        plan=plan(100), ending=ending(20.0),
    )  # fmt: skip
    assert "only 25 % of the time is left for the last training" in caplog.text


def test_the_end_is_reckoned_from_what_was_seen() -> None:
    splits = {name: range(count) for name, count in (("train", 3000), ("val", 300), ("test", 2000))}
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=480)
    images = cast(Any, SimpleNamespace(splits=splits))
    quick = EndingTime.of(images, settings)
    slow = EndingTime.of(images, settings)
    slow.picture_s, slow.process_s = 0.03, 9.0
    assert quick.seconds < 60.0
    beside = EndingTime.of(images, settings, foreign_share=1.0)
    assert beside.proof_s == pytest.approx(3 * quick.proof_s)
    assert slow.seconds > quick.seconds + 0.029 * 2300 + 2.5 * 6.0
    before_s = slow.seconds
    slow.export_s = 2.0
    ranking_s = 2.0 + 300 * 0.031
    assert slow.seconds == pytest.approx(before_s + 4.0)
    slow.is_refitted = True
    another_s = 1.5 * 9.0 + 2.0 + 0.03 * 1800 + ranking_s
    assert slow.another_size_s == pytest.approx(another_s)
    assert slow.seconds == pytest.approx(before_s + 4.0 - 1.5 * 9.0), "not worth its time"
    slow.asked_s = 1800.0
    longer_s = slow.seconds - slow.last_s
    assert longer_s == pytest.approx(ranking_s + another_s), "worth its time"
    assert slow.leaves_time(slow.another_size_s + slow.last_s)
    assert not slow.leaves_time(slow.last_s)


@pytest.mark.parametrize(("time_s", "judged_s"), [(480.0, 0.0), (600.0, 1.8), (None, 1.8)])
def test_a_short_fit_reckons_without_a_judgement_of_a_larger_size(
    time_s: float | None, judged_s: float
) -> None:
    splits = {name: range(count) for name, count in (("train", 3000), ("val", 300), ("test", 2000))}
    length = {"epochs": 3} if time_s is None else {"time_s": time_s}
    settings = FitSettings(data="d", latency_ms=1, platform="p", **length)
    found = EndingTime.of(cast(Any, SimpleNamespace(splits=splits)), settings)
    found.picture_s, found.forward_s, found.process_s = 0.003, 0.003, 2.0
    found.grow(entry(photo_family(), 96.0), entry(photo_family(), 96.0))
    assert found.another_size_s == pytest.approx(2.5 * 2.0 + judged_s)


def test_without_time_no_other_size_is_looked_for() -> None:
    """In a fit of two minutes it took 28 s, and the training had 11."""
    trained = Ranked(entry(photo_family(), 96.0), "train", np.zeros(4), 0.7, 1, 1.0)

    def largest_alone(*_: object, **more: Any) -> tuple[float, None]:
        return more["ceiling"], None

    def value(run: Run, *, has_time: bool) -> float:
        return ship_size_stage(
            cast(RunDirectory, run), trained, growth=1.5, has_time=has_time,
            sizer=cast(Any, SimpleNamespace(largest_alone=largest_alone)),
        )  # fmt: skip

    late = Run(0.0)
    assert value(late, has_time=False) == 96.0
    assert value(late, has_time=True) == 96.0, "a resumed run ships what the cut one had chosen"
    assert value(Run(0.0), has_time=True) == 144.0


@pytest.mark.parametrize(("forward_s", "compared"), [(0.001, 2000), (0.01, 480), (0.1, 300)])
def test_the_network_answers_as_much_of_test_as_little_time_allows(
    forward_s: float, compared: int
) -> None:
    splits = {name: range(count) for name, count in (("train", 3000), ("val", 300), ("test", 2000))}
    images = cast(Any, SimpleNamespace(splits=splits))
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=480)
    found = EndingTime.of(images, settings)
    before_s = found.last_s - (300 + found.compared) * found.forward_s
    found.forward_s = forward_s
    assert found.compared == compared
    assert found.last_s == pytest.approx(before_s + (300 + compared) * forward_s)
    by_epochs = settings.model_copy(update={"time_s": None, "epochs": 3})
    unlimited = EndingTime.of(images, by_epochs)
    unlimited.forward_s = forward_s
    assert unlimited.compared == 2000


@pytest.mark.parametrize(("small", "least_s"), [(True, 30.0), (False, 96.0)])
def test_a_time_too_short_is_refused_with_the_least(small: bool, least_s: float) -> None:
    splits = {"train": range(1000), "val": range(9), "test": range(2000)}
    found = cast(Any, SimpleNamespace(typical_size=32 if small else 400, splits=splits))
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=least_s)
    check_time(settings, found, foreign_share=lambda: 0.0)
    check_time(settings.model_copy(update={"time_s": None, "epochs": 1}), found)
    with pytest.raises(UsageError, match=r"--time 3s is too short") as caught:
        check_time(settings.model_copy(update={"time_s": 3.0}), found)
    assert f"{least_s:.0f}s or more" in str(caught.value)


def test_beside_other_programs_the_least_time_is_longer() -> None:
    """Two minutes on 2,640 photographs took three, beside a busy loop on every core four."""
    splits = {"train": range(1000), "val": range(9), "test": range(2000)}
    found = cast(Any, SimpleNamespace(typical_size=400, splits=splits))
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=120)
    check_time(settings, found, foreign_share=lambda: None)
    check_time(settings, found, foreign_share=lambda: 0.25)
    with pytest.raises(UsageError, match="while other programs take 50% of the CPU") as caught:
        check_time(settings, found, foreign_share=lambda: 0.5)
    assert "144s or more" in str(caught.value)
    assert "96s without them" in str(caught.value)
    check_time(settings, found, is_begun=True, foreign_share=lambda: pytest.fail("it goes on"))
    unasked = settings.model_copy(update={"time_s": 192.0})
    check_time(unasked, found, foreign_share=lambda: pytest.fail("long enough in any case"))
