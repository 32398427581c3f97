"""Who teaches the winner, and how the time that is left is shared."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from featherweight.errors import DivergedError
from featherweight.fitting import stages
from featherweight.fitting.families import Family, families
from featherweight.fitting.halving import Ranked
from featherweight.fitting.look import Look
from featherweight.fitting.prove import _resolutions
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.sizing import Sizer
from featherweight.fitting.stages import last_training, teacher_of
from featherweight.fitting.time_plan import TimePlan
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

    monkeypatch.setattr(stages, "train_stage", train_stage)
    raced = [Ranked(winner, "race-2", np.full(4, 0.5), 0.7, images_seen=1, seconds=1.0)]
    trained = last_training(
        cast(RunDirectory, None), winner, raced, trainer=cast(Trainer, None), plan=plan(None),
        settings=FitSettings(data="d", latency_ms=1, platform="p", epochs=3),
    )  # fmt: skip
    assert trained.phase == "train"
    teacher = asked["train"]["teacher"]
    assert (teacher is not None) == taught
    assert teacher is None or (teacher[0].value, teacher[1]) == (168.0, "teacher")


def test_a_network_ships_near_the_size_it_was_trained_at() -> None:
    """A machine that became much faster does not make a network of 96 pixels read 160."""

    class Generous:
        def size(self, *_: Any, margin: bool) -> tuple[float, None]:
            assert not margin
            return 160.0, None

    class Strict:
        def size(self, *_: Any, margin: bool) -> tuple[float, None]:
            return 80.0, None

    trained = entry(photo_family(), 96.0)
    assert _resolutions(trained, sizer=cast(Sizer, Generous())) == [104, 96, 88, 80, 72, 64]
    assert _resolutions(trained, sizer=cast(Sizer, Strict())) == [80, 72, 64]
