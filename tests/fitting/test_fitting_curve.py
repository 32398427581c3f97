"""Another budget from the networks of an earlier fit: nothing is trained, all is proven."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import PHOTOS, FakeMachine, measured, on_val

from featherweight.cli.app import run
from featherweight.fitting.candidate import Candidate, Phase, TrainingRecord
from featherweight.fitting.curve import Offer, _choose, _joined, _limited, _warn_if_far
from featherweight.fitting.families import families
from featherweight.fitting.family import Family
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.previous_run import PreviousNetwork, _is_further, read_previous_run
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import SamplePlan
from featherweight.journal import Journal
from featherweight.measuring.bench import Bench
from featherweight.networks.storage import load_network
from featherweight.records import to_plain
from featherweight.run_record import StageRecord, read_stages, sealed

POLICY = DEFAULT_POLICY.prove


def fit(*arguments: str, capsys: Any) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["fit", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def earlier(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of one family in int8."""
    path = tmp_path_factory.mktemp("earlier") / "run"
    flags = ["--latency", "0.3ms", "--epochs", "2", "--model", "convnet", "--precision", "int8"]
    assert run(["fit", str(few_digits), *flags, "--output", str(path)]) in (0, 3)
    return path


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_impossible_budget_names_the_nearest(earlier, tmp_path, capsys):
    code, summary = fit(
        "--from",
        str(earlier),
        "--latency",
        "0.001ms",
        "--output",
        str(tmp_path / "b"),
        capsys=capsys,
    )
    assert code == 3
    assert summary["verdict"] == "infeasible"
    assert summary["nearest_feasible_ms"] > 0.001


FROM_NOTHING = [
    (["--from", "nowhere"], "is not a run directory"),
    ([], "no DATA was named"),
]


@pytest.mark.parametrize(("arguments", "message"), FROM_NOTHING)
def test_without_an_earlier_run_it_is_one_line(arguments, message, tmp_path, capsys):
    assert run(["fit", *arguments, "--latency", "2ms", "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "RUN", "--time", "5m"], "--time was given together with --from"),
        (["demo", "--from", "RUN"], "DATA was given together with --from"),
        (["--from", "EMPTY"], "has no trained network"),
        (["--from", "OTHER"], "is a run of another command"),
        (["--from", "CHANGED"], "has changed since"),
        (["--from", "RUN", "--on", "local/torch"], "none of the precisions"),
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
    networks = [trained(size, folder=tmp_path) for size in (88.0, 120.0)]
    limited = [_limited(network, policy=POLICY).sizes for network in networks]
    assert [(sizes[0], sizes[-1]) for sizes in limited] == [(64.0, 96.0), (64.0, 136.0)]
    (joined,) = _joined(networks, policy=POLICY)
    assert joined.sizes == limited[1]


def test_each_network_takes_its_largest_size_that_fits(tmp_path):
    networks = [trained(size, folder=tmp_path) for size in (88.0, 120.0)]
    bench = Bench[Candidate](
        FakeMachine(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0),
        folder=tmp_path,
        samples=SamplePlan(glance=10, confirm=10, prove=10),
        purpose="shop",
    )
    fits = Candidate(FAMILY, 112.0, "int8")
    offers = _choose(networks, [fits], bench=bench, policy=POLICY)
    found = [(one.network.candidate.size, one.measured.candidate.size) for one in offers]
    assert found == [(88.0, 96.0), (120.0, 112.0)]


@pytest.mark.slow
def test_the_longest_training_of_a_network_counts(earlier, tmp_path):
    """A race's network that was trained again is taken from its last training."""
    shutil.copytree(earlier, tmp_path / "run")
    journal = Journal(tmp_path / "run" / "stages.jsonl")
    (line,) = [one for one in journal.read() if one["stage"].startswith("train:")]
    for rung in (1, 2):
        outputs = {**line["outputs"], "phase": {"kind": "race", "rung": rung}}
        again = {**line, "stage": f"race-{rung}{line['stage'][5:]}", "outputs": outputs}
        journal.append(to_plain(sealed(StageRecord.model_validate(again))))
    assert len(journal.read()) == len(read_stages(journal)), "none is damaged"
    found = [one.record for one in read_previous_run(tmp_path / "run").trainings]
    (kept,) = [record for record in found if record.key == line["outputs"]["key"]]
    # Which of the two: whether int8 cost enough for an end in int8, which rounding decides.
    assert kept.phase.kind in {"train", "int8-finetune"}


@pytest.mark.parametrize(("loss", "counts"), [(0.4, True), (0.5, False), (0.6, False)])
def test_an_end_in_int8_counts_only_if_it_helped(loss: float, counts: bool) -> None:
    before = record(96.0, Phase(kind="train"), val_loss=0.5)
    assert _is_further(record(96.0, Phase(kind="int8-finetune"), val_loss=loss), before) == counts
    raced = record(96.0, Phase(kind="race", rung=2), val_loss=0.5)
    later = record(96.0, Phase(kind="train"), val_loss=0.9)
    assert _is_further(later, raced), "later trainings are longer"


def photo_family() -> Family:
    (family,) = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p"))
    return family


def record(size: float, phase: Phase, *, val_loss: float = 0.5) -> TrainingRecord:
    return TrainingRecord(
        key=f"{size:g}-int8",
        phase=phase,
        size=size,
        precision="int8",
        weights_of="efficientnet_lite0",
        val=on_val(0.8),
        val_loss=val_loss,
        images_seen=1,
        seconds=1.0,
    )


def trained(size: float, *, folder: Path) -> PreviousNetwork:
    candidate = Candidate(FAMILY, size, "int8")
    return PreviousNetwork(candidate, record(size, Phase(kind="train")), folder)


FAMILY = photo_family()


@pytest.mark.parametrize(("size", "far"), [(288.0, False), (176.0, False), (168.0, True)])
def test_far_below_the_size_of_the_training_is_said(
    size: float, far: bool, caplog: pytest.LogCaptureFixture
) -> None:
    offer = Offer(trained(288.0, folder=Path()), measured(Candidate(FAMILY, size, "int8")))
    with caplog.at_level("WARNING"):
        _warn_if_far(offer, policy=POLICY)
    assert ("trained at 288 pixels and ships at 168" in caplog.text) == far
