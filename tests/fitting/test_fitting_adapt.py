"""`adapt` from a trained run to a proven file; multiply-adds for milliseconds choose."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module as import_from
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import PlayedDevice
from torch import nn

from featherweight import adapt as adapt_module
from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.steps import Step
from featherweight.cli.app import run
from featherweight.errors import DivergedError, UnsupportedError, UsageError
from featherweight.fitting import context, last_trainings
from featherweight.fitting.adapt import _shipped_way
from featherweight.fitting.adapt_pictures import draw_pictures
from featherweight.fitting.families import stored_family
from featherweight.fitting.parent import Parent, read_parent
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.stages import start
from featherweight.fitting.steps_file import StepsFile
from featherweight.journal import Journal
from featherweight.measuring import latency
from featherweight.networks.importing import import_module
from featherweight.networks.storage import load_network
from featherweight.networks.weight_sources import find_pretrained
from featherweight.tasks.task import load_data

NETWORK = "convnet:width=0.25,resolution=16"


class FineDevice(PlayedDevice):
    """Nearly all of a time is that of the multiply-adds."""

    fixed_ms = 0.001


@pytest.fixture(scope="module", autouse=True)
def _played() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "answer_of_device", FineDevice())
        yield


@pytest.fixture(scope="module")
def parent(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parent") / "run"
    words = ["train", str(few_digits), "--model", NETWORK, "--epochs", "6"]
    assert run([*words, "--output", str(path)]) == 0
    return path


@pytest.fixture
def ask(parent: Path, few_digits: Path, tmp_path: Path, capsys: Any) -> Any:
    def ask(*words: str, status: int = 0, output: str = "run") -> dict[str, Any]:
        capsys.readouterr()
        place = ["--output", str(tmp_path / output), "--epochs", "2", "--json"]
        assert run(["adapt", str(parent), str(few_digits), *words, *place]) == status
        return dict(json.loads(capsys.readouterr().out))

    return ask


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two proposals a step: what the steps are is the same, the seconds are fewer."""
    few = replace(DEFAULT_POLICY.adapt, proposals=2, steps=6, tuning_pictures=(64,))
    monkeypatch.setattr(context, "DEFAULT_POLICY", replace(DEFAULT_POLICY, adapt=few))


def check(found: dict[str, Any], *, share: float) -> None:
    assert found["verdict"] == "met"
    budget = share * found["start"]["latency_ms"]
    assert found["budget"]["latency_ms"] == pytest.approx(budget)
    low, high = found["final"]["interval_ms"]
    assert low <= found["final"]["latency_ms"] <= high <= budget
    path = Path(found["run_directory"])
    assert load_network(path).network.architecture.num_classes == 10
    assert Path(found["final"]["architecture"]).is_file()
    assert found["final"]["split"] == "test"


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_auto_trains_the_best_two_of_five_ways(ask: Any, tmp_path: Path) -> None:
    found = ask("--latency", "60%")
    check(found, share=0.6)
    stages = [line["stage"] for line in Journal(tmp_path / "run" / "stages.jsonl").read()]
    tried = [stage for stage in stages if stage.startswith("way:")]
    assert tried == ["way:resolution", "way:width", "way:knapsack", "way:depth", "way:netadapt"]
    assert sum(stage.startswith("train:") for stage in stages) == 2
    assert found["way"] in {stage.removeprefix("way:") for stage in tried}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "How it became faster" in page
    assert "Channels of every convolution" in page or found["way"] == "depth"
    again = ask("--latency", "60%")
    assert again == found, "a finished run is read back"


def check_steps(found: dict[str, Any], path: Path) -> None:
    """Steps are written down, and none is slower than the network before it."""
    check(found, share=0.7)
    assert found["way"] == "netadapt"
    steps = StepsFile(path).read()
    assert [step["group"] for step in found["steps"]] == [
        step.change.group for step in steps if step.change is not None
    ]
    for step in steps:
        for proposal in step.proposals:
            if proposal.status == "taken":
                assert proposal.latency is not None
                assert proposal.beside is not None
                assert proposal.latency.interval_ms[1] < proposal.beside.interval_ms[0]
    page = (path / "report.html").read_text()
    assert "Latency and hold-out score after each step" in page


@pytest.mark.usefixtures("_quick")
def test_a_cut_between_steps_changes_nothing(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--latency", "70%", "--method", "netadapt")
    whole = ask(*words, output="whole")
    check_steps(whole, tmp_path / "whole")
    append = StepsFile.append

    class Cut(BaseException):
        pass

    def cut(self: StepsFile, step: Step) -> None:
        append(self, step)
        if step.number == 2:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(StepsFile, "append", cut)
        with pytest.raises(Cut):
            ask(*words, output="cut")
    found = ask(*words, output="cut")
    lines = [Journal(tmp_path / name / "adapt.jsonl").read() for name in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert found["steps"] == whole["steps"]
    assert found["final"]["accuracy"] == whole["final"]["accuracy"]


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_proposals_on_other_processes_are_the_same(ask: Any, tmp_path: Path) -> None:
    words = ("--latency", "80%", "--method", "netadapt")
    here = ask(*words, output="here")
    there = ask(*words, "--workers", "processes=2", output="there")
    assert [s["group"] for s in there["steps"]] == [s["group"] for s in here["steps"]]
    assert there["final"]["latency_ms"] == here["final"]["latency_ms"]


@pytest.mark.slow
def test_one_way_alone(ask: Any) -> None:
    found = ask("--latency", "55%", "--method", "width")
    check(found, share=0.55)
    assert found["way"] == "width"
    assert found["steps"] == []


def test_a_budget_that_is_met_already_needs_nothing(ask: Any, tmp_path: Path) -> None:
    found = ask("--latency", "1s")
    assert (found["verdict"], found["way"], found["steps"]) == ("met", None, [])
    assert not list((tmp_path / "run").glob("train.jsonl"))


def test_a_budget_out_of_reach_names_the_nearest(ask: Any) -> None:
    found = ask("--latency", "2%", "--method", "width", status=3)
    assert found["verdict"] == "infeasible"
    assert 0.02 * found["start"]["latency_ms"] < found["nearest_feasible_ms"]
    assert found["nearest_feasible_ms"] < found["start"]["latency_ms"]
    assert found["final"] is None


@pytest.mark.parametrize(
    ("network", "words", "message"),
    [
        ("mobilenet_v2", [], "not trained.*train it first"),
        ("mobilenet_v9", [], "no network named 'mobilenet_v9'"),
        ("model.onnx", [], "cannot be changed"),
        (None, ["--method", "netadpt"], "no method named 'netadpt'.*netadapt"),
        (None, ["--importance", "tailor"], "no importance named 'tailor'.*taylor"),
        (None, ["--latency", "0%"], "latency"),
        (None, ["--latency", "5 parsecs"], "unit"),
        (None, ["--on", "local/nothing"], "nothing"),
    ],
)
def test_bad_input_is_one_line(
    network: str | None,
    words: list[str],
    message: str,
    parent: Path,
    few_digits: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    given = ["adapt", network or str(parent), str(few_digits), "--latency", "70%", *words]
    assert run([*given, "--output", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    *_, line = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line


def test_other_classes_are_refused(parent: Path, tmp_path: Path, few_digits: Path) -> None:
    other = tmp_path / "nine"
    shutil.copytree(few_digits, other)
    shutil.rmtree(other / "9")
    with pytest.raises(UsageError, match="class"):
        adapt_module(parent, other, latency="70%", output=tmp_path / "run")


def test_too_few_pictures_to_tell_proposals_apart(
    parent: Path, few_digits: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    shutil.copytree(few_digits, few)
    for folder in few.iterdir():
        for picture in sorted(folder.iterdir())[12:]:
            picture.unlink()
    with pytest.raises(UsageError, match=r"too few to tell.*20 pictures"):
        adapt_module(parent, few, latency="70%", epochs=1, output=tmp_path / "run")


def test_a_name_with_weights_starts_with_a_classifier_of_the_data(
    few_digits: Path, parent: Path
) -> None:
    if find_pretrained("efficientnet_lite0") is None:
        pytest.skip("no weights are installed")
    images = load_data(few_digits, seed=0)
    name = "efficientnet_lite0:resolution=32"
    found = read_parent(name, images, resolution=None, pretrained="auto")
    assert found.is_fresh, "the digits are none of ImageNet's classes"
    assert found.stored.classes == images.classes
    assert found.stored.network.architecture.num_classes == 10
    assert found.stored.preprocessing.crop_fraction == 1.0, "thumbnails enter whole"
    assert "auto weights of efficientnet_lite0" in found.origin
    with pytest.raises(UsageError, match="has its own weights"):
        read_parent(parent, images, resolution=None, pretrained="auto")
    with pytest.raises(UsageError, match="no installable weights"):
        read_parent("mobilenet_v2", images, resolution=None, pretrained="auto")


@pytest.mark.slow
def test_a_cut_while_a_drawn_classifier_is_fitted_changes_nothing(
    parent: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the weights were written, before their record, or before the stage's line."""

    def read(*arguments: Any, **named: Any) -> Parent:
        found = read_parent(*arguments, **named)
        nn.init.normal_(
            found.stored.classifier.get_parameter("classifier.weight"),
            std=0.01,
            generator=torch.Generator().manual_seed(0),
        )
        return found._replace(is_fresh=True)

    def adapt(output: str) -> bytes:
        place = tmp_path / output
        found = adapt_module(parent, few_digits, latency="900ms", epochs=1, output=place)
        assert found.met
        (folder,) = (tmp_path / output / "networks").glob("*-parent")
        return (folder / "weights.safetensors").read_bytes()

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_from("featherweight.fitting.adapt"), "read_parent", read)
    whole = adapt("whole")
    for output, torn in (("cut", False), ("torn", True)):
        with monkeypatch.context() as patch:
            patch.setattr(start, "keep_losses", cut)
            with pytest.raises(KeyboardInterrupt):
                adapt(output)
        (folder,) = (tmp_path / output / "networks").glob("*-parent")
        assert (folder / "weights.safetensors").read_bytes() == whole
        if torn:
            shutil.copy(parent / "weights.safetensors", folder)
        assert adapt(output) == whole


class Own(nn.Module):
    """A user's module: no block says it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(64, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.last(self.middle(self.stem(x))).mean((2, 3)))


class Flat(nn.Module):
    """Its classifier reads every pixel: pictures of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(32 * 16 * 16, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).flatten(1))


def test_a_module_of_one_size_is_trained_at_that(few_digits: Path, tmp_path: Path) -> None:
    """At 64 pixels others have several sizes."""
    found = adapt_module(
        Flat().eval(),
        few_digits,
        latency="60%",
        method="knapsack",
        epochs=1,
        resolution=64,
        output=tmp_path / "run",
    )
    assert found.way == "knapsack"
    assert found.fit.network.architecture.resolution == 64
    family, size = stored_family(tmp_path / "run", source="auto", weights_of="")
    assert (family.sizes, size) == ((64.0,), 64.0)
    assert not family.seen_scales


def test_a_hold_out_grows_with_the_classes() -> None:
    """512 pictures are fewer than two of each of 300 classes."""
    trainer = SimpleNamespace(
        count=lambda _: 9000,
        classes=[str(name) for name in range(300)],
        store=SimpleNamespace(held_out=lambda *_, rows: drawn.append(len(rows))),
    )
    candidate = SimpleNamespace(resolution=8, family=SimpleNamespace(preprocessing=None))
    where = SimpleNamespace(trainer=trainer, policy=DEFAULT_POLICY, seed=0)
    drawn: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PictureSet, "of", lambda *_, **__: None)
        draw_pictures(where, SimpleNamespace(candidate=candidate))  # type: ignore[arg-type]
    assert drawn == [600, max(DEFAULT_POLICY.adapt.tuning_pictures)]


def test_what_ships_says_how_it_was_made() -> None:
    def measured(name: str) -> Any:
        family = SimpleNamespace(name=name)
        return SimpleNamespace(
            candidate=SimpleNamespace(family=family, label=f"{name}:resolution=160")
        )

    found: Any = [
        (SimpleNamespace(way="resolution"), measured("net")),
        (SimpleNamespace(way="knapsack"), measured("net-shrunk-1")),
    ]
    told = [
        _shipped_way(name, measured("net"), found)
        for name in (
            "net-shrunk-1:resolution=160",
            "net-shrunk-1:resolution=152",
            "net:resolution=152",
            "net:resolution=160",
        )
    ]
    assert told == ["knapsack", "knapsack", "resolution", None]


def test_a_finalist_that_diverges_leaves_the_time_to_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(_: Any, candidate: Any, *__: Any, **___: Any) -> Any:
        if "torn" in candidate.title:
            raise DivergedError("the loss became nan")
        return SimpleNamespace(phase=None, losses=None, val=None)

    noted: dict[str, Any] = {}

    def note(name: str, *, work: Any, **_: Any) -> None:
        noted[name] = work()

    monkeypatch.setattr(last_trainings, "train_candidate", train)
    where: Any = SimpleNamespace(
        plan=SimpleNamespace(total_s=None),
        run=SimpleNamespace(stage_done=lambda name, **_: noted.get(name), stage=note),
        settings=SimpleNamespace(epochs=1),
        ledger=SimpleNamespace(note_trained=lambda *_, **__: None),
    )
    torn, good = (
        SimpleNamespace(candidate=SimpleNamespace(title=title, key=title))
        for title in ("torn", "good")
    )
    for wanted in ([torn, good], [good, torn]):
        noted.clear()
        (ended,) = last_trainings.train_in_turn(where, wanted, reason=lambda _: "")  # type: ignore[arg-type]
        assert ended.measured is good
        assert list(noted) == ["train-diverged:torn"], "a run that goes on does not try it again"
    noted.clear()
    with pytest.raises(DivergedError):
        last_trainings.train_in_turn(where, [torn, torn], reason=lambda _: "")  # type: ignore[list-item]


def test_a_module_of_ones_own(few_digits: Path, tmp_path: Path) -> None:
    module = Own().eval()
    found = adapt_module(
        module,
        few_digits,
        latency="50%",
        method="knapsack",
        epochs=1,
        resolution=16,
        output=tmp_path / "run",
    )
    assert found.way == "knapsack"
    assert found.fit.summary.verdict in {"met", "too_inaccurate"}, "it knows nothing yet"
    assert found.fit.measured is not None
    assert found.fit.measured.median_ms < 0.5 * found.start.latency_ms
    assert found.fit.network.architecture.primitives
    wrong = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    with pytest.raises(UsageError, match="3 outputs; allowed: 10"):
        adapt_module(wrong.eval(), few_digits, latency="50%", resolution=16)
    with pytest.raises(UsageError, match="resolution=N"):
        adapt_module(module, few_digits, latency="50%")
    fixed = import_module(module, input_shape=(3, 16, 16))
    fixed.architecture = fixed.architecture.changed(fixed_size=True)
    with pytest.raises(UnsupportedError, match="one size"):
        adapt_module(
            fixed, few_digits, latency="50%", method="resolution", output=tmp_path / "fixed"
        )
