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
from featherweight.training.results import EpochRecord
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


def test_sizes_are_drawn_anew_for_every_step_and_the_same_in_every_attempt():
    recipe = Recipe(
        epochs=30,
        batch_size=10,
        low_resolution=64,
        low_resolution_share=0.1,
        resolution_scales=(0.86, 1.0, 1.14),
        seed=3,
    )
    plan = plan_epochs(recipe, images=100, resolution=112)
    sides = [plan.side_at(step) for step in range(plan.total_steps)]
    assert sides[:30] == [64] * 30, "the low steps stay as they are"
    counts = [sides[30:].count(side) for side in (96, 112, 128)]
    assert sum(counts) == 270
    assert min(counts) > 60
    resumed = Plan.model_validate_json(plan.model_dump_json())
    assert [resumed.side_at(step) for step in range(plan.total_steps)] == sides
    assert {plan.resolution_at(step) for step in range(30, 300)} == {112}
    other = plan_epochs(recipe.model_copy(update={"seed": 4}), images=100, resolution=112)
    assert [other.side_at(step) for step in range(300)] != sides


def test_the_time_of_larger_and_smaller_pictures_is_reckoned_with():
    def steps(*scales: float) -> int:
        recipe = Recipe(time_s=100.0, batch_size=10, resolution_scales=scales)
        found = plan_time(
            recipe,
            images=1000,
            resolution=64,
            available_s=100.0,
            step_s=lambda *_: 0.1,
            epoch_end_s=0.0,
        )
        return found.total_steps

    assert steps() == steps(1.0) == pytest.approx(1000, abs=2)
    assert steps(1.0, 2.0) == pytest.approx(400, abs=2), "four times the pixels in half the steps"


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


def session(*, gone_s: float, history: tuple[EpochRecord, ...] = ()) -> Session:
    """A training of 100 expected steps in 112 s, of which ten were gone before the first."""
    plan = Plan(
        total_steps=100,
        steps_per_epoch=10,
        batch_size=8,
        resolution=32,
        low_resolution=16,
        low_steps=40,
        begun_s=10.0,
        epoch_end_s=2.0,
        clock=((0.0, 0), (0.2, 40), (1.0, 100)),
    )
    state = CheckpointState(
        identity="",
        plan=plan,
        memory_format="contiguous",
        dtype="fp32",
        step=0,
        num_updates=0,
        elapsed_s=0.0,
        history=history,
        best_epoch=0,
        stopped=None,
    )
    return Session(
        learner=cast(Learner, None),
        generator=torch.Generator(),
        state=state,
        directory=Path(),
        val_pictures=100,
        time_s=112.0,
        started_s=time.perf_counter(),
        before_s=gone_s + 0.01,
    )


@pytest.mark.parametrize("step", [0, 30, 5_000])
@pytest.mark.parametrize(
    ("gone_s", "expected"), [(0.0, 0), (10.0, 0), (20.0, 20), (30.0, 40), (70.0, 70), (999.0, 99)]
)
def test_the_clock_says_where_a_training_is_however_fast_the_machine(gone_s, expected, step):
    """Low pictures have 40 of the steps and 20 % of the time."""
    training = session(gone_s=gone_s)
    assert training.position(step) == expected
    training.time_s = None
    assert training.position(step) == step, "a training in epochs has no clock"


@pytest.mark.parametrize(("validation_s", "over"), [(1.0, False), (30.0, True)])
def test_the_last_validation_is_expected_to_take_what_the_one_before_took(validation_s, over):
    epoch = EpochRecord(
        epoch=1,
        images_seen=100,
        seconds=10.0 + validation_s,
        images_per_s=10.0,
        train_loss=1.0,
        val_loss=1.0,
        val_accuracy=0.5,
        learning_rate=0.1,
        resolution=32,
        memory_format="contiguous",
        dtype="fp32",
        foreign_cpu_share=None,
    )
    training = session(gone_s=90.0, history=(epoch,))
    assert training.epoch_end_s == pytest.approx(validation_s)
    assert training.out_of_time == over


def test_a_timed_plan_knows_the_share_of_the_time_of_its_low_steps():
    recipe = Recipe(time_s=1.0, batch_size=10, low_resolution=8, low_resolution_share=0.4)
    plan = plan_time(
        recipe,
        images=205,
        resolution=16,
        available_s=100.0,
        epoch_end_s=0.0,
        step_s=lambda frozen, resolution: 0.01 * (resolution / 16) ** 2,
    )
    assert plan.clock[0] == (0.0, 0)
    assert plan.clock[-1] == (1.0, plan.total_steps)
    share, step = plan.clock[1]
    assert step == plan.low_steps
    assert share == pytest.approx(0.4 * 0.25 / (0.4 * 0.25 + 0.6), abs=1e-3)
    assert plan.due(share / 2) == pytest.approx(plan.low_steps / 2, abs=1)


@pytest.mark.parametrize(("steps", "peak"), [(4, 0.04), (25, 0.25), (100, 1.0), (400, 1.0)])
def test_a_few_steps_have_a_low_peak_where_the_classifier_is_fitted(steps, peak):
    recipe = Recipe(epochs=steps, batch_size=10, least_peak_steps=100, warm_up_share=0.0)
    plan = plan_epochs(recipe, images=10, resolution=8)
    assert plan.total_steps == steps
    assert plan.learning_rate_scale(0) == pytest.approx(peak)


@pytest.mark.parametrize(("epochs", "strength"), [(1, 0.1), (5, 0.5), (30, 1.0)])
def test_the_longer_the_stronger(epochs, strength):
    recipe = Recipe(epochs=epochs, batch_size=10, full_strength_epochs=10)
    assert plan_epochs(recipe, images=100, resolution=8).strength == pytest.approx(strength)
