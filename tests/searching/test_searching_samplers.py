"""Samplers: each is the same when made anew, never proposes what it must not, and learns."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from featherweight.errors import FailedError, UsageError
from featherweight.searching.reward import SOFT_EXPONENT, Reward, fitted_exponent
from featherweight.searching.sampler import GENERATION, SAMPLERS, Fate, Seen, propose_next
from featherweight.searching.samplers.controller import (
    Controller,
    ControllerSampler,
    clipped_objective,
)
from featherweight.searching.samplers.predictor import drawn_model
from featherweight.searching.space import SPACES, Point, SpaceSettings

SPACE = SPACES["nas_bench_macro"](SpaceSettings((3, 32, 32), 10))


def _score(point: Point) -> float:
    return sum(point) / 16


def _study(name: str, trials: int, *, most: int = 12, anew: bool = False) -> list[Seen]:
    """Search for the largest sum of digits that is not above `most`."""
    sampler, seen, proposed = SAMPLERS[name](SPACE), list[Seen](), set[str]()

    def judge(point: Point) -> Fate:
        if sum(point) > most:
            return "slow"
        return "known" if SPACE.key(point) in proposed else "new"

    for trial in range(trials):
        if anew:
            sampler = SAMPLERS[name](SPACE)
        found = propose_next(sampler, seen, trial=trial, seed=3, judge=judge)
        assert judge(found.point) == "new"
        assert all(sum(point) > most for point in found.slow)
        proposed.add(SPACE.key(found.point))
        seen += [Seen(point, 0.0, trained=False, trial=trial) for point in found.slow]
        seen.append(Seen(found.point, _score(found.point), trained=True, trial=trial))
    return seen


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_study_that_goes_on_proposes_the_same(name: str) -> None:
    """A sampler made anew before every trial is what a killed and resumed study has."""
    assert _study(name, 22) == _study(name, 22, anew=True)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_generation_does_not_see_its_own_results(name: str) -> None:
    seen = _study(name, 2 * GENERATION)
    sampler = SAMPLERS[name](SPACE)
    own = [one for one in seen if one.trial >= GENERATION]
    worse = [one._replace(score=0.9 - one.score) for one in own]
    proposals = {
        propose_next(
            sampler, [*seen[: -len(own)], *results], trial=2 * GENERATION - 1, seed=3, judge=_new
        ).point
        for results in (own, worse)
    }
    assert len(proposals) == 1


QUIET = """
from featherweight.searching.sampler import SAMPLERS, propose_next
from featherweight.searching.space import SPACES, SpaceSettings
space = SPACES["nas_bench_macro"](SpaceSettings((3, 32, 32), 10))
propose_next(SAMPLERS["tpe"](space), [], trial=0, seed=0, judge=lambda _: "new")
"""


@pytest.mark.slow
def test_optuna_says_nothing() -> None:
    """Seen: a line on stderr for every proposal."""
    done = subprocess.run(
        [sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def _new(_: Point) -> Fate:
    return "new"


@pytest.mark.parametrize(
    ("name", "trials"),
    [("evolution", 60), ("predictor", 60), ("tpe", 60), ("ppo", 60), ("nsga2", 120)],
)
def test_what_learns_finds_more_than_even_draws(name: str, trials: int) -> None:
    scores = [one.score for one in _study(name, trials) if one.trained]
    even = [one.score for one in _study("random", trials) if one.trained]
    assert np.mean(scores[-20:]) > np.mean(even[-20:]) + 0.05


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_where_nothing_is_left_it_is_said(name: str) -> None:
    sampler = SAMPLERS[name](SPACE)
    with pytest.raises(FailedError, match="no further network of nas_bench_macro"):
        propose_next(sampler, [], trial=0, seed=0, judge=lambda _: "slow")


def test_a_drawn_model_finds_the_weights() -> None:
    generator = np.random.default_rng(0)
    known, weights = generator.normal(size=(200, 6)), np.array([1.0, -2.0, 0.0, 0.5, 0.0, 3.0])
    scores = known @ weights + 0.1 * generator.normal(size=200)
    asked = generator.normal(size=(50, 6))
    foretold = drawn_model(known, scores, generator=generator)(asked)
    assert np.abs(foretold - asked @ weights).max() < 0.2


def test_few_scores_leave_the_model_in_doubt() -> None:
    generator = np.random.default_rng(0)
    known, scores = generator.normal(size=(6, 20)), generator.normal(size=6)
    asked = generator.normal(size=(1, 20))
    draws = [drawn_model(known, scores, generator=generator)(asked)[0] for _ in range(200)]
    assert np.std(draws) > 0.3 * np.std(scores)


SIZES = (2, 3, 4, 5)


def test_the_controller_begins_with_even_draws() -> None:
    controller = Controller(SIZES, seed=0)
    points = list(itertools.islice(itertools.product(*map(range, SIZES)), 20))
    logs, entropy = controller.log_probabilities(points)
    even = sum(math.log(size) for size in SIZES)
    torch.testing.assert_close(entropy, torch.full((20,), even))
    torch.testing.assert_close(logs, torch.full((20,), -even))


def test_log_probabilities_of_all_points_sum_to_one() -> None:
    controller = Controller(SIZES, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    points = list(itertools.product(*map(range, SIZES)))
    logs, _ = controller.log_probabilities(points)
    assert logs.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    drawn = [controller.draw(generator=generator) for _ in range(3000)]
    likeliest = points[int(logs.argmax())]
    share = sum(point == likeliest for point in drawn) / 3000
    assert share == pytest.approx(logs.max().exp().item(), abs=0.04)


def test_the_clipped_objective_has_no_gradient_on_the_bad_side() -> None:
    ratio = torch.tensor([1.0, 1.3, 0.7, 1.3, 0.7], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    clipped_objective(ratio, advantage).sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [1.0, 0.0, 1.0, -1.0, 0.0]


def test_a_constant_reward_teaches_nothing_but_entropy() -> None:
    sampler = ControllerSampler(SPACE, entropy_weight=0.0)
    seen = [Seen((1,) * 8, 0.5, trained=True, trial=trial) for trial in range(GENERATION)]
    taught = sampler._taught(tuple(seen))
    fresh = Controller([3] * 8, seed=0)
    for one, other in zip(taught.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_the_controller_finds_the_best_arm() -> None:
    sampler = ControllerSampler(SPACE)
    seen, generator = list[Seen](), np.random.default_rng(0)
    for trial in range(300):
        found = propose_next(sampler, seen, trial=trial, seed=0, judge=_new)
        reward = float(found.point[0] == 2) + 0.1 * float(generator.normal())
        seen.append(Seen(found.point, reward, trained=True, trial=trial))
    assert np.mean([one.point[0] == 2 for one in seen[-50:]]) > 0.9


def test_the_reward_is_the_paper_s() -> None:
    soft = Reward(80.0, "soft")
    assert pytest.approx(-math.log(1.05) / math.log(2), abs=5e-4) == SOFT_EXPONENT
    assert soft(0.75, 80.0) == 0.75
    assert soft(0.75, 160.0) == pytest.approx(0.75 * 2**-0.07)
    assert soft(0.75, 60.0) > soft(0.75, 61.0)
    hard = Reward(80.0)
    assert (hard(0.75, 80.0), hard(0.75, 80.1)) == (0.75, 0.0)


def test_the_budget_cannot_change_the_order_of_the_soft_reward() -> None:
    generator = np.random.default_rng(0)
    accuracies, times = generator.uniform(0.5, 0.9, 40), generator.uniform(10, 100, 40)
    pairs = list(zip(accuracies, times, strict=True))
    orders = {
        tuple(np.argsort([Reward(t, "soft")(a, ms) for a, ms in pairs])) for t in (20.0, 40.0, 80.0)
    }
    assert len(orders) == 1
    best = {int(np.argmax([Reward(t)(a, ms) for a, ms in pairs])) for t in (20.0, 40.0, 80.0)}
    assert len(best) > 1


def test_an_exponent_is_fitted_to_the_front() -> None:
    times = [10.0, 20.0, 40.0, 30.0]
    accuracies = [0.5 * (ms / 10) ** 0.15 for ms in times[:3]]
    assert fitted_exponent([*accuracies, 0.1], times) == pytest.approx(-0.15)
    with pytest.raises(UsageError, match="three or more"):
        fitted_exponent([0.5, 0.4, 0.3], [1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="rewards slow"):
        Reward(1.0, "soft", 0.1)


def test_w_is_fitted_once_enough_networks_were_judged(caplog: pytest.LogCaptureFixture) -> None:
    reward = Reward(1.0, "soft", is_fitted=True)
    times = [0.5 * 1.1**step for step in range(20)]
    points = [(0.5 * ms**0.15, ms) for ms in times]
    assert reward.told(points[:14]).exponent == SOFT_EXPONENT
    fitted = reward.told(points[:15])
    assert fitted.exponent == pytest.approx(-0.15)
    assert len({round(fitted(*point), 9) for point in points}) == 1, "all are worth the same"
    assert reward.told(points) == fitted, "what comes later changes nothing"
    falling = [(1.0 - ms / 10, ms) for ms in times]
    assert reward.told(falling).exponent == SOFT_EXPONENT
    assert "w stays -0.07" in caplog.text
    assert Reward(1.0, "soft").told(points).exponent == SOFT_EXPONENT
