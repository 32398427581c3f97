"""Plans: lengths that fit the time, and what each step does."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import cast

import pytest
import torch
from pydantic import ValidationError

from featherweight.training.checkpoint import CheckpointState
from featherweight.training.recipe import Recipe, default_recipe
from featherweight.training.schedule import Plan, plan_epochs, plan_time
from featherweight.training.session import Session
from featherweight.training.step import Learner


def test_exactly_one_length():
    for wrong in ({}, {"epochs": 1, "time_s": 1.0}):
        with pytest.raises(ValidationError, match="exactly one"):
            Recipe(**wrong)


@pytest.mark.parametrize("images", [20, 300, 3_000, 50_000])
@pytest.mark.parametrize("resolution", [16, 32, 128, 224])
@pytest.mark.parametrize("pretrained", [True, False])
def test_default_recipes_give_plans(pretrained, resolution, images):
    recipe = default_recipe(pretrained=pretrained, resolution=resolution, images=images)
    plan = plan_epochs(recipe, images=images, resolution=resolution)
    assert recipe.epochs is not None
    assert plan.total_steps == plan.epochs * plan.steps_per_epoch
    assert plan.batch_size <= images
    assert plan.resolution_at(plan.total_steps - 1) == resolution


def test_norms_keep_their_statistics_with_pretrained_weights_of_the_whole_network_only():
    def keeps(**kind):
        return default_recipe(resolution=224, images=3000, epochs=5, **kind).keep_norm_statistics

    assert keeps(pretrained=True)
    assert not keeps(pretrained=True, whole=False)
    assert not keeps(pretrained=False)


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_learning_rate_rises_then_falls_to_zero(decay):
    recipe = Recipe(epochs=10, batch_size=10, warm_up_share=0.2, decay=decay)
    plan = plan_epochs(recipe, images=100, resolution=8)
    scales = [plan.learning_rate_scale(step) for step in range(plan.total_steps)]
    peak = scales.index(max(scales))
    assert peak == plan.warm_up_steps == 20
    assert scales[peak] == 1.0
    assert scales[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert all(a > b for a, b in zip(scales[peak:], scales[peak + 1 :], strict=False))
    assert scales[60] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert 0 < scales[-1] < 0.02


@pytest.mark.parametrize(("epochs", "peak"), [(5, 1.0), (10, 1.0), (40, 0.5)])
def test_a_longer_training_has_a_lower_peak(epochs, peak):
    recipe = Recipe(epochs=epochs, batch_size=10, peak_steps=100)
    plan = plan_epochs(recipe, images=100, resolution=8)
    scales = [plan.learning_rate_scale(step) for step in range(plan.total_steps)]
    assert max(scales) == pytest.approx(peak)


def test_frozen_steps_come_first_and_the_schedule_starts_after_them():
    recipe = Recipe(epochs=3, batch_size=10, freeze_epochs=1, warm_up_share=0.1)
    plan = plan_epochs(recipe, images=100, resolution=8)
    assert [plan.frozen_at(step) for step in (0, 9, 10, 29)] == [True, True, False, False]
    assert plan.learning_rate_scale(5) == 1.0
    assert plan.learning_rate_scale(10) == pytest.approx(1 / 3)
    head_only = plan_epochs(
        Recipe(epochs=2, batch_size=10, freeze_epochs=2), images=100, resolution=8
    )
    assert head_only.frozen_at(19)
    assert head_only.learning_rate_scale(19) < 0.01


def test_low_resolution_comes_first():
    recipe = Recipe(epochs=2, batch_size=10, low_resolution=8, low_resolution_share=0.5)
    plan = plan_epochs(recipe, images=100, resolution=16)
    assert [plan.resolution_at(step) for step in (0, 9, 10, 19)] == [8, 8, 16, 16]


@pytest.mark.parametrize("available_s", [0.05, 1.0, 7.3, 100.0])
def test_a_timed_plan_fills_its_time_and_no_more(available_s):
    recipe = Recipe(
        time_s=1.0, batch_size=10, freeze_epochs=1, low_resolution=8, low_resolution_share=0.3
    )

    def step_s(frozen, resolution):
        return 0.01 * (0.5 if frozen else 1.0) * (resolution / 16) ** 2

    plan = plan_time(
        recipe, images=205, resolution=16, available_s=available_s, step_s=step_s, epoch_end_s=0.1
    )

    def duration_s(steps):
        one = plan.model_copy(
            update={
                "total_steps": steps,
                "low_steps": int(0.3 * steps),
                "frozen_steps": min(20, steps // 3),
            }
        )
        return one.epochs * 0.1 + sum(
            step_s(one.frozen_at(step), one.resolution_at(step)) for step in range(steps)
        )

    assert plan.epoch_end_s == 0.1
    if plan.total_steps > 1:
        assert duration_s(plan.total_steps) <= available_s + 1e-9
    assert duration_s(plan.total_steps + 1) > available_s


def test_fewer_images_than_a_batch_are_one_batch():
    plan = plan_epochs(Recipe(epochs=2, batch_size=64), images=10, resolution=8)
    assert (plan.batch_size, plan.steps_per_epoch, plan.total_steps) == (10, 1, 2)


@pytest.mark.parametrize(
    ("late_s", "step", "expected"), [(0.0, 30, 30), (50.0, 30, 50), (50.0, 70, 70), (999.0, 30, 99)]
)
def test_a_late_training_skips_ahead(late_s, step, expected):
    plan = Plan(
        total_steps=100, steps_per_epoch=10, batch_size=8, resolution=32, low_resolution=32,
        begun_s=10.0, epoch_end_s=2.0,
    )  # fmt: skip
    state = CheckpointState(
        identity="", plan=plan, memory_format="contiguous", dtype="fp32", step=0, num_updates=0,
        elapsed_s=0.0, history=(), best_epoch=0, stopped=None,
    )  # fmt: skip
    session = Session(
        learner=cast(Learner, None), generator=torch.Generator(), state=state, directory=Path(),
        time_s=112.0, started_s=time.perf_counter(), before_s=10.01 + late_s,
    )  # fmt: skip
    assert session.position(step) == expected
    session.time_s = None
    assert session.position(step) == step, "a training in epochs has no clock"


@pytest.mark.parametrize(("epochs", "strength"), [(1, 0.1), (5, 0.5), (30, 1.0)])
def test_the_longer_the_stronger(epochs, strength):
    recipe = Recipe(epochs=epochs, batch_size=10, full_strength_epochs=10)
    assert plan_epochs(recipe, images=100, resolution=8).strength == pytest.approx(strength)
