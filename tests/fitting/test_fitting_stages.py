"""Who teaches the winner, and how the time that is left is shared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes import PHOTOS, MemoryRun, fake_context, measured, trained

from featherweight.errors import DivergedError, UsageError
from featherweight.fitting.candidate import Candidate, Measured, Phase, Training
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import families
from featherweight.fitting.family import Family
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages import size as sizing
from featherweight.fitting.stages import train as training
from featherweight.fitting.stages.prove import sizes_to_prove
from featherweight.fitting.stages.size import choose_shipped_size
from featherweight.fitting.stages.train import (
    TrainingTimes,
    plan_training,
    teacher_of,
    train,
)
from featherweight.fitting.time_plan import TimePlan, check_time

POLICY = DEFAULT_POLICY.teacher


def plan(time_s: float | None) -> TimePlan:
    epochs = 3 if time_s is None else None
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s, epochs=epochs)
    return TimePlan.of(settings, spent_s=5.0, small=False)


def photo_family(**settings: str) -> Family:
    (family,) = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p", **settings))
    return family


def winner(size: float, precision: str = "int8") -> Candidate:
    return Candidate(photo_family(), size, precision)


@pytest.mark.parametrize(("size", "expected"), [(96.0, 168.0), (104.0, 176.0), (208.0, 320.0)])
def test_the_winner_at_a_larger_size_teaches(size: float, expected: float) -> None:
    teacher = teacher_of(winner(size), plan=plan(7200), policy=POLICY)
    assert teacher is not None
    assert teacher.size == expected
    assert teacher.label == f"efficientnet_lite0:resolution={expected:g}"
    assert teacher.precision == "fp32"
    assert teacher.key != winner(size).key


def test_nothing_teaches_where_it_would_cost_more_than_it_gives() -> None:
    def teacher(one: Candidate, time_s: float) -> Candidate | None:
        return teacher_of(one, plan=plan(time_s), policy=POLICY)

    assert teacher(winner(96.0), 1800) is None, "too short"
    assert teacher(winner(96.0), 7200) is not None, "loading does not count"
    assert teacher(winner(280.0), 7200) is None, "hardly larger"
    scratch = photo_family(model="mobilenet_v2", pretrained="none")
    assert teacher(Candidate(scratch, 96.0, "int8"), 7200) is None, "knows nothing itself"
    small = PHOTOS.model_copy(update={"small": True, "resolution": 32, "weights": ()})
    (convnet,) = families(small, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))
    assert teacher(Candidate(convnet, 1.0, "int8"), 7200) is None, "sized by width"


def test_epochs_allow_a_teacher() -> None:
    assert teacher_of(winner(96.0), plan=plan(None), policy=POLICY) is not None


@pytest.mark.parametrize(("teacher_loss", "taught"), [(0.4, True), (0.6, False), (None, False)])
def test_only_a_teacher_that_learned_more_than_the_race_teaches(
    teacher_loss: float | None, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`None` = the teacher's training diverges, which must not end the fit."""
    asked: dict[str, Any] = {}

    def train_candidate(_: object, one: Candidate, phase: Phase, **more: Any) -> Training:
        asked[phase.kind] = more
        if phase.kind == "teacher" and teacher_loss is None:
            raise DivergedError("loss is nan")
        loss = teacher_loss if phase.kind == "teacher" else 0.3
        return trained(one, loss, phase=phase).training

    monkeypatch.setattr(training, "train_candidate", train_candidate)
    raced = [trained(winner(96.0), 0.5, phase=Phase(kind="race", rung=2))]
    context = fake_context(
        settings=FitSettings(data="d", latency_ms=1, platform="p", epochs=3), plan=plan(None)
    )
    times = TrainingTimes(teacher_s=None, training_s=None, int8_s=None)
    found = train(context, measured(winner(96.0)), raced, times=times)
    assert str(found.phase) == "train"
    teacher = asked["train"]["teacher"]
    assert (teacher is not None) == taught
    assert teacher is None or (teacher.candidate.size, str(teacher.phase)) == (168.0, "teacher")


def test_a_last_training_worse_than_the_race_is_not_what_ships(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train_candidate(_: object, one: Candidate, phase: Phase, **__: Any) -> Training:
        return trained(one, 0.6, phase=phase).training

    monkeypatch.setattr(training, "train_candidate", train_candidate)
    one, rung = winner(96.0), Phase(kind="race", rung=2)
    times = TrainingTimes(teacher_s=0.0, training_s=9.0, int8_s=0.0)
    context = fake_context(plan=plan(480))
    raced = trained(one, 0.5, phase=rung)
    assert train(context, measured(one), [raced], times=times) is raced
    larger = trained(one.at(104.0), 0.5, phase=rung)
    found = train(context, measured(one), [larger], times=times)
    assert str(found.phase) == "train", "it may not fit"


def test_sizes_are_proven_from_the_one_that_should_fit_downwards() -> None:
    def sizes(largest: float) -> list[float]:
        return [one.size for one in sizes_to_prove(winner(96.0), largest=largest)]

    assert sizes(104.0) == [104, 96, 88, 80, 72, 64]
    assert sizes(80.0) == [80, 72, 64]


def ending(seconds: float) -> EndingTime:
    return cast(EndingTime, SimpleNamespace(seconds=seconds))


def test_all_that_is_left_is_training_and_a_resumed_run_keeps_its_plan() -> None:
    run = MemoryRun(elapsed_s=95.0)
    context = fake_context(run=run, plan=plan(480), ending=ending(60.0))
    times = plan_training(context, winner(96.0), [])
    assert times == TrainingTimes(
        teacher_s=0.0, training_s=480 - 5 - 95 - 60, int8_s=0.0, begun_s=95.0, end_s=60.0
    )
    run.elapsed_s = 300.0
    later = fake_context(run=run, plan=plan(480), ending=ending(99.0))
    assert plan_training(later, winner(96.0), []) == times


@pytest.mark.parametrize("costly", [True, False])
def test_time_for_int8_is_set_aside_only_where_the_race_has_shown_its_cost(
    costly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "is_worth_finetuning", lambda *_: costly)
    raced = [trained(winner(96.0), 0.5, phase=Phase(kind="race", rung=2))]
    context = fake_context(run=MemoryRun(elapsed_s=500.0), plan=plan(1800), ending=ending(60.0))
    times = plan_training(context, winner(96.0), raced)
    assert (times.int8_s != 0.0) == costly
    assert times.training_s is not None
    assert times.training_s + (times.int8_s or 0.0) == pytest.approx(1800 - 5 - 500 - 60)


def test_a_last_training_that_is_short_says_so(caplog: pytest.LogCaptureFixture) -> None:
    context = fake_context(run=MemoryRun(elapsed_s=50.0), plan=plan(100), ending=ending(20.0))
    plan_training(context, winner(96.0), [])
    assert "only 25 % of the time is left for the last training" in caplog.text


def splits(images_of_test: int = 2000) -> Any:
    counts = (("train", 3000), ("val", 300), ("test", images_of_test))
    return cast(Any, SimpleNamespace(splits={name: range(count) for name, count in counts}))


def test_the_end_is_reckoned_from_what_was_seen() -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=480)
    quick = EndingTime.of(splits(), settings)
    slow = EndingTime.of(splits(), settings)
    slow.picture_s, slow.process_s = 0.03, 9.0
    assert quick.seconds < 60.0
    beside = EndingTime.of(splits(), settings, foreign_share=1.0)
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
    length = {"epochs": 3} if time_s is None else {"time_s": time_s}
    settings = FitSettings(data="d", latency_ms=1, platform="p", **length)
    found = EndingTime.of(splits(), settings)
    found.picture_s, found.forward_s, found.process_s = 0.003, 0.003, 2.0
    found.grow(winner(96.0), winner(96.0))
    assert found.another_size_s == pytest.approx(2.5 * 2.0 + judged_s)


def test_without_time_no_other_size_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fit of two minutes it took 28 s, and the training had 11."""

    def largest_alone(start: Candidate, *, most: float, **_: Any) -> Measured:
        return measured(start.at(most))

    monkeypatch.setattr(sizing, "_selector", lambda _: SimpleNamespace(largest_alone=largest_alone))
    one = trained(winner(96.0))

    def size(run: MemoryRun, *, has_time: bool) -> float:
        context = fake_context(run=run)
        found = choose_shipped_size(context, one, growth=1.5, has_time=has_time)
        return found.candidate.size

    late = MemoryRun()
    assert size(late, has_time=False) == 96.0
    assert size(late, has_time=True) == 96.0, "a resumed run ships what the cut one had chosen"
    assert size(MemoryRun(), has_time=True) == 144.0


@pytest.mark.parametrize(("forward_s", "compared"), [(0.001, 2000), (0.01, 480), (0.1, 300)])
def test_the_network_answers_as_much_of_test_as_little_time_allows(
    forward_s: float, compared: int
) -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=480)
    found = EndingTime.of(splits(), settings)
    before_s = found.last_s - (300 + found.compared) * found.forward_s
    found.forward_s = forward_s
    assert found.compared == compared
    assert found.last_s == pytest.approx(before_s + (300 + compared) * forward_s)
    by_epochs = settings.model_copy(update={"time_s": None, "epochs": 3})
    unlimited = EndingTime.of(splits(), by_epochs)
    unlimited.forward_s = forward_s
    assert unlimited.compared == 2000


@pytest.mark.parametrize(("small", "least_s"), [(True, 30.0), (False, 96.0)])
def test_a_time_too_short_is_refused_with_the_least(small: bool, least_s: float) -> None:
    counts = {"train": range(1000), "val": range(9), "test": range(2000)}
    found = cast(Any, SimpleNamespace(typical_size=32 if small else 400, splits=counts))
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=least_s)
    check_time(settings, found, foreign_share=lambda: 0.0)
    check_time(settings.model_copy(update={"time_s": None, "epochs": 1}), found)
    with pytest.raises(UsageError, match=r"--time 3s is too short") as caught:
        check_time(settings.model_copy(update={"time_s": 3.0}), found)
    assert f"{least_s:.0f}s or more" in str(caught.value)


def test_beside_other_programs_the_least_time_is_longer() -> None:
    """Two minutes on 2,640 photographs took three, beside a busy loop on every core four."""
    counts = {"train": range(1000), "val": range(9), "test": range(2000)}
    found = cast(Any, SimpleNamespace(typical_size=400, splits=counts))
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
