"""Ranking: paired losses, and the time plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import fake_context, measured, small_family, trained

from featherweight.data.metrics import difference_interval
from featherweight.fitting.candidate import Candidate, Phase, Training
from featherweight.fitting.ranking import cheapest_of_equals
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages import race as racing
from featherweight.fitting.stages.prove import worth_shipping
from featherweight.fitting.time_plan import TimePlan
from featherweight.tasks.classification import cross_entropy


def test_file_losses_are_cross_entropy() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 30, (50, 7)).astype(np.float32)
    labels = generator.integers(0, 7, 50)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).double(), torch.from_numpy(labels), reduction="none"
    )
    assert np.allclose(cross_entropy(logits, labels), expected.numpy(), rtol=1e-9, atol=1e-9)


def test_difference_interval_sees_a_paired_difference() -> None:
    generator = np.random.default_rng(1)
    hard = generator.exponential(1.0, 400)  # pictures differ much more than networks do
    low, high = difference_interval(hard + 0.05 + 0.01 * generator.normal(size=400), hard, seed=0)
    assert 0.04 < low < high < 0.06


def test_difference_interval_spans_zero_without_one() -> None:
    generator = np.random.default_rng(2)
    hard = generator.exponential(1.0, 400)
    noise = 0.3 * generator.normal(size=400)
    low, high = difference_interval(hard + noise - noise.mean(), hard, seed=0)
    assert low < 0 < high


def test_of_equals_the_fastest_file_wins() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=400)
    noise -= noise.mean()
    best, equal, worse = (
        trained(Candidate(small_family(name), 16.0, "fp32"), loss, median_ms=median_ms)
        for name, loss, median_ms in (
            ("best", 0.5 + 0 * noise, 3.0),
            ("equal", 0.5001 + noise, 2.0),
            ("worse", 0.9 + noise, 1.0),
        )
    )
    assert cheapest_of_equals([best, equal, worse], seed=0) is equal


def test_time_plan_keeps_the_shares_of_the_design() -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=1800)
    plan = TimePlan.of(settings, spent_s=20.0, small=False)
    assert plan.total_s == 1780.0
    assert plan.race_s is not None
    assert plan.shop_s is not None
    assert plan.probe_s is not None
    assert plan.race_s + plan.shop_s + plan.probe_s <= 0.4 * 1800


def test_a_plan_says_where_the_time_goes() -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=1800)
    lines = TimePlan.of(settings, spent_s=20.0, small=False).told()
    assert "race, where several go on: at most 396 s" in lines
    assert "fill: at most 270 s" in lines
    assert lines[-1] == "in all: 1800 s, of which 20 s are gone"
    by_epochs = settings.model_copy(update={"time_s": None, "epochs": 3})
    assert "by epochs: 3" in TimePlan.of(by_epochs, spent_s=1.0, small=True).told()[0]


@pytest.mark.parametrize(
    ("time_s", "small", "share"), [(480, False, 0.05), (480, True, 0.1), (600, False, 0.1)]
)
def test_shopping_is_shorter_where_the_size_is_chosen_anew(
    time_s: float, small: bool, share: float
) -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s)
    plan = TimePlan.of(settings, spent_s=20.0, small=small)
    assert plan.shop_s == pytest.approx(share * time_s)


def test_epochs_have_no_clock() -> None:
    plan = TimePlan.of(
        FitSettings(data="d", latency_ms=1, platform="p", epochs=3), spent_s=1.0, small=True
    )
    assert plan.total_s is None
    assert plan.race_s is None


def test_budget_must_be_positive() -> None:
    with pytest.raises(ValueError, match="latency_ms"):
        FitSettings(data="d", latency_ms=0, platform="p")


@pytest.mark.parametrize(
    ("losses", "phases"),
    [
        ((0.9, 1.4, 2.3), ["race-1"] * 3),
        ((0.9, 1.0, 2.3), ["race-1"] * 3 + ["race-2"] * 2),
    ],
)
def test_a_decided_race_has_one_rung(
    losses: tuple[float, ...], phases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=(len(losses), 400))
    names = [f"network {index}" for index in range(len(losses))]
    ran: list[str] = []

    def begin(
        _: object, candidate: Candidate, phase: Phase, **_options: Any
    ) -> Callable[[], Training]:
        ran.append(str(phase))
        index = names.index(candidate.family.name)
        return lambda: trained(candidate, losses[index] + noise[index], phase=phase).training

    monkeypatch.setattr(racing, "begin_training", begin)
    entrants = [measured(Candidate(small_family(name), 16.0, "fp32")) for name in names]
    plan = TimePlan(total_s=600.0, race_s=60.0)
    raced = racing.race(fake_context(plan=plan), entrants)
    assert ran == phases
    assert raced[0].candidate.family.name == "network 0"
    assert {one.candidate.family.name for one in raced} == set(names)


def test_an_untrained_network_never_replaces_a_trained_one() -> None:
    """Seen: a file 5 % over the budget was replaced by one that had learned for one step."""
    one = Candidate(small_family(), 16.0, "fp32")
    best, close, untrained = (trained(one, accuracy=accuracy) for accuracy in (0.989, 0.93, 0.101))
    assert worth_shipping(best, [close, untrained], least_share=0.75) == [close]


@pytest.mark.parametrize(("race_s", "left"), [(60.0, ["fast"]), (2100.0, ["fast", "slow"])])
def test_detectors_race_where_there_is_time_to_tell_them_apart(
    race_s: float, left: list[str]
) -> None:
    """Seen: after one pass over 205 pictures, four detectors were chosen among by chance."""
    context = fake_context(plan=TimePlan(total_s=9000.0, race_s=race_s))
    trainer: Any = SimpleNamespace(speeds={"slow": 4.0, "fast": 8.0})
    context = replace(context, trainer=trainer)
    entrants = [
        measured(Candidate(replace(small_family(name), anchored=True), 16.0, precision))
        for name, precision in (("slow", "int8"), ("fast", "int8"), ("fast", "fp32"))
    ]
    assert [one.candidate.family.name for one in racing.racers(context, entrants)] == left
    assert racing.racers(context, entrants)[0].candidate.precision == "fp32"
    larger = measured(Candidate(replace(small_family("slow"), anchored=True), 32.0, "fp32"))
    if left == ["fast"]:
        assert racing.racers(context, [*entrants, larger]) == [larger], "larger pictures go first"
    plain = [measured(Candidate(small_family(name), 16.0, "fp32")) for name in ("slow", "fast")]
    assert len(racing.racers(context, plain)) == 2
