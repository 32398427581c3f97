"""Another budget from the networks of an earlier fit: nothing is trained, all is proven."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from featherweight.cli.app import run
from featherweight.fitting.curve import _choose, _limited, _stalls, _warn_if_far
from featherweight.fitting.earlier import TrainedNetwork, read_earlier
from featherweight.fitting.families import Family, families
from featherweight.fitting.look import Look
from featherweight.fitting.race import Entry
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import Shopper
from featherweight.journal import Journal
from featherweight.networks.storage import load_network
from featherweight.reporting.run import Candidate


def fit(*arguments: str, capsys: Any) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["fit", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of one family in int8."""
    path = tmp_path_factory.mktemp("earlier") / "run"
    flags = ["--latency", "0.3ms", "--epochs", "1", "--model", "convnet", "--precision", "int8"]
    assert run(["fit", "demo", *flags, "--output", str(path)]) in (0, 3)
    return path


def test_another_budget_and_precision_are_proven_without_training(earlier, tmp_path, capsys):
    before = contents(earlier)
    flags = ["--from", str(earlier), "--latency", "3ms", "--precision", "fp32"]
    flags += ["--output", str(tmp_path / "b")]
    code, summary = fit(*flags, capsys=capsys)
    assert code == 0
    assert summary["precision"] == "fp32"
    assert summary["verdict"] == "met"
    assert summary["measured"]["interval_ms"][1] <= 3.0
    assert summary["accuracy"]["split"] == "test"
    stages = [line["stage"] for line in Journal(tmp_path / "b" / "stages.jsonl").read()]
    assert stages[0] == "shop"
    assert stages[-1] == "prove"
    assert all("-at-" in stage for stage in stages[1:-1])
    assert len(stages) >= 3, "no network was ranked"
    assert not (tmp_path / "b" / "checkpoints").exists()
    # What ships is bit for bit a network that the earlier run trained, but for its classifier.
    shipped = load_network(tmp_path / "b").network
    weights = {
        path: load_network(path).network.state_dict() for path in (earlier / "networks").iterdir()
    }
    same = [
        path.name
        for path, state in weights.items()
        if state.keys() == shipped.state_dict().keys()
        and all(
            state[name].equal(tensor) or name.startswith("classifier.")
            for name, tensor in shipped.state_dict().items()
        )
    ]
    assert same
    assert contents(earlier) == before, "the earlier run is only read"
    assert {line["network"] for line in Journal(tmp_path / "b" / "train.jsonl").read()}
    assert fit(*flags, capsys=capsys) == (0, summary), "the same call reads its answer again"

    # Cut before the proof: the same call proves, and repeats nothing.
    journal = tmp_path / "b" / "stages.jsonl"
    kept = journal.read_text().splitlines(keepends=True)[:-1]
    journal.write_text("".join(kept))
    (tmp_path / "b" / "summary.json").unlink()
    code, again = fit(*flags, capsys=capsys)
    assert (code, again["network"]) == (0, summary["network"])
    assert journal.read_text().startswith("".join(kept))
    assert [line["stage"] for line in Journal(journal).read()] == stages
    assert run(["fit", "--from", str(tmp_path / "b"), "--latency", "3ms"]) == 2
    assert "trained nothing" in capsys.readouterr().err


def test_an_impossible_budget_names_the_nearest(earlier, tmp_path, capsys):
    code, summary = fit(
        "--from", str(earlier), "--latency", "0.001ms", "--output", str(tmp_path / "b"),
        capsys=capsys,
    )  # fmt: skip
    assert code == 3
    assert summary["verdict"] == "infeasible"
    assert summary["nearest_feasible_ms"] > 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "nowhere"], "is not a run directory"),
        (["--from", "RUN", "--time", "5m"], "--time was given together with --from"),
        (["demo", "--from", "RUN"], "DATA was given together with --from"),
        (["--from", "EMPTY"], "has no trained network"),
        (["--from", "OTHER"], "is a run of another command"),
        (["--from", "CHANGED"], "has changed since"),
        (["--from", "RUN", "--on", "local/torch"], "none of the precisions"),
        ([], "no DATA was named"),
    ],
)
def test_bad_input_is_one_line(arguments, message, earlier, tmp_path, capsys):
    for name in ("EMPTY", "OTHER", "CHANGED"):
        (tmp_path / name).mkdir()
        for file in ("run.yaml", "stages.jsonl"):
            shutil.copy(earlier / file, tmp_path / name / file)
    (tmp_path / "EMPTY" / "stages.jsonl").write_text("")
    text = (tmp_path / "OTHER" / "run.yaml").read_text()
    (tmp_path / "OTHER" / "run.yaml").write_text(text.replace("latency_ms:", "epochs_ms:"))
    lines = [
        "  fingerprint: other" if line.strip().startswith("fingerprint:") else line
        for line in text.splitlines()
    ]
    (tmp_path / "CHANGED" / "run.yaml").write_text("\n".join(lines))
    places = {"RUN": earlier, **{n: tmp_path / n for n in ("EMPTY", "OTHER", "CHANGED")}}
    flags = [str(places.get(argument, argument)) for argument in arguments]
    code = run(["fit", *flags, "--latency", "2ms", "--output", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_network_ships_near_its_size_or_below(tmp_path):
    """Photographs: any resolution up to 1.15 times the training's; the union is shopped for."""
    family = photo_family()
    networks = [trained(family, value, folder=tmp_path) for value in (88.0, 120.0)]
    limited = [_limited(network).values for network in networks]
    assert [(values[0], values[-1]) for values in limited] == [(64.0, 96.0), (64.0, 136.0)]
    (stall,) = _stalls(networks)
    assert stall.values == limited[1]


def test_each_network_takes_its_largest_size_that_fits(tmp_path):
    family = photo_family()
    networks = [trained(family, value, folder=tmp_path) for value in (88.0, 120.0)]
    fits = Entry(candidate(family, 112.0), family, 112.0)
    offers = _choose(networks, [fits], shopper=cast(Shopper, Measured()))
    assert [(one.value, entry.value) for one, entry in offers] == [(88.0, 96.0), (120.0, 112.0)]
    assert [entry.candidate.resolution for _, entry in offers] == [96, 112]


def test_the_longest_training_of_a_network_counts(earlier, tmp_path):
    """A race's network that was trained again is taken from its last training."""
    shutil.copytree(earlier, tmp_path / "run")
    journal = Journal(tmp_path / "run" / "stages.jsonl")
    (line,) = [one for one in journal.read() if one["stage"].startswith("train:")]
    for phase in ("race-1", "race-2"):
        journal.append({**line, "stage": line["stage"].replace("train", phase)})
    stages = [one.stage for one in read_earlier(tmp_path / "run").trainings]
    (found,) = [stage for stage in stages if stage.endswith(line["stage"][-20:])]
    # Which of the two: whether int8 cost enough for an end in int8, which rounding decides.
    assert found.partition(":")[0] in {"train", "finish"}


class Measured:
    """A shopper that has measured everything."""

    def visit(self, wanted: Any) -> None:
        self.wanted = wanted

    def at(self, family: Family, precision: str, value: float) -> Candidate:
        return candidate(family, value)


def photo_family() -> Family:
    photos = Look(
        images={"train": 100, "val": 10, "test": 10}, classes=10, typical_size=400, small=False,
        resolution=320, weights=("efficientnet_lite0",), foreign_cpu_share=0.0, uneven=1.0,
    )  # fmt: skip
    (family,) = families(photos, FitSettings(data="d", latency_ms=1, platform="p"))
    return family


def trained(family: Family, value: float, *, folder: Path) -> TrainedNetwork:
    return TrainedNetwork(
        family=family, value=value, key=f"{value:g}-int8", phase="train",
        name=family.label(value), folder=folder, images_seen=1, seconds=1.0,
    )  # fmt: skip


def candidate(family: Family, value: float) -> Candidate:
    return Candidate(
        name=family.label(value), architecture_digest=family.build(value).digest,
        family=family.name, resolution=int(value), precision="int8", runtime="onnxruntime",
        latency_ms=1.0, interval_ms=(0.9, 1.1), status="kept", stage="shop",
    )  # fmt: skip


@pytest.mark.parametrize(("value", "far"), [(288.0, False), (176.0, False), (168.0, True)])
def test_far_below_the_size_of_the_training_is_said(
    value: float, far: bool, caplog: pytest.LogCaptureFixture
) -> None:
    family = Family(
        name="photo", knob="resolution", values=(168.0, 176.0, 288.0), build=cast(Any, None),
        preprocessing=cast(Any, None), source="imagenet",
    )  # fmt: skip
    trained = TrainedNetwork(
        family, 288.0, key="k", phase="train", name="photo:resolution=288", folder=Path(),
        images_seen=1, seconds=1.0,
    )  # fmt: skip
    with caplog.at_level("WARNING"):
        _warn_if_far(trained, Entry(cast(Candidate, None), family, value))
    assert ("trained at 288 pixels and ships at 168" in caplog.text) == far
