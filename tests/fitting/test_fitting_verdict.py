"""What a file must answer to count as an answer, beside its latency."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from featherweight.cli.app import run as cli
from featherweight.cli.fit import verdict_lines
from featherweight.fitting import fit as fitting
from featherweight.fitting.candidate import Measured, Proof, Trained
from featherweight.fitting.stages.refit_head import refit_head
from featherweight.reporting.run import FitSummary
from featherweight.tasks.task import TASKS


def proof(accuracy: float, low: float, commonest: float) -> Proof:
    nothing = cast(Any, None)
    verification = cast(Any, SimpleNamespace(accuracy=accuracy, interval=(low, 1.0)))
    return Proof(
        artifact=nothing,
        network=nothing,
        measurement=nothing,
        verification=verification,
        commonest=commonest,
        val_accuracy=0.0,
        bundle=None,
        met=True,
    )


@pytest.mark.parametrize(
    ("accuracy", "low", "commonest", "least", "shortfall"),
    [
        (0.90, 0.87, 0.11, None, None),
        (0.145, 0.113, 0.12, None, "guessing"),  # not surely above the commonest class
        (0.60, 0.55, 0.60, None, "guessing"),
        (0.60, 0.55, 0.54, None, None),
        (0.90, 0.87, 0.11, 0.8, None),
        (0.79, 0.75, 0.11, 0.8, "below_asked"),
        (0.80, 0.76, 0.11, 0.8, None),
        (0.60, 0.55, 0.60, 0.5, "guessing"),  # a low bar of one's own does not help guessing
        (0.60, 0.55, 0.60, 0.0, "guessing"),
    ],
)
def test_an_accuracy_that_is_of_no_use_is_named(
    accuracy: float, low: float, commonest: float, least: float | None, shortfall: str | None
) -> None:
    assert proof(accuracy, low, commonest).shortfall(least) == shortfall


@pytest.mark.slow
def test_a_file_below_the_asked_accuracy_ends_with_exit_code_3(
    tmp_path: Path,
    few_digits: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settled: list[tuple[str, float]] = []

    def watched(context: Any, trained: Trained, sized: Measured, **more: Any) -> Trained:
        settled.append((str(trained.phase), sized.candidate.size / trained.candidate.size))
        return refit_head(context, trained, sized, **more)

    monkeypatch.setattr(fitting, "refit_head", watched)
    command = [
        "fit",
        str(few_digits),
        "--latency",
        "3ms",
        "--epochs",
        "1",
        "--model",
        "convnet:width=0.25",
        "--precision",
        "fp32",
        "--min-accuracy",
        "100%",
        "--output",
        str(tmp_path / "run"),
    ]
    assert cli([*command, "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert settled == [("train", 1.0)], "what ships is settled"
    assert (summary["verdict"], summary["shortfall"]) == ("too_inaccurate", "below_asked")
    assert summary["min_accuracy"] == 1.0
    assert 0.05 < summary["commonest_class"] < 0.2
    assert summary["accuracy"]["network"] is not None
    assert cli(command) == 3
    said = capsys.readouterr().out
    assert said.startswith("TOO INACCURATE: budget 3 ms")
    assert "accuracy below the 1.0 that was asked for" in said
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Too inaccurate" in report
    assert "That is below the 100.0" in report


def test_guessing_is_said_in_the_final_block() -> None:
    summary = FitSummary.model_validate(
        {
            "verdict": "too_inaccurate",
            "shortfall": "guessing",
            "commonest_class": 0.12,
            "budget": {"latency_ms": 1.0},
            "platform": "p",
            "run_directory": "r",
        }
    )
    first, why = verdict_lines(summary)[:2]
    assert first.startswith("TOO INACCURATE")
    assert "commonest class (0.120)" in why
    assert "--time" in why


def test_a_detector_that_finds_next_to_nothing_is_of_no_use() -> None:
    nothing = TASKS["detection"].chance(np.zeros((3, 0, 6), dtype=np.float32))
    assert proof(0.008, 0.004, nothing).shortfall(None) == "guessing"
    assert proof(0.05, 0.03, nothing).shortfall(None) is None
    summary = FitSummary.model_validate(
        {
            "verdict": "too_inaccurate",
            "shortfall": "guessing",
            "metric": "ap",
            "details": {"ap50": 0.02},
            "commonest_class": nothing,
            "budget": {"latency_ms": 1.0},
            "platform": "p",
            "run_directory": "r",
        }
    )
    _, why = verdict_lines(summary)[:2]
    assert why.startswith("ap below 0.01, or too near to it: next to nothing is found")


@pytest.mark.parametrize("wrong", ["80", "1.5", "-1", "80ms", "nan", "120%", ""])
def test_an_accuracy_that_is_none_is_refused(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "demo", "--latency", "3ms", "--output", str(tmp_path / "run")]
    assert cli([*command, f"--min-accuracy={wrong}"]) == 2
    assert "allowed: 0 to 1" in capsys.readouterr().err


def test_a_time_that_cannot_be_kept_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "demo", "--latency", "3ms", "--output", str(tmp_path / "run")]
    assert cli([*command, "--time", "0.000001s"]) == 2
    assert "30s or more" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
