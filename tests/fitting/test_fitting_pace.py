"""Before the race, candidates step down to what can learn in the time there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from featherweight.fitting import pace
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import Family, families
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import Look
from featherweight.fitting.moments import Moments
from featherweight.fitting.pace import needed_images, pace_stage
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import TimePlan
from featherweight.journal import Journal
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory, open_run
from featherweight.training.compute import Compute
from featherweight.training.recipe import Recipe

IMAGES = 1000
BATCH = 32
NEEDED = 500 * BATCH
SMALL = Look(
    images={"train": IMAGES, "val": 10, "test": 10}, classes=10, typical_size=32, small=True,
    resolution=32, weights=(), foreign_cpu_share=0.0, uneven=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class FakeTrainer:
    """Trains `macs_per_s` multiply-adds a second, a fifth of that with depthwise networks."""

    macs_per_s: float
    device: str = "cpu"
    forms: dict[str, Compute] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    slow_moments: list[float] = field(default_factory=list)
    asked: list[tuple[str, Compute | None]] = field(default_factory=list)

    @property
    def store(self) -> Any:
        train = SimpleNamespace(labels=[0] * IMAGES)
        return SimpleNamespace(data=SimpleNamespace(splits={"train": train}))

    def recipe(self, entry: Entry, **_: Any) -> Recipe:
        return Recipe(epochs=1, batch_size=BATCH)

    def pace(
        self, entry: Entry, *, recipe: Recipe, compute: Compute | None
    ) -> tuple[Compute, float]:
        self.asked.append((entry.family.label(entry.value), compute))
        found = compute or Compute(torch.device("cpu"), "channels_last", "fp32")
        share = 0.2 if entry.family.name.startswith("mobilenet") else 1.0
        share /= self.slow_moments.pop(0) if self.slow_moments else 1.0
        return found, share * self.macs_per_s / (profile(entry.family.build(entry.value)).macs or 1)


class FakeShopper:
    """Times nothing: one candidate per point that was visited."""

    def __init__(self) -> None:
        self.visited: list[tuple[str, str, float]] = []

    def visit(self, wanted: list[tuple[Family, str, float]]) -> None:
        self.visited += [(f.name, precision, value) for f, precision, value in wanted]

    def at(self, family: Family, precision: str, value: float) -> Candidate:
        assert (family.name, precision, value) in self.visited
        return candidate(family, value, precision=precision, latency_ms=0.25)


def candidate(
    family: Family, value: float, *, precision: str = "int8", latency_ms: float = 0.5
) -> Candidate:
    architecture = family.build(value)
    return Candidate(
        name=family.label(value), architecture_digest=architecture.digest, family=family.name,
        width=value, resolution=32, precision=precision, runtime="onnxruntime",
        latency_ms=latency_ms, status="kept", stage="shop", macs=profile(architecture).macs,
    )  # fmt: skip


def entry(name: str, value: float, *, precision: str = "int8") -> Entry:
    settings = FitSettings(data="d", latency_ms=1, platform="p", model=name)
    (family,) = families(SMALL, settings)
    return Entry(candidate(family, value, precision=precision), family, value)


@pytest.fixture
def shopper(monkeypatch: pytest.MonkeyPatch) -> FakeShopper:
    fake = FakeShopper()
    monkeypatch.setattr(pace, "open_shopper", lambda *_, **__: fake)
    return fake


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
    entries: list[Entry],
    trainer: FakeTrainer,
    run: RunDirectory,
    *,
    time_s: float | None = 100.0,
    moments: Moments | None = None,
    pace_s: float | None = None,
) -> tuple[list[Entry], Trainer]:
    plan = TimePlan(total_s=time_s, race_s=0.0, asked_s=time_s, pace_s=pace_s)
    return pace_stage(
        entries, trainer=cast(Trainer, trainer), run=run, ledger=Ledger(run), plan=plan,
        moments=moments or Moments(lambda: 0.01), ending=cast(EndingTime, Ending()),
        settings=FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s),
    )  # fmt: skip


def macs(one: Entry) -> int:
    return profile(one.family.build(one.value)).macs or 0


def test_what_a_training_should_see() -> None:
    assert needed_images(images=50_000, batch_size=256, pretrained=False) == 600_000, "12 passes"
    assert needed_images(images=1_400, batch_size=64, pretrained=False) == 32_000, "500 steps"
    assert needed_images(images=3_000, batch_size=64, pretrained=True) == 1_500, "half a pass"


def test_a_candidate_that_is_fast_enough_stays(run: RunDirectory, shopper: FakeShopper) -> None:
    one = entry("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * macs(one) / 100.0)
    kept, knowing = stage([one], trainer, run)
    assert kept == [one]
    assert kept[0].ceiling is None
    assert shopper.visited == []
    assert knowing.forms["convnet"].memory_format == "channels_last"


@pytest.mark.parametrize(("pace_s", "count"), [(0.0, 1), (60.0, 2)])
def test_when_its_time_is_over_no_further_candidate_is_timed(
    pace_s: float, count: int, run: RunDirectory, shopper: FakeShopper
) -> None:
    """In 40 s three families took 20 to 34 s to be timed, and the fit 56 and 71 s."""
    first, second = entry("resnet", 0.5), entry("convnet", 1.0)
    trainer = FakeTrainer(1e18)
    for _ in range(2):  # the second time from the journal
        kept, knowing = stage([first, second], trainer, run, pace_s=pace_s)
        assert kept == [first, second][:count]
        assert set(knowing.forms) == {one.family.name for one in kept}
    told = {line["name"]: line for line in Journal(run.path / "candidates.jsonl").read()}
    assert ("no time to time" in told.get("convnet:width=1", {}).get("reason", "")) == (count == 1)


@pytest.mark.parametrize("speed", [1.01, 0.01])
def test_those_that_train_fast_are_timed_first(
    speed: float, run: RunDirectory, shopper: FakeShopper
) -> None:
    """A demo of a minute timed MobileNetV2 first, trained it for 17 s and answered 0.101.

    One of 40 s timed it for 9 s though nothing could learn in what was left.
    """
    slow, plain = entry("mobilenet_v2", 0.125), entry("convnet", 0.125)
    trainer = FakeTrainer(speed * NEEDED * macs(plain) / 100.0)
    kept, _ = stage([slow, plain], trainer, run, pace_s=0.0)
    assert kept == [plain]
    assert len(trainer.asked) == 1


def test_a_slow_one_steps_down_to_a_size_that_can_learn(
    run: RunDirectory, shopper: FakeShopper
) -> None:
    large = entry("convnet", 2.5)
    trainer = FakeTrainer(0.3 * NEEDED * macs(large) / 100.0)
    kept, _ = stage([large], trainer, run)
    (small,) = kept
    assert small.ceiling == small.value < 2.5, "may not grow again when its size is chosen anew"
    assert macs(small) <= 0.31 * macs(large)
    larger = min(v for v in large.family.values if v > small.value)
    assert (profile(large.family.build(larger)).macs or 0) > 0.29 * macs(large), (
        "not smaller than it must"
    )
    assert shopper.visited == [("convnet", "int8", small.value)]
    assert small.candidate.latency_ms == 0.25
    assert "convnet:width=2.5 was too slow" in small.candidate.reason
    told = {line["name"]: line for line in Journal(run.path / "candidates.jsonl").read()}
    assert told["convnet:width=2.5"]["status"] == "rejected"
    assert small.candidate.name in told["convnet:width=2.5"]["reason"]
    assert told[small.candidate.name]["status"] == "kept"
    forms = [compute for _, compute in trainer.asked]
    assert forms[0] is None
    assert all(form is not None for form in forms[1:]), "the form of computing is found once"


def test_one_that_never_would_is_left_out_but_not_the_last(
    run: RunDirectory, shopper: FakeShopper, tmp_path: Path
) -> None:
    plain, slow = entry("convnet", 0.125), entry("mobilenet_v2", 0.125)
    assert macs(slow) > macs(plain)
    speed = 1.01 * NEEDED * macs(plain) / 100.0
    kept, _ = stage([plain, slow], FakeTrainer(speed), run)
    assert kept == [plain]
    lines = Journal(run.path / "candidates.jsonl").read()
    assert [(line["family"], line["status"]) for line in lines] == [("mobilenet_v2", "rejected")]
    assert "of the pictures it should" in lines[0]["reason"]
    with open_run(tmp_path / "r2", parent=tmp_path, identity={"name": "2"}, command="c") as other:
        kept, _ = stage([slow], FakeTrainer(speed), other)
    assert [one.family.name for one in kept] == ["mobilenet_v2"]


def test_two_precisions_of_one_size_are_timed_once(run: RunDirectory, shopper: FakeShopper) -> None:
    both = [entry("convnet", 1.0), entry("convnet", 1.0, precision="fp32")]
    trainer = FakeTrainer(2 * NEEDED * macs(both[0]) / 100.0)
    kept, _ = stage(both, trainer, run)
    assert kept == both
    assert len(trainer.asked) == 1


def test_a_finished_stage_is_read_back(run: RunDirectory, shopper: FakeShopper) -> None:
    large = entry("convnet", 2.5)
    trainer = FakeTrainer(0.3 * NEEDED * macs(large) / 100.0)
    first, knowing = stage([large], trainer, run)
    count = len(trainer.asked)
    again, knowing_again = stage([large], trainer, run)
    assert again == first
    assert knowing_again.forms == knowing.forms
    assert len(trainer.asked) == count


def test_one_slow_moment_makes_nobody_step_down(run: RunDirectory, shopper: FakeShopper) -> None:
    one = entry("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * macs(one) / 100.0, slow_moments=[3.0])
    kept, knowing = stage([one], trainer, run)
    assert kept == [one]
    assert len(trainer.asked) == 2
    assert knowing.speeds["convnet"] == pytest.approx(1.01 * NEEDED / 100.0)


def test_without_time_for_a_second_look_nobody_steps_down(
    run: RunDirectory, shopper: FakeShopper
) -> None:
    """A fit of two minutes spent half a minute on its pace, and 18 s on its training."""
    one = entry("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * macs(one) / 100.0, slow_moments=[3.0] * 9)
    kept, _ = stage([one], trainer, run, pace_s=0.0)
    assert kept == [one]
    assert len(trainer.asked) == 1


def test_a_slow_machine_at_two_moments_does(run: RunDirectory, shopper: FakeShopper) -> None:
    one = entry("convnet", 1.0)
    trainer = FakeTrainer(1.01 * NEEDED * macs(one) / 100.0, slow_moments=[3.0] * 9)
    (kept,), _ = stage([one], trainer, run)
    assert kept.value < one.value


def test_what_a_slow_moment_timed_is_corrected_to_the_usual_speed(
    run: RunDirectory, shopper: FakeShopper
) -> None:
    one = entry("convnet", 1.0)
    seconds = iter([0.01] * 5 + [0.03] * 2)
    moments = Moments(lambda: next(seconds))
    for _ in range(5):
        moments.take()
    trainer = FakeTrainer(1.01 * NEEDED * macs(one) / 100.0, slow_moments=[3.0])
    kept, _ = stage([one], trainer, run, moments=moments)
    assert kept == [one]
    assert len(trainer.asked) == 1, "no second look was needed"


def test_epochs_take_the_time_they_take(run: RunDirectory, shopper: FakeShopper) -> None:
    one = entry("convnet", 2.5)
    trainer = FakeTrainer(1.0)
    kept, knowing = stage([one], trainer, run, time_s=None)
    assert kept == [one]
    assert knowing is trainer
    assert trainer.asked == []
