"""Before the race, candidates step down to what can learn in the time there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import SMALL, fake_context, measured, measurement

from featherweight.fitting.candidate import Candidate, Measured
from featherweight.fitting.context import FitContext
from featherweight.fitting.families import families
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.moments import Moments
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.pace import needed_images, pace
from featherweight.fitting.time_plan import TimePlan
from featherweight.journal import Journal
from featherweight.measuring.bench import Untrained
from featherweight.measuring.measurement import Measurement
from featherweight.run_directory import RunDirectory, open_run
from featherweight.training.compute import Compute
from featherweight.training.recipe import Recipe

IMAGES = 1000
BATCH = 32
NEEDED = 500 * BATCH
LOOK = SMALL.model_copy(update={"images": {"train": IMAGES, "val": 10, "test": 10}})


@dataclass(frozen=True)
class FakeTrainer:
    """Trains `macs_per_s` multiply-adds a second, a fifth of that with depthwise networks."""

    macs_per_s: float
    device: str = "cpu"
    forms: dict[str, Compute] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    slow_moments: list[float] = field(default_factory=list)
    asked: list[tuple[str, Compute | None]] = field(default_factory=list)

    def count(self, split: str) -> int:
        assert split == "train"
        return IMAGES

    def recipe(self, candidate: Candidate, **_: Any) -> Recipe:
        return Recipe(epochs=1, batch_size=BATCH)

    def pace(
        self, candidate: Candidate, *, recipe: Recipe, compute: Compute | None
    ) -> tuple[Compute, float]:
        self.asked.append((candidate.label, compute))
        found = compute or Compute(torch.device("cpu"), "channels_last", "fp32")
        share = 0.2 if candidate.family.name.startswith("mobilenet") else 1.0
        share /= self.slow_moments.pop(0) if self.slow_moments else 1.0
        return found, share * self.macs_per_s / candidate.macs


def entrant(name: str, size: float, *, precision: str = "int8") -> Measured:
    settings = FitSettings(data="d", latency_ms=1, platform="p", model=name)
    (family,) = families(LOOK, settings)
    return measured(Candidate(family, size, precision), 0.5)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with open_run(tmp_path / "run", parent=tmp_path, identity={"name": "t"}, command="c") as opened:
        yield opened


class Ending:
    """Takes no time."""

    train = 1000
    seconds = 0.0
    forward_s = 0.0
    is_refitted = False


def stage(
    entrants: list[Measured],
    trainer: FakeTrainer,
    run: RunDirectory,
    *,
    time_s: float | None = 100.0,
    moments: Moments | None = None,
    pace_s: float | None = None,
    timed: list[str] | None = None,
) -> tuple[list[Measured], FitContext]:
    def measure(wanted: Sequence[Untrained], _: Path, samples: int) -> list[Measurement]:
        if timed is not None:
            timed.extend(f"{one.label} {one.precision}" for one in wanted)
        return [measurement(one.label, [0.25] * 9) for one in wanted]

    context = fake_context(
        run=run,
        settings=FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s),
        plan=TimePlan(total_s=time_s, race_s=0.0, asked_s=time_s, pace_s=pace_s),
        trainer=trainer,
        ledger=Ledger(run, runtime="onnxruntime"),
        moments=moments or Moments(lambda: 0.01),
        ending=Ending(),
        measure=measure,
    )
    return pace(context, entrants)


def told(run: RunDirectory) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in Journal(run.path / "candidates.jsonl").read()}


def test_what_a_training_should_see() -> None:
    def needed(images: int, batch_size: int, *, pretrained: bool) -> int:
        return needed_images(
            images=images,
            batch_size=batch_size,
            pretrained=pretrained,
            policy=DEFAULT_POLICY.pace,
        )

    assert needed(50_000, 256, pretrained=False) == 600_000, "12 passes"
    assert needed(1_400, 64, pretrained=False) == 32_000, "500 steps"
    assert needed(3_000, 64, pretrained=True) == 1_500, "half a pass"


def test_a_candidate_that_is_fast_enough_stays(run: RunDirectory) -> None:
    one = entrant("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * one.candidate.macs / 100.0)
    timed: list[str] = []
    kept, knowing = stage([one], trainer, run, timed=timed)
    assert kept == [one]
    assert not kept[0].candidate.is_held_back
    assert timed == []
    assert knowing.trainer.forms["convnet"].memory_format == "channels_last"


@pytest.mark.parametrize(("pace_s", "count"), [(0.0, 1), (60.0, 2)])
def test_when_its_time_is_over_no_further_candidate_is_timed(
    pace_s: float, count: int, run: RunDirectory
) -> None:
    """In 40 s three families took 20 to 34 s to be timed, and the fit 56 and 71 s."""
    first, second = entrant("resnet", 0.5), entrant("convnet", 1.0)
    trainer = FakeTrainer(1e18)
    for _ in range(2):  # the second time from the journal
        kept, knowing = stage([first, second], trainer, run, pace_s=pace_s)
        assert kept == [first, second][:count]
        assert set(knowing.trainer.forms) == {one.candidate.family.name for one in kept}
    reason = told(run).get("convnet:width=1", {}).get("reason", "")
    assert ("no time to time" in reason) == (count == 1)


@pytest.mark.parametrize("speed", [1.01, 0.01])
def test_those_that_train_fast_are_timed_first(speed: float, run: RunDirectory) -> None:
    """A demo of a minute timed MobileNetV2 first, trained it for 17 s and answered 0.101.

    One of 40 s timed it for 9 s though nothing could learn in what was left.
    """
    slow, plain = entrant("mobilenet_v2", 0.125), entrant("convnet", 0.125)
    trainer = FakeTrainer(speed * NEEDED * plain.candidate.macs / 100.0)
    kept, _ = stage([slow, plain], trainer, run, pace_s=0.0)
    assert kept == [plain]
    assert len(trainer.asked) == 1


def test_a_slow_one_steps_down_to_a_size_that_can_learn(run: RunDirectory) -> None:
    large = entrant("convnet", 2.5)
    trainer = FakeTrainer(0.3 * NEEDED * large.candidate.macs / 100.0)
    timed: list[str] = []
    (small,), _ = stage([large], trainer, run, timed=timed)
    one, before = small.candidate, large.candidate
    assert one.max_size == one.size < 2.5, "may not grow again when its size is chosen anew"
    assert one.macs <= 0.31 * before.macs
    larger = min(size for size in before.family.sizes if size > one.size)
    assert before.at(larger).macs > 0.29 * before.macs, "not smaller than it must"
    assert timed == [one.title]
    assert small.latency.median_ms == 0.25
    lines = told(run)
    assert "convnet:width=2.5 was too slow" in lines[one.label]["reason"]
    assert lines["convnet:width=2.5"]["status"] == "rejected"
    assert one.label in lines["convnet:width=2.5"]["reason"]
    assert lines[one.label]["status"] == "kept"
    forms = [compute for _, compute in trainer.asked]
    assert forms[0] is None
    assert all(form is not None for form in forms[1:]), "the form of computing is found once"


def test_one_that_never_would_is_left_out_but_not_the_last(
    run: RunDirectory, tmp_path: Path
) -> None:
    plain, slow = entrant("convnet", 0.125), entrant("mobilenet_v2", 0.125)
    assert slow.candidate.macs > plain.candidate.macs
    speed = 1.01 * NEEDED * plain.candidate.macs / 100.0
    kept, _ = stage([plain, slow], FakeTrainer(speed), run)
    assert kept == [plain]
    lines = Journal(run.path / "candidates.jsonl").read()
    assert [(line["family"], line["status"]) for line in lines] == [("mobilenet_v2", "rejected")]
    assert "of the pictures it should" in lines[0]["reason"]
    with open_run(tmp_path / "r2", parent=tmp_path, identity={"name": "2"}, command="c") as other:
        kept, _ = stage([slow], FakeTrainer(speed), other)
    assert [one.candidate.family.name for one in kept] == ["mobilenet_v2"]


def test_two_precisions_of_one_size_are_timed_once(run: RunDirectory) -> None:
    int8 = entrant("convnet", 1.0)
    fp32 = measured(Candidate(int8.candidate.family, 1.0, "fp32"))
    trainer = FakeTrainer(2 * NEEDED * int8.candidate.macs / 100.0)
    kept, _ = stage([int8, fp32], trainer, run)
    assert kept == [int8, fp32]
    assert len(trainer.asked) == 1


def test_a_finished_stage_is_read_back(run: RunDirectory) -> None:
    large = entrant("convnet", 2.5)
    trainer = FakeTrainer(0.3 * NEEDED * large.candidate.macs / 100.0)
    first, knowing = stage([large], trainer, run)
    count = len(trainer.asked)
    again, knowing_again = stage([large], trainer, run)
    assert again == first
    assert again[0].candidate.max_size == first[0].candidate.max_size
    assert knowing_again.trainer.forms == knowing.trainer.forms
    assert len(trainer.asked) == count


def test_one_slow_moment_makes_nothing_step_down(run: RunDirectory) -> None:
    one = entrant("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * one.candidate.macs / 100.0, slow_moments=[3.0])
    kept, knowing = stage([one], trainer, run)
    assert kept == [one]
    assert len(trainer.asked) == 2
    assert knowing.trainer.speeds["convnet"] == pytest.approx(1.01 * NEEDED / 100.0)


def test_without_time_for_a_second_look_nothing_steps_down(run: RunDirectory) -> None:
    """A fit of two minutes spent half a minute on its pace, and 18 s on its training."""
    one = entrant("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * one.candidate.macs / 100.0, slow_moments=[3.0] * 9)
    kept, _ = stage([one], trainer, run, pace_s=0.0)
    assert kept == [one]
    assert len(trainer.asked) == 1


def test_a_slow_machine_at_two_moments_does(run: RunDirectory) -> None:
    one = entrant("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * one.candidate.macs / 100.0, slow_moments=[3.0] * 9)
    (kept,), _ = stage([one], trainer, run)
    assert kept.candidate.size < one.candidate.size


def test_what_a_slow_moment_timed_is_corrected_to_the_usual_speed(run: RunDirectory) -> None:
    one = entrant("convnet", 1.0)
    seconds = iter([0.01] * 5 + [0.03] * 2)
    moments = Moments(lambda: next(seconds))
    for _ in range(5):
        moments.take()
    trainer = FakeTrainer(1.01 * NEEDED * one.candidate.macs / 100.0, slow_moments=[3.0])
    kept, _ = stage([one], trainer, run, moments=moments)
    assert kept == [one]
    assert len(trainer.asked) == 1, "no second look was needed"


def test_epochs_take_the_time_they_take(run: RunDirectory) -> None:
    one = entrant("convnet", 2.5)
    trainer = FakeTrainer(1.0)
    kept, knowing = stage([one], trainer, run, time_s=None)
    assert kept == [one]
    assert knowing.trainer is trainer
    assert trainer.asked == []
