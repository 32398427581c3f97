"""Ranking: paired losses, and the time plan."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from featherweight.fitting import halving
from featherweight.fitting.halving import Ranked
from featherweight.fitting.prove import worth_shipping
from featherweight.fitting.race import Entry, difference_interval, file_losses
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import TimePlan


def test_file_losses_are_cross_entropy() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 30, (50, 7)).astype(np.float32)
    labels = generator.integers(0, 7, 50)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).double(), torch.from_numpy(labels), reduction="none"
    )
    assert np.allclose(file_losses(logits, labels), expected.numpy(), rtol=1e-9, atol=1e-9)


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


def test_time_plan_keeps_the_shares_of_the_design() -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=1800)
    plan = TimePlan.of(settings, spent_s=20.0, small=False)
    assert plan.total_s == 1780.0
    assert plan.race_s is not None
    assert plan.shop_s is not None
    assert plan.probe_s is not None
    assert plan.race_s + plan.shop_s + plan.probe_s <= 0.4 * 1800


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

    def train(entry: Any, phase: str, **_options: object) -> Ranked:
        ran.append(phase)
        index = names.index(entry.family.name)
        return Ranked(entry, phase, losses[index] + noise[index], 0.5, images_seen=1, seconds=1.0)

    monkeypatch.setattr(halving, "train_stage", train)
    entries = [
        SimpleNamespace(
            title=name, family=SimpleNamespace(name=name),
            candidate=SimpleNamespace(macs=1, latency_ms=1.0),
        )
        for name in names
    ]  # fmt: skip
    plan = SimpleNamespace(race_s=60.0, epochs=None)
    raced = halving.run_race(
        cast(Any, entries), trainer=cast(Any, SimpleNamespace(seed=0)), run=cast(Any, None),
        plan=cast(Any, plan),
    )  # fmt: skip
    assert ran == phases
    assert raced[0].entry.title == "network 0"
    assert {ranked.entry.title for ranked in raced} == set(names)


def test_an_untrained_network_never_replaces_a_trained_one() -> None:
    """Seen: a file 5 % over the budget was replaced by one that had learned for one step."""

    def ranked(accuracy: float) -> Ranked:
        entry = cast(Entry, None)
        return Ranked(entry, "race-1", np.zeros(1), accuracy, images_seen=64, seconds=1.0)

    trained, close, untrained = ranked(0.989), ranked(0.93), ranked(0.101)
    assert worth_shipping(trained, [close, untrained]) == [close]
