"""Another budget from the networks of an earlier fit: nothing is trained, all is proven."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from featherweight.cli.app import run
from featherweight.journal import Journal
from featherweight.networks.storage import load_network


def fit(*arguments: str, capsys: Any) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["fit", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of one family in int8."""
    path = tmp_path_factory.mktemp("earlier") / "run"
    flags = ["--latency", "0.3ms", "--epochs", "1", "--model", "convnet", "--precision", "int8"]
    assert run(["fit", "demo", *flags, "--output", str(path)]) in (0, 3)
    return path


def test_another_budget_and_precision_are_proven_without_training(earlier, tmp_path, capsys):
    before = sorted(earlier.rglob("*"))
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
    # The winner is the network of the lowest loss, bit for bit one that the earlier run trained.
    shipped = load_network(tmp_path / "b").network
    weights = {
        path: load_network(path).network.state_dict() for path in (earlier / "networks").iterdir()
    }
    same = [
        path.name
        for path, state in weights.items()
        if state.keys() == shipped.state_dict().keys()
        and all(state[name].equal(tensor) for name, tensor in shipped.state_dict().items())
    ]
    assert same
    assert sorted(earlier.rglob("*")) == before, "the earlier run is only read"
    assert {line["network"] for line in Journal(tmp_path / "b" / "train.jsonl").read()}
    assert fit(*flags, capsys=capsys) == (0, summary), "the same call reads its answer again"


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
