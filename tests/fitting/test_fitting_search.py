"""`search` from a space to a proven file; multiply-adds for milliseconds choose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import PlayedDevice

from featherweight.budget import Latency
from featherweight.cli.app import run
from featherweight.errors import DivergedError, UsageError, WorkerLostError
from featherweight.fitting import evaluator
from featherweight.fitting.candidate import Measured
from featherweight.fitting.stages import explore, first_networks, refine
from featherweight.fitting.stages import trials as stage
from featherweight.journal import Journal
from featherweight.measuring import latency
from featherweight.measuring.bench import Bench
from featherweight.searching.hopeless import Curve
from featherweight.searching.study import Study
from featherweight.training.results import Floor

SPACE = """
name: mine
stem_channels: [8]
stem_stride: 1
stages:
  - {op: [conv, mbconv3], out_channels: [8, 16], repeats: [1, 2], stride: 2}
  - {op: [conv, separable], out_channels: [16, 24, 32], repeats: [1, 2], stride: 2}
head_channels: [0]
"""


class FineDevice(PlayedDevice):
    """Nearly all of a time is that of the multiply-adds."""

    fixed_ms = 0.001


@pytest.fixture(scope="module", autouse=True)
def _played() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "answer_of_device", FineDevice())
        patch.setattr(first_networks, "_FIRST_TIMED", 12)
        yield


@pytest.fixture
def ask(few_digits: Path, tmp_path: Path, capsys: Any) -> Any:
    (tmp_path / "mine.yaml").write_text(SPACE)

    def ask(*words: str, status: int = 0, output: str = "run") -> dict[str, Any]:
        capsys.readouterr()
        length = () if "--epochs" in words else ("--epochs", "1")
        place = ["--output", str(tmp_path / output), *length, "--json"]
        space = () if "--space" in words else ("--space", str(tmp_path / "mine.yaml"))
        assert run(["search", str(few_digits), *space, *words, *place]) == status
        printed = capsys.readouterr()
        said.append(printed.err)
        return dict(json.loads(printed.out))

    said: list[str] = []
    ask.said = said  # type: ignore[attr-defined]
    return ask


def test_from_a_space_to_a_proven_file(ask: Any, tmp_path: Path) -> None:
    words = ("--latency", "0.0106ms", "--trials", "5", "--sampler", "evolution")
    found = ask(*words)
    assert found["verdict"] == "met"
    assert (found["complete"], found["failed"]) == (5, 0)
    assert found["trials"] == found["complete"] + found["slow"]
    best = found["best"]
    assert best["latency_ms"] <= 0.0106
    assert best["options"]["1.op"] in ("conv", "mbconv3")
    assert Path(best["architecture"]).is_file()
    front = found["pareto"]
    assert [one["latency_ms"] for one in front] == sorted(one["latency_ms"] for one in front)
    assert [one["accuracy"] for one in front] == sorted(one["accuracy"] for one in front)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/run/study.db")
    assert len(study.trials) == found["trials"]
    assert "trial" in Path(found["report"]).read_text()
    assert ask(*words) == found, "a finished run is read back"


@pytest.mark.slow
def test_trainings_without_hope_are_stopped(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first five are whole; no training is as good as what is then asked for."""

    def below(curves: Sequence[Curve], *, pictures: int) -> Floor:
        assert pictures > 0
        return ((0.5, 1.1),) if len(curves) >= 5 else ()

    monkeypatch.setattr(evaluator, "hopeless_below", below)
    words = ("--latency", "0.0106ms", "--trials", "7", "--sampler", "evolution", "--epochs", "10")
    found = ask(*words)
    rows = [row for row in Journal(tmp_path / "run/trials.jsonl").read() if row["accuracy"]]
    assert (found["complete"], len(rows)) == (7, 7)
    assert [row["stopped"] for row in rows if row["trial"] < 5] == [None] * 5
    assert [row["stopped"] for row in rows if row["trial"] >= 5] == [0.5, 0.5]
    assert found["best"]["trial"] < 5, "what was stopped is not trained in full"
    assert "stopped" in Path(found["report"]).read_text()


class _Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("ends", [1, 4])
def test_killed_between_trials_it_goes_on(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: int
) -> None:
    words = ("--latency", "0.0106ms", "--trials", "4", "--sampler", "predictor")
    plain, left = Study.finish, [ends]

    def cut(*given: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _Killed
        plain(*given, **named)

    whole = ask(*words, output="whole")
    with monkeypatch.context() as patch:
        patch.setattr(Study, "finish", cut)
        with pytest.raises(_Killed):
            ask(*words)
    again = ask(*words)
    for key in ("trials", "complete", "slow"):
        assert again[key] == whole[key]
    # Not their accuracies: a short timing chooses how a training computes.
    found, expected = (
        [(row["trial"], row["state"], row["network"]) for row in Journal(path).read()]
        for path in (tmp_path / name / "trials.jsonl" for name in ("run", "whole"))
    )
    assert found == expected
    assert len(found) == whole["trials"]


@pytest.mark.slow
def test_a_soft_limit_trains_what_is_too_slow(ask: Any) -> None:
    words = ("--latency", "0.004ms", "--trials", "3", "--sampler", "random")
    found = ask(*words, "--objective", "soft", status=3)
    assert (found["complete"], found["slow"], found["verdict"]) == (3, 0, "not_met")


def test_nothing_is_fast_enough(ask: Any, tmp_path: Path) -> None:
    found = ask("--latency", "0.0011ms", "--trials", "3", status=3)
    assert (found["verdict"], found["trials"], found["best"]) == ("infeasible", 0, None)
    assert 0.0011 < found["nearest_feasible_ms"] < 0.02
    assert not (tmp_path / "run" / "networks").exists(), "nothing was trained"


@pytest.mark.parametrize(
    ("name", "tau_of_macs"),
    [
        pytest.param("super-network", -2.0, marks=pytest.mark.slow),
        pytest.param("super-network", 2.0, marks=pytest.mark.slow),
        pytest.param("inherited", -2.0, marks=pytest.mark.slow),
    ],
)
def test_a_cheap_evaluator_is_held_against_trainings_alone(
    ask: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    tau_of_macs: float,
) -> None:
    """It is used where it beats multiply-adds, and given up, loudly, where it does not."""
    kind = evaluator.EVALUATORS[name]
    few = kind._replace(shares=kind.shares._replace(alone_trials=6))
    monkeypatch.setattr(evaluator, "CHECKED", 3)
    monkeypatch.setitem(evaluator.EVALUATORS._items, name, few)
    plain = evaluator.agreement
    monkeypatch.setattr(
        evaluator,
        "agreement",
        lambda *given: plain(*given).model_copy(
            update={"tau": 0.5, "tau_of_macs": tau_of_macs, "line": (1.0, 0.0)}
        ),
    )
    words = ("--latency", "0.02ms", "--trials", "13", "--sampler", "random", "--evaluator", name)
    found = ask(*words)
    assert found["complete"] == 13
    agreement = found["agreement"]
    assert agreement["networks"] == 5
    is_used = tau_of_macs < 0
    assert agreement["used"] is is_used
    said = "the others are judged by it" if is_used else "no better than multiply-adds"
    assert said in ask.said[-1]
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/run/study.db")
    notes = [one.user_attrs for one in study.trials]
    checked = [number for number, one in enumerate(notes) if "accuracy alone" in one]
    first = 5 if name == "inherited" else 0
    assert checked == [*range(first, first + 5)]
    cheap = [number for number, one in enumerate(notes) if "score" in one]
    judged = range(first + 5, 13) if agreement["used"] else ()
    assert cheap == [*checked, *judged]


@pytest.mark.slow
def test_what_was_found_is_made_faster_step_by_step(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MobileNetV3's recipe: a search for 15 % more milliseconds, then NetAdapt."""
    plain = explore.Searcher.rows

    def only_slow(searcher: Any) -> Any:  # nothing that was found keeps the budget by itself
        judged = searcher.judged
        slow = {n: one for n, one in judged.items() if one.measured.latency.median_ms > target_ms}
        searcher.judged = slow or judged
        return plain(searcher)

    budget_ms = 0.0078
    target_ms = 0.85 * budget_ms
    monkeypatch.setattr(explore.Searcher, "rows", only_slow)
    words = ("--latency", f"{budget_ms}ms", "--trials", "12", "--sampler", "random", "--adapt")
    found = ask(*words)
    assert (found["verdict"], found["refined"]) == ("met", True)
    assert found["best"]["latency_ms"] <= budget_ms
    trial = found["best"]["trial"]
    rows = {row["trial"]: row for row in Journal(tmp_path / "run" / "trials.jsonl").read()}
    assert target_ms < rows[trial]["latency_ms"] <= 1.15 * target_ms
    steps = Journal(tmp_path / "run" / "adapt.jsonl").read()
    taken = [one["latency"]["median_ms"] for one in steps if one["change"] is not None]
    assert taken
    assert taken == sorted(taken, reverse=True)
    assert "How it became faster" in Path(found["report"]).read_text()
    assert ask(*words) == found

    def fails(*_: Any, **__: Any) -> Any:
        raise UsageError("3 pictures of 10 classes are too few")

    monkeypatch.setattr(refine, "make_smaller", fails)
    without = ask(*words, output="without")
    assert (without["verdict"], without["refined"]) == ("met", False)
    assert "refine: 3 pictures of 10 classes are too few" in ask.said[-1]


def test_a_network_that_the_runtime_cannot_hold_has_failed(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, refused = Bench.measure_each, []

    def measure(bench: Any, wanted: Any) -> Any:
        plain(bench, wanted)
        new = [] if refused or bench._purpose != "trials" else wanted[:1]
        refused.extend(new)
        return dict.fromkeys(new, "no such operator")

    monkeypatch.setattr(Bench, "measure_each", measure)
    found = ask("--latency", "0.02ms", "--trials", "2", "--sampler", "random")
    assert (found["complete"], found["failed"]) == (2, 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DivergedError("the loss is not finite"), "the loss is not finite"),
        pytest.param(
            WorkerLostError("a worker process was lost 3 times"),
            "was lost 3 times",
            marks=pytest.mark.slow,
        ),
        pytest.param(MemoryError(), "needs more memory than there is", marks=pytest.mark.slow),
    ],
)
def test_every_training_fails(
    ask: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def diverges(*_: Any, **__: Any) -> Any:
        def finish() -> Any:
            raise error

        return finish

    monkeypatch.setattr(evaluator, "begin_training", diverges)
    found = ask("--latency", "0.02ms", "--trials", "1", "--sampler", "random", status=1)
    assert said in found["error"]


def test_all_that_is_proposed_is_too_slow(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Foretold to be fast, timed as slow: nothing is trained, and that is no error."""
    monkeypatch.setattr(
        stage.Searcher,
        "_time",
        lambda self, trials, bench: [
            (
                one,
                Measured(self._candidate(one), Latency(median_ms=0.03, interval_ms=(0.03, 0.031))),
                False,
            )
            for one in trials
        ],
    )
    found = ask("--latency", "0.02ms", "--trials", "1", "--sampler", "random", status=3)
    assert (found["verdict"], found["complete"], found["best"]) == ("infeasible", 0, None)
    assert found["slow"] == found["trials"] > 1
    assert found["nearest_feasible_ms"] > 0.02


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--space", "smal"), "no space named 'smal'; allowed: .*; did you mean 'small'"),
        (("--sampler", "evolutoin"), "no sampler named 'evolutoin'; .*did you mean 'evolution'"),
        (("--trials", "0"), "0 trials; allowed: 1 or more"),
        (
            ("--evaluator", "super-network", "--trials", "10"),
            "10 trials with the evaluator super-network: the first 15 are trained alone",
        ),
        (("--evaluator", "inherit"), "no evaluator named 'inherit'; .*did you mean 'inherited'"),
        (("--weight", "-0.1"), "a weight of milliseconds with the hard objective; allowed: soft"),
        (
            ("--objective", "soft", "--weight", "0.2"),
            "the weight '0.2'; allowed: auto, or a number from -10 to 0",
        ),
        (("--objective", "firm"), "unknown objective 'firm'; allowed: hard, soft"),
        (("--space", "none.yaml"), "cannot read the space none.yaml"),
        (("--storage", "here"), "'here' is no address of a database"),
    ],
)
def test_bad_input_is_one_line(
    few_digits: Path, tmp_path: Path, capsys: Any, words: tuple[str, ...], message: str
) -> None:
    given = {"--space": "small", "--latency": "1ms", "--epochs": "1"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    flat = [word for pair in given.items() for word in pair]
    output = ["--output", str(tmp_path / "run")]
    assert run(["search", str(few_digits), *flat, *output]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error), error
