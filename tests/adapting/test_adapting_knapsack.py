"""The multiple-choice knapsack against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from featherweight.adapting.knapsack import Option, choose_options


def best_of_all(groups: list[list[Option]], budget: float) -> float | None:
    values = [
        sum(option.value for option in chosen)
        for chosen in itertools.product(*groups)
        if sum(option.cost for option in chosen) <= budget
    ]
    return max(values, default=None)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_within_the_budget_is_worth_more(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = [
        [Option(float(cost), float(value)) for cost, value in generator.uniform(0, 1, (3, 2))]
        for _ in range(6)
    ]
    budget = float(generator.uniform(1.0, 4.0))
    chosen = choose_options(groups, budget=budget)
    expected = best_of_all(groups, budget)
    if expected is None:
        assert chosen is None
        return
    assert chosen is not None
    picked = [group[k] for group, k in zip(groups, chosen, strict=True)]
    assert sum(option.cost for option in picked) <= budget
    # Costs are rounded up to 1/4000 of the budget: a choice that just fits may be lost.
    tighter = best_of_all(groups, budget * (1 - len(groups) / 4000))
    assert tighter is not None
    assert tighter <= sum(option.value for option in picked) <= expected


def test_exact_fits_are_taken() -> None:
    groups = [[Option(0.0, 0.0), Option(0.1, 1.0)]] * 3
    assert choose_options(groups, budget=0.2) in ([0, 1, 1], [1, 0, 1], [1, 1, 0])
    assert choose_options(groups, budget=0.4) == [1, 1, 1]


def test_no_choice_is_none() -> None:
    assert choose_options([[Option(2.0, 1.0)]], budget=1.0) is None
    assert choose_options([[Option(0.0, 1.0)]], budget=-0.1) is None
    assert choose_options([[Option(0.0, 1.0), Option(0.0, 2.0)]], budget=0.0) == [1]
