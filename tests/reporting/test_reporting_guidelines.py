"""Advice and ShuffleNetV2's tables as pages; what `guidelines` and `ghost` add to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import yaml
from reporting_fixture import HOSTILE, example_summary, write_fit_run, write_lines

from featherweight.advising.advice import ADVICE_FILE, Advice, Finding, Untouched
from featherweight.advising.experiment import Experiment, GuidelineResult, Trial
from featherweight.cli.app import run
from featherweight.records import to_plain, write_json
from featherweight.reporting.advice_charts import experiment_chart, savings_chart
from featherweight.reporting.guidelines import render_experiment, render_guidelines
from featherweight.reporting.language import ENGLISH
from featherweight.reporting.report import write_report


def finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "guideline": "G2",
        "layer": "conv7",
        "layers": ("conv3", "conv7"),
        "finding": "2 convolutions in 8 groups, of 384 channels",
        "advice": "dense ones of 136 channels",
        "cost_ms": 2.0,
        "saved_ms": 1.5,
        "interval_ms": (1.4, 1.6),
        "ratio": 0.7,
        "ratio_interval": (0.68, 0.72),
        "macs_ratio": 1.01,
        "digest": "0" * 64,
    }
    return Finding(**(fields | changes))


def advice(**changes: Any) -> Advice:
    tried = Untouched(guideline="G4", layers=("act1",), finding="2 shortcuts", ratio=1.02)
    fields: dict[str, Any] = {
        "network": HOSTILE,
        "platform": "local/onnxruntime:threads=1",
        "median_ms": 5.0,
        "noise": 0.012,
        "costs_by": "nodes",
        "findings": (finding(), finding(guideline="G4", ratio=0.95, ratio_interval=(0.93, 0.97))),
        "untouched": (tried, tried.model_copy(update={"ratio": None})),
        "macs": 1_000_000,
        "seconds": 20.0,
        "measuring_s": 14.0,
        "notes": ("some note",),
    }
    return Advice(**(fields | changes))


def experiment() -> Experiment:
    trials = tuple(
        Trial(
            guideline="G1",
            setting=setting,
            multiple=multiple,
            macs=1000,
            ms=ratio,
            ratio=ratio,
            interval=(ratio - 0.1, ratio + 0.2),
            verdict="",
            published_ratio=1.5,
        )
        for multiple in (1, 2)
        for setting, ratio in (("1:1", 1.0), ("1:12", 2.0))
    )
    result = GuidelineResult(guideline="G1", slower=2, faster=0, of=2, rank_correlation=1.0)
    return Experiment(platform="local/ncnn:threads=1", results=(result,), trials=trials)


def test_every_change_has_a_bar_of_its_own() -> None:
    chart = savings_chart(advice(), ENGLISH)
    assert chart is not None
    go.Figure(chart)
    surely, in_vain = chart["data"]
    assert surely["x"] == pytest.approx([30.0, 5.0])
    assert surely["error_x"]["array"] == pytest.approx([2.0, 2.0])
    assert in_vain["x"] == pytest.approx([-2.0])
    assert "2 convolutions in 8 groups" in surely["y"][0]


def test_findings_of_one_name_are_two_bars() -> None:
    chart = savings_chart(advice(findings=(finding(), finding())), ENGLISH)
    assert chart is not None
    assert len(set(chart["data"][0]["y"])) == 2


def test_nothing_tried_is_no_chart() -> None:
    none = advice(findings=(), untouched=())
    assert savings_chart(none, ENGLISH) is None
    assert "No change at equal multiply-adds" in render_guidelines(none)


def test_the_page_of_advice_says_what_was_found() -> None:
    page = render_guidelines(advice())
    assert HOSTILE not in page
    assert "conv7" in page
    assert "28.0 to 32.0 %" in page
    assert "some note" in page
    assert 'src="http' not in page


def test_the_page_of_the_tables_has_both_columns() -> None:
    chart = experiment_chart(experiment().trials)
    go.Figure(chart)
    assert [trace["y"] for trace in chart["data"]] == [[1.0, 2.0], [1.5, 1.5]] * 2
    assert chart["data"][0]["error_y"]["array"] == pytest.approx([0.2, 0.2])
    page = render_experiment(experiment())
    assert "2 of 2 networks that break it are surely slower" in page
    assert "1:12" in page


def test_advice_is_a_section_of_the_report(tmp_path: Path) -> None:
    run = write_fit_run(tmp_path / "run")
    assert "Why it is not faster" not in page_of(run)
    write_json(run / ADVICE_FILE, to_plain(advice()))
    page = page_of(run)
    assert "Why it is not faster" in page
    assert "dense ones of 136 channels" in page
    assert 'id="figure-savings"' in page


def ghost_run(run: Path, **ghosts: Any) -> Path:
    """Make a run of `ghost` of the example."""
    settings = yaml.safe_load((run / "run.yaml").read_text())
    settings["identity"]["verb"] = "ghost"
    (run / "run.yaml").write_text(yaml.safe_dump(settings))
    trial = {"layers": ["conv2", "conv3"], "macs_ratio": 0.75, "kept": True}
    trials = [
        trial | {"ratio": 0.8, "interval": [0.79, 0.81]},
        trial | {"layers": ["conv9"], "ratio": None, "interval": None, "kept": False},
    ]
    outputs = {
        "form": {"form": "rep", "ratio": 2, "kernel_size": 3},
        "ghosts": {"trials": trials, "macs_ratio": 0.5, "ratio": 0.8, **ghosts},
    }
    stage = {"stage": "ghost", "inputs_digest": "0", "outputs": outputs, "files": {}, "seconds": 1}
    write_lines(run / "stages.jsonl", [stage])
    return run


def test_a_run_of_ghost_shows_its_layers(tmp_path: Path) -> None:
    run = ghost_run(write_fit_run(tmp_path / "run"))
    page = page_of(run)
    assert "Which layers became ghost modules" in page
    assert "2.00 times fewer multiply-adds, measured 1.25 times as fast" in page
    assert "conv2 (2)" in page
    assert "0.800 (0.790 to 0.810)" in page
    assert "cannot be held" in page
    assert "What is not surely faster stays as it is." in page
    text = (run / "run.yaml").read_text()
    (run / "run.yaml").write_text(text.replace("verb: ghost", "verb: ghost\n  everywhere: true"))
    assert "All were wanted, faster or not." in page_of(run)


def test_ghost_without_a_gain_is_no_budget_out_of_reach(tmp_path: Path) -> None:
    run = ghost_run(write_fit_run(tmp_path / "run"), ratio=None)
    nothing = example_summary(verdict="infeasible", nearest_feasible_ms=None)
    write_json(run / "summary.json", nothing)
    page = page_of(run)
    assert "Ghost modules are not surely faster on" in page
    assert "keeps 3 ms" not in page
    assert "The least that would do" not in page


def test_a_run_of_ghost_that_kept_nothing_or_has_just_begun(tmp_path: Path) -> None:
    run = ghost_run(write_fit_run(tmp_path / "run"), ratio=None)
    assert "times as fast" not in page_of(run)
    (run / "stages.jsonl").write_text("")
    assert "no layer has been tried" in page_of(run)


def page_of(run: Path) -> str:
    return write_report(run).read_text()


def test_a_folder_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guidelines", "mobilenet_v2", "--plot", str(tmp_path)]) == 2
    assert "is a folder; allowed: a file, such as guidelines.html" in capsys.readouterr().err
