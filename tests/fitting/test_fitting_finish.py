"""When a fit goes on in int8, and what ships then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from featherweight.cli.app import run as cli
from featherweight.errors import DivergedError
from featherweight.fitting import finish
from featherweight.fitting.earlier import _is_further, read_earlier
from featherweight.fitting.finish import finish_stage
from featherweight.fitting.halving import Ranked
from featherweight.fitting.last_training import training_times
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import TimePlan
from featherweight.journal import Journal
from featherweight.networks.storage import StoredNetwork
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory, StageRecord, open_run


class Known:
    """A trainer whose network and file are right about as many of 1,000 pictures as told."""

    def __init__(self, right: int, file_right: int) -> None:
        self.right, self.file_right = right, file_right

    def load(self, entry: Entry, phase: str) -> StoredNetwork:
        return StoredNetwork(network=cast(Any, None), preprocessing=cast(Any, None), classes=())

    def right_answers(self, *_: Any, phase: str) -> tuple[np.ndarray, np.ndarray]:
        places = np.arange(1000)
        return places < self.right, places < self.file_right


def candidate(precision: str) -> Candidate:
    return Candidate(
        name="convnet:width=1", architecture_digest="0" * 64, family="convnet", resolution=32,
        precision=precision, runtime="onnxruntime", status="kept", stage="shop",
    )  # fmt: skip


def ranked(precision: str = "int8", *, loss: float = 0.5, phase: str = "train") -> Ranked:
    entry = Entry(candidate(precision), cast(Any, None), 1.0)
    return Ranked(entry, phase, np.full(4, loss), 0.9, images_seen=1000, seconds=100.0)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    with open_run(tmp_path / "run", parent=tmp_path, identity={"name": "x"}, command="x") as opened:
        yield opened


@pytest.mark.parametrize(
    ("file_right", "loss", "phase"),
    [
        (898, 0.4, "train"),  # 0.2 points: nothing to do
        (890, 0.4, "finish"),
        (890, 0.6, "train"),  # the training did not help
        (890, None, "train"),  # it diverged
        (905, 0.4, "train"),  # the file happens to be better
    ],
)
def test_it_goes_on_where_int8_costs(
    run: RunDirectory, file_right: int, loss: float | None, phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[dict[str, Any]] = []

    def train_stage(entry: Entry, phase: str, **more: Any) -> Ranked:
        asked.append({"phase": phase, **more})
        if loss is None:
            raise DivergedError("loss is nan")
        return replace(ranked(loss=loss, phase=phase), images_seen=80, seconds=30.0)

    monkeypatch.setattr(finish, "train_stage", train_stage)
    trained = ranked()
    trainer = cast(Trainer, Known(900, file_right))
    shipped = finish_stage(run, trained, trainer=trainer, time_s=60.0, epochs=None)
    assert shipped.phase == phase
    assert bool(asked) == (file_right == 890)
    if asked:
        assert asked[0]["before"] is trained
        assert asked[0]["length"] == (60.0, None, 0.0)
    if phase == "finish":
        assert (shipped.images_seen, shipped.seconds) == (1080, 130.0), "of both trainings"


def test_nothing_is_asked_of_float_files_and_short_fits(run: RunDirectory) -> None:
    nobody = cast(Trainer, None)
    for trained, time_s in ((ranked("fp32"), 60.0), (ranked(), 0.0)):
        assert finish_stage(run, trained, trainer=nobody, time_s=time_s, epochs=None) is trained


def test_the_cost_is_found_once(run: RunDirectory) -> None:
    first = cast(Trainer, Known(900, 899))
    finish_stage(run, ranked(), trainer=first, time_s=60.0, epochs=None)
    finish_stage(run, ranked(), trainer=cast(Trainer, None), time_s=60.0, epochs=None)


@pytest.mark.parametrize(
    ("precision", "time_s", "reserved"), [("int8", 1800, True), ("int8", 120, False),
                                          ("fp32", 1800, False)],
)  # fmt: skip
def test_time_is_reserved_for_int8(
    run: RunDirectory, precision: str, time_s: float, reserved: bool
) -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s)
    plan = TimePlan.of(settings, spent_s=5.0, small=True)
    winner = Entry(candidate(precision), cast(Any, Plain()), 1.0)
    more: dict[str, Any] = {
        "trainer": cast(Trainer, None), "plan": plan, "ending": SimpleNamespace(seconds=60.0),
    }  # fmt: skip
    times = training_times(run, winner, [], **more)
    assert (times.finish_s != 0.0) == reserved
    assert training_times(run, winner, [], **more) == times, "fixed once"


class Plain:
    """A family without weights from elsewhere: nobody teaches it."""

    source = None
    knob = "width"


@pytest.mark.parametrize(("loss", "counts"), [(0.4, True), (0.5, False), (0.6, False)])
def test_an_earlier_run_offers_it_only_if_it_helped(loss: float, counts: bool) -> None:
    def stage(phase: str, val_loss: float) -> StageRecord:
        return StageRecord(
            stage=f"{phase}:{'0' * 16}-int8", inputs_digest="", outputs={"val_loss": val_loss},
            files={}, seconds=1.0, finished="",
        )  # fmt: skip

    assert _is_further(stage("finish", loss), stage("train", 0.5)) == counts
    assert _is_further(stage("train", 0.9), stage("race-2", 0.5)), "later trainings are longer"


def test_a_whole_fit_ends_in_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the bundled digits int8 costs nothing: here the end is wanted whatever it costs."""
    monkeypatch.setattr(finish, "_MOST_COST", -1.0)
    path = tmp_path / "run"
    network = "convnet:width=0.25,resolution=16"
    flags = ["--latency", "2ms", "--epochs", "8", "--model", network, "--precision", "int8"]
    assert cli(["fit", "demo", *flags, "--output", str(path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    lines = {line["stage"].split(":")[0]: line for line in Journal(path / "stages.jsonl").read()}
    names = list(lines)
    assert names.index("train") < names.index("int8-cost") < names.index("finish")
    better = lines["finish"]["outputs"]["val_loss"] < lines["train"]["outputs"]["val_loss"]
    phases = [line["phase"] for line in Journal(path / "train.jsonl").read()]
    assert phases.count("finish") == 1
    seen = [lines[name]["outputs"]["images_seen"] for name in ("train", "finish")]
    assert summary["images_seen"] == (sum(seen) if better else seen[0])
    (kept,) = read_earlier(path).trainings
    assert kept.stage.split(":")[0] == ("finish" if better else "train")
