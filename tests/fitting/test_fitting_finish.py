"""When a fit goes on in int8, and what ships then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import MemoryRun, fake_context, small_family
from fakes import trained as trained_as

from featherweight.cli.app import run as cli
from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Candidate, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.policy import DEFAULT_POLICY, Int8Policy
from featherweight.fitting.previous_run import read_previous_run
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages import int8_finetune
from featherweight.fitting.stages.int8_finetune import finetune_int8
from featherweight.fitting.stages.train import plan_training
from featherweight.fitting.time_plan import TimePlan
from featherweight.journal import Journal
from featherweight.run_directory import open_run

NETWORK = "convnet:width=0.25,resolution=16"


def trained(precision: str = "int8", *, loss: float = 0.5) -> Trained:
    return trained_as(Candidate(small_family(), 16.0, precision), loss, images_seen=1000)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[FitContext]:
    with open_run(tmp_path / "run", parent=tmp_path, identity={"name": "x"}, command="x") as run:
        yield fake_context(run=run)


def knows(
    context: FitContext, right: int, file_right: int, monkeypatch: pytest.MonkeyPatch
) -> FitContext:
    """Return a context whose network and file are right about so many of 1,000 pictures."""
    places = np.arange(1000)
    answers = (places < right, places < file_right)
    monkeypatch.setattr(int8_finetune, "paired_scores", lambda *_, **__: answers)
    loads = SimpleNamespace(load=lambda *_: SimpleNamespace(network=None))
    return replace(context, trainer=loads)


@pytest.mark.parametrize(
    ("file_right", "loss", "phase"),
    [
        (898, 0.4, "train"),  # 0.2 points: nothing to do
        (890, 0.4, "int8-finetune"),
        (890, 0.6, "train"),  # the training did not help
        (890, None, "train"),  # it diverged
        (905, 0.4, "train"),  # the file happens to be better
    ],
)
def test_it_goes_on_where_int8_costs(
    context: FitContext,
    file_right: int,
    loss: float | None,
    phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def train_candidate(_: object, one: Candidate, phase: Phase, **more: Any) -> Training:
        asked.append({"phase": phase, **more})
        if loss is None:
            raise DivergedError("loss is nan")
        return replace(trained_as(one, loss, phase=phase, images_seen=80).training, seconds=30.0)

    monkeypatch.setattr(int8_finetune, "train_candidate", train_candidate)
    before = trained()
    before = replace(before, training=replace(before.training, seconds=100.0))
    knowing = knows(context, 900, file_right, monkeypatch)
    shipped = finetune_int8(knowing, before, time_s=60.0)
    assert str(shipped.phase) == phase
    assert bool(asked) == (file_right == 890)
    if asked:
        assert asked[0]["before"] is before
        assert asked[0]["length"] == (60.0, None, 0.0)
    if phase == "int8-finetune":
        both = shipped.training
        assert (both.images_seen, both.seconds) == (1080, 130.0), "of both trainings"


def test_nothing_is_asked_of_float_files_and_short_fits(context: FitContext) -> None:
    for one, time_s in ((trained("fp32"), 60.0), (trained(), 0.0)):
        assert finetune_int8(context, one, time_s=time_s) is one


def test_the_cost_is_found_once(context: FitContext, monkeypatch: pytest.MonkeyPatch) -> None:
    finetune_int8(knows(context, 900, 899, monkeypatch), trained(), time_s=60.0)
    finetune_int8(context, trained(), time_s=60.0)


@pytest.mark.parametrize(
    ("precision", "time_s", "reserved"),
    [("int8", 1800, True), ("int8", 120, False), ("fp32", 1800, False)],
)
def test_time_is_reserved_for_int8(precision: str, time_s: float, reserved: bool) -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s)
    context = fake_context(
        run=MemoryRun(),
        settings=settings,
        plan=TimePlan.of(settings, spent_s=5.0, small=True),
        ending=SimpleNamespace(seconds=60.0),
    )
    winner = Candidate(small_family(axis="width", source=None), 16.0, precision)
    times = plan_training(context, winner, [])
    assert (times.int8_s != 0.0) == reserved
    assert plan_training(context, winner, []) == times, "fixed once"


@pytest.mark.slow
def test_a_whole_fit_ends_in_int8(
    tmp_path: Path,
    few_digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On digits int8 costs nothing: here the end is wanted whatever it costs."""
    policy = replace(DEFAULT_POLICY, int8=Int8Policy(most_cost=-1.0))
    monkeypatch.setattr("featherweight.fitting.context.DEFAULT_POLICY", policy)
    path = tmp_path / "run"
    flags = ["--latency", "2ms", "--epochs", "8", "--model", NETWORK, "--precision", "int8"]
    assert cli(["fit", str(few_digits), *flags, "--output", str(path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    lines = {line["stage"].split(":")[0]: line for line in Journal(path / "stages.jsonl").read()}
    names = list(lines)
    assert names.index("train") < names.index("int8-cost") < names.index("int8-finetune")
    before, after = (lines[name]["outputs"] for name in ("train", "int8-finetune"))
    better = after["val_loss"] < before["val_loss"]
    phases = [line["phase"] for line in Journal(path / "train.jsonl").read()]
    assert phases.count("int8-finetune") == 1
    both = before["images_seen"] + after["images_seen"]
    assert summary["images_seen"] == (both if better else before["images_seen"])
    (kept,) = read_previous_run(path).trainings
    assert str(kept.record.phase) == ("int8-finetune" if better else "train")
