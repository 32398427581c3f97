"""Who teaches the winner, and how the time that is left is shared."""

from __future__ import annotations

import pytest

from featherweight.fitting.families import Family, families
from featherweight.fitting.look import Look
from featherweight.fitting.race import Entry
from featherweight.fitting.settings import FitSettings, TimePlan
from featherweight.fitting.stages import teacher_of
from featherweight.reporting.run import Candidate

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


@pytest.mark.parametrize(("value", "expected"), [(96.0, 144.0), (104.0, 152.0), (208.0, 288.0)])
def test_the_winner_at_a_larger_size_teaches(value: float, expected: float) -> None:
    teacher = teacher_of(entry(photo_family(), value), plan=plan(1800))
    assert teacher is not None
    assert teacher.value == expected
    assert teacher.candidate.name == f"efficientnet_lite0:resolution={expected:g}"
    assert teacher.candidate.precision == "fp32"
    assert teacher.key != entry(photo_family(), value).key


def test_nobody_teaches_where_it_would_cost_more_than_it_gives() -> None:
    family = photo_family()
    assert teacher_of(entry(family, 96.0), plan=plan(300)) is None, "too short"
    assert teacher_of(entry(family, 96.0), plan=plan(600)) is not None, "loading does not count"
    assert teacher_of(entry(family, 240.0), plan=plan(1800)) is None, "hardly larger"
    scratch = photo_family(model="mobilenet_v2", pretrained="none")
    assert teacher_of(entry(scratch, 96.0), plan=plan(1800)) is None, "knows nothing itself"
    small = PHOTOS.model_copy(update={"small": True, "resolution": 32, "weights": ()})
    (convnet,) = families(small, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))
    assert teacher_of(entry(convnet, 1.0), plan=plan(1800)) is None, "sized by width"


def test_epochs_allow_a_teacher() -> None:
    assert teacher_of(entry(photo_family(), 96.0), plan=plan(None)) is not None
