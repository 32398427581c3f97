"""The study in a database: nothing is lost or doubled, and it goes on with the same proposals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest

from featherweight.errors import FailedError, UsageError
from featherweight.searching.features import PointFeatures
from featherweight.searching.sampler import SAMPLERS, Fate, Judge, Proposal, Seen
from featherweight.searching.space import SPACES, Point, SpaceSettings, random_point
from featherweight.searching.speeds import foretell_speeds
from featherweight.searching.study import PointSampler, Study, Trial, open_study

SPACE = SPACES["nas_bench_macro"](SpaceSettings((3, 32, 32), 10))
MOST = 12


class _Killed(Exception):
    pass


def _open(path: Path, *, identity: str = "one") -> Study:
    return open_study(f"sqlite:///{path / 'study.db'}", SPACE, name="s", identity=identity)


def _judge(study: Study) -> Judge:
    def judge(point: Point) -> Fate:
        if sum(point) > MOST:
            return "slow"
        known = {SPACE.key(one.point) for one in study.trials()}
        return "known" if SPACE.key(point) in known else "new"

    return judge


def _go(study: Study, trials: int, name: str = "evolution") -> None:
    """Go on with a study, as a search does."""
    sampler = SAMPLERS[name](SPACE)
    study.decide_interrupted(sampler, seed=5, judge=_judge(study))
    while True:
        found = study.trials()
        running = [one for one in found if one.state == "running"]
        if not running and len(found) >= trials:
            return
        one = running[0] if running else study.next(sampler, seed=5, judge=_judge(study))
        _end(study, one)


def _end(study: Study, one: Trial) -> None:
    if one.number % 7 == 3:
        study.finish(one, "slow", notes={"latency_ms": 2.0})
    elif one.number % 7 == 5:
        study.finish(one, "failed", notes={"reason": "diverged"})
    else:
        study.finish(one, "trained", reward=sum(one.point) / 16, notes={"latency_ms": 1.0})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    study = _open(tmp_path_factory.mktemp("whole"))
    _go(study, 16)
    return study.trials()


def test_a_study_is_read_back(whole: list[Trial], tmp_path: Path) -> None:
    _go(_open(tmp_path), 16)
    again = _open(tmp_path).trials()
    assert again == whole
    assert [one.number for one in again] == list(range(16))
    assert {one.state for one in again} == {"trained", "slow", "failed"}
    assert len({SPACE.key(one.point) for one in again}) == 16, "nothing is proposed twice"
    assert again[5].notes["reason"] == "diverged"
    assert any(one.slow for one in again), "what was drawn and passed over is kept"


@pytest.mark.parametrize("calls", range(1, 60, 15))
def test_killed_anywhere_it_goes_on_with_the_same_proposals(
    whole: list[Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Cut at a write to the database: choices half written, a note, or the end of a trial."""
    left = [calls]
    study = _open(tmp_path)
    storage = type(study._storage)

    def cut(name: str) -> None:
        plain = getattr(storage, name)

        def counted(self: object, *args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise _Killed
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(storage, name, counted)

    for name in ("set_trial_param", "set_trial_user_attr", "set_trial_state_values"):
        cut(name)
    with pytest.raises(_Killed):
        _go(study, 16)
    _go(_open(tmp_path), 16)
    assert _open(tmp_path).trials() == whole


def test_optuna_asks_our_samplers() -> None:
    """Any study of Optuna over the choices can have one."""
    seen: set[str] = set()

    def judge(point: Point) -> Fate:
        return "known" if SPACE.key(point) in seen else "new"

    ours = PointSampler(SPACE, SAMPLERS["evolution"](SPACE), seed=1, judge=judge)
    study = optuna.create_study(sampler=ours, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        options = [trial.suggest_categorical(one.name, one.options) for one in SPACE.choices]
        point = tuple(
            one.options.index(str(option))
            for one, option in zip(SPACE.choices, options, strict=True)
        )
        seen.add(SPACE.key(point))
        return float(sum(point))

    study.optimize(objective, n_trials=40)
    assert len(seen) == 40
    firsts, lasts = (
        [one.value for one in part] for part in (study.trials[:10], study.trials[-10:])
    )
    assert sum(lasts) > sum(firsts), "evolution learns"
    with pytest.raises(UsageError, match="no choice of nas_bench_macro"):
        ours.sample_independent(
            study, study.trials[0], "x", optuna.distributions.IntDistribution(0, 1)
        )


def test_databases_that_do_not_do(tmp_path: Path) -> None:
    _open(tmp_path)
    with pytest.raises(UsageError, match="of another space or other data"):
        _open(tmp_path, identity="other")
    with pytest.raises(UsageError, match="is no address of a database"):
        open_study("study.db", SPACE, name="s", identity="one")
    with pytest.raises(FailedError, match=r"does not answer: .*unable to open"):
        open_study(f"sqlite:///{tmp_path}/no/study.db", SPACE, name="s", identity="one")


def test_no_network_left(tmp_path: Path) -> None:
    study = _open(tmp_path)
    with pytest.raises(FailedError, match="no further network"):
        study.next(SAMPLERS["random"](SPACE), seed=0, judge=lambda _: "slow")
    assert study.trials() == []
    assert study.is_exhausted
    _go(study, 8)
    assert [one.number for one in study.trials()] == [*range(1, 9)], "number 0 had no network"


def test_a_study_that_minimises_is_refused() -> None:
    ours = PointSampler(SPACE, SAMPLERS["random"](SPACE), seed=1, judge=lambda _: "new")
    study = optuna.create_study(sampler=ours, direction="minimize")
    with pytest.raises(UsageError, match="allowed: maximize"):
        study.ask(
            {
                one.name: optuna.distributions.CategoricalDistribution(one.options)
                for one in SPACE.choices
            }
        )


@pytest.fixture(name="_quiet", autouse=True)
def _quiet_fixture() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def test_speeds_are_foretold() -> None:
    features = PointFeatures(SPACE)
    generator = np.random.default_rng(0)
    points = list(dict.fromkeys(random_point(SPACE, generator) for _ in range(90)))

    def ms(point: Point) -> float:
        return 0.2 * 1.15 ** sum(point) * 1.1 ** point[0]

    known, asked = points[:48], points[48:]
    found = foretell_speeds(features, {point: ms(point) for point in known})
    assert found.error < 0.02
    assert all(abs(found(point) / ms(point) - 1) < 0.05 for point in asked)


def test_what_trials_are_worth_may_change(tmp_path: Path) -> None:
    study, seen = _open(tmp_path), []
    _go(study, 5, "random")

    class Spy:
        def propose(self, known: Sequence[Seen], *, judge: Judge, generator: object) -> Proposal:
            seen.extend(known)
            return SAMPLERS["random"](SPACE).propose(known, judge=judge, generator=generator)

    study.next(Spy(), seed=5, judge=_judge(study), reward=lambda one: 100.0 + one.number)
    trained = [one.number for one in study.trials() if one.state == "trained"]
    assert [one.score for one in seen if one.trained] == [100.0 + number for number in trained]
