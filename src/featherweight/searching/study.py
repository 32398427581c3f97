"""The study: every trial in a database that optuna-dashboard opens, and what is proposed next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from featherweight.errors import FailedError, MissingDependencyError, UsageError
from featherweight.readable import without_password
from featherweight.searching.sampler import (
    GENERATION,
    Judge,
    NoNetworkLeft,
    Sampler,
    Seen,
    propose_next,
)
from featherweight.searching.space import Point, Space, read_point

__all__ = ["PointSampler", "Rescore", "Study", "Trial", "file_address", "open_study"]

State = Literal["running", "trained", "slow", "failed"]

_STATES: dict[State, TrialState] = {
    "running": TrialState.RUNNING,
    "trained": TrialState.COMPLETE,
    "slow": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_DRIVERS = {
    "psycopg": "pip install 'psycopg[binary]'",
    "psycopg2": "pip install psycopg2-binary",
}
"""Of PostgreSQL: which one it is depends on the version of SQLAlchemy."""
_ENGINE = {"pool_pre_ping": True}
"""A connection that a server closed during a long training is opened again."""
_SLOW_POINTS = "slow points drawn before"


@dataclass(frozen=True)
class Trial:
    """One network that was proposed.

    Attributes:
        number: from 0.
        point: which network.
        state: `slow` = its file was timed and never trained.
        reward: of a trained one.
        notes: accuracy, milliseconds and whatever else was written down.
        slow: points that the sampler drew and passed over because they are too slow.
    """

    number: int
    point: Point
    state: State
    reward: float | None
    notes: Mapping[str, Any]
    slow: tuple[Point, ...] = ()

    def seen(self, *, reward: Rescore | None = None) -> list[Seen]:
        """Return what samplers learn from it.

        Args:
            reward: of a trial that was judged; `None` = what it was told.
        """
        found = [Seen(point, 0.0, trained=False, trial=self.number) for point in self.slow]
        if self.state == "trained":
            assert self.reward is not None
            score = self.reward if reward is None else reward(self)
            found.append(Seen(self.point, score, trained=True, trial=self.number))
        if self.state == "slow":
            found.append(Seen(self.point, 0.0, trained=False, trial=self.number))
        return found


Rescore = Callable[[Trial], float]
"""What a judged trial is worth, where that is not what it was told when it ended."""


class PointSampler(optuna.samplers.BaseSampler):
    """A sampler of featherweight as one of Optuna, for any study over the choices of its space.

    Args:
        space: of the points.
        sampler: proposes.
        seed: of the study.
        judge: tells whether a point is new, known or too slow.
        reward: of a trial that was judged; `None` = what it was told.
    """

    def __init__(
        self,
        space: Space,
        sampler: Sampler,
        *,
        seed: int,
        judge: Judge,
        reward: Rescore | None = None,
    ) -> None:
        self.space, self.judge, self._reward = space, judge, reward
        self._sampler, self._seed = sampler, seed
        self.passed_over: dict[int, tuple[Point, ...]] = {}

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return every choice with its options."""
        return {one.name: CategoricalDistribution(one.options) for one in self.space.choices}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the option of every choice that the trial of this number has.

        Raises:
            FailedError: no further point is new and fast enough.
        """
        if study.directions != [optuna.study.StudyDirection.MAXIMIZE]:
            raise UsageError(
                "a study that minimises, or has several objectives", allowed="maximize"
            )
        before = trial.number // GENERATION * GENERATION
        seen: list[Seen] = []
        for one in study.get_trials(deepcopy=False):
            if one.number < before and _is_decided(self.space, one):
                seen += _read(self.space, one).seen(reward=self._reward)
        proposal = propose_next(
            self._sampler, seen, trial=trial.number, seed=self._seed, judge=self.judge
        )
        self.passed_over[trial.number] = proposal.slow
        return {
            choice.name: choice.options[option]
            for choice, option in zip(self.space.choices, proposal.point, strict=True)
        }

    def sample_independent(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        """Raise UsageError: nothing but the choices of the space is drawn."""
        raise UsageError(
            f"{param_name} is no choice of {self.space.name}",
            allowed=", ".join(one.name for one in self.space.choices),
        )


class Study:
    """The trials of one search.

    Args:
        study: of Optuna.
        space: of the points.
        database: that it is in.
    """

    def __init__(
        self, study: optuna.Study, space: Space, database: optuna.storages.RDBStorage
    ) -> None:
        self._study, self._space, self._database = study, space, database
        self._storage, self._id = study._storage, study._study_id

    def close(self) -> None:
        """Close the connections to the database; nothing can be asked after that."""
        self._database.remove_session()
        self._database.engine.dispose()

    def trials(self) -> list[Trial]:
        """Return every trial whose network is decided, by number."""
        with _reachable():
            found = self._study.get_trials(deepcopy=False)
        whole = [one for one in found if _is_decided(self._space, one)]
        return [_read(self._space, one) for one in sorted(whole, key=lambda one: one.number)]

    @property
    def is_exhausted(self) -> bool:
        """Whether no network was left for a trial."""
        with _reachable():
            failed = self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return any(not _is_decided(self._space, one) for one in failed)

    def next(
        self, sampler: Sampler, *, seed: int, judge: Judge, reward: Rescore | None = None
    ) -> Trial:
        """Begin a trial and return it; see `PointSampler`.

        Raises:
            NoNetworkLeft: no further point is new and fast enough.
            FailedError: the database does not answer.
        """
        with _reachable():
            proposer = PointSampler(self._space, sampler, seed=seed, judge=judge, reward=reward)
            self._study.sampler = proposer
            try:
                return self._decided(self._study.ask(), proposer)
            except NoNetworkLeft as error:
                self._abandon(error)
                raise

    def decide_interrupted(
        self, sampler: Sampler, *, seed: int, judge: Judge, reward: Rescore | None = None
    ) -> None:
        """Decide the network of trials that a kill left without one: as it would have been."""
        with _reachable():
            for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if not _is_decided(self._space, one):
                    proposer = PointSampler(
                        self._space, sampler, seed=seed, judge=judge, reward=reward
                    )
                    self._study.sampler = proposer
                    trial = optuna.trial.Trial(self._study, one._trial_id)
                    try:
                        self._decided(trial, proposer)
                    except NoNetworkLeft as error:
                        self._abandon(error)

    def _decided(self, trial: optuna.trial.Trial, proposer: PointSampler) -> Trial:
        trial.relative_params  # noqa: B018 - Optuna 5 asks its sampler here, 4 before
        slow = proposer.passed_over.get(trial.number, ())
        if slow:
            trial.set_user_attr(_SLOW_POINTS, [list(point) for point in slow])
        options = {
            choice.name: str(trial.suggest_categorical(choice.name, choice.options))
            for choice in self._space.choices
        }
        point = read_point(self._space, options)
        return Trial(trial.number, point, "running", None, {}, slow)

    def _abandon(self, error: NoNetworkLeft) -> None:
        """Close the trial for which there was no network."""
        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not one.params:
                self._note(one.number, {"reason": error.message})
                self._study.tell(one.number, state=TrialState.FAIL)

    def finish(
        self,
        trial: Trial,
        state: State,
        *,
        reward: float | None = None,
        notes: Mapping[str, Any],
    ) -> None:
        """Write down what became of a running trial."""
        with _reachable():
            self._note(trial.number, notes)
            self._study.tell(trial.number, reward, state=_STATES[state])

    def _note(self, number: int, notes: Mapping[str, Any]) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._id, number)
        for name, value in notes.items():
            self._storage.set_trial_user_attr(trial_id, name, value)


def file_address(path: Path) -> str:
    """Return the address of a database in a file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_study(
    url: str,
    space: Space,
    *,
    name: str,
    identity: str,
    sampler: optuna.samplers.BaseSampler | None = None,
) -> Study:
    """Open a study, or begin it.

    Args:
        url: of the database, as SQLAlchemy has it: `sqlite:///PATH`, `postgresql://HOST/NAME`.
        space: what is searched.
        name: of the study.
        identity: digest of everything that makes two studies one.
        sampler: of Optuna; `None` = each trial is proposed by that of `Study.next`.

    Raises:
        UsageError: the text is no address, or the study is another one's.
        MissingDependencyError: the driver of the database is not installed.
        FailedError: the database does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _reachable():
            storage = optuna.storages.RDBStorage(url, engine_kwargs=_ENGINE)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                sampler=sampler,
                direction="maximize",
                load_if_exists=True,
            )
            found = study.user_attrs.get("identity")
            if found is None:
                study.set_user_attr("identity", identity)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            f"{without_password(url)!r} is no address of a database",
            allowed="sqlite:///FILE, postgresql://USER@HOST/NAME",
        ) from error
    except RuntimeError as error:
        raise UsageError(
            f"{without_password(url)} is a database of another version of Optuna",
            hint="choose another database",
        ) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"no driver for the database {without_password(url)}",
            hint=_DRIVERS.get(_missing(error), "install the driver that SQLAlchemy names for it"),
        ) from error
    opened = Study(study, space, storage)
    if found not in (None, identity):
        opened.close()
        raise UsageError(
            f"the study {name} in {without_password(url)} is of another space or other data",
            hint="choose another database",
        )
    return opened


def _missing(error: BaseException) -> str:
    """Return the module that could not be imported."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return cause.name
        cause = cause.__cause__ or cause.__context__
    return ""


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except ArgumentError:
        raise
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        first = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise FailedError(
            f"the database of the study does not answer: {first}",
            hint="every finished trial is kept: give the same command again when it does",
        ) from error


def _is_decided(space: Space, one: FrozenTrial) -> bool:
    """Whether a trial has an option of every choice: a kill may come before."""
    return len(one.params) == len(space.choices)


def _read(space: Space, one: FrozenTrial) -> Trial:
    states = {value: name for name, value in _STATES.items()}
    slow = one.user_attrs.get(_SLOW_POINTS, ())
    return Trial(
        number=one.number,
        point=read_point(space, {name: str(value) for name, value in one.params.items()}),
        state=states[one.state],
        reward=one.value if one.state == TrialState.COMPLETE else None,
        notes={name: value for name, value in one.user_attrs.items() if name != _SLOW_POINTS},
        slow=tuple(tuple(map(int, point)) for point in slow),
    )
