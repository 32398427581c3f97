"""The report of whole runs: what a reader sees, from which files, and that nothing is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import often
from PIL import Image
from reporting_fixture import (
    HOSTILE,
    example_summary,
    write_fit_run,
    write_lines,
    write_training,
)

from featherweight.errors import UsageError
from featherweight.records import write_json
from featherweight.reporting.reading import read_run
from featherweight.reporting.render import render_html
from featherweight.reporting.report import follow_report, write_report
from featherweight.reporting.sections.use import usage_commands
from featherweight.run_lock import take_lock

FILES = (
    "environment.json",
    "splits.json",
    "stages.jsonl",
    "candidates.jsonl",
    "measurements.jsonl",
    "train.jsonl",
    "verifications.jsonl",
    "architecture.json",
    "artifacts/onnxruntime-int8/artifact.json",
)


class Page(HTMLParser):
    """What the report holds: visible text, addresses, scripts, figures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles = ""
        self.figures: dict[str, Any] = {}
        self._inside, self._attributes = "", {}
        words: list[str] = []
        self._words = words
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.text = " ".join(" ".join(words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside, self._attributes = tag, dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.styles += data
        elif self._inside == "script" and "id" in self._attributes:
            self.figures[str(self._attributes["id"])] = json.loads(data)
        elif self._inside == "script":
            self.scripts.append(data)
        else:
            self._words.append(data)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_fit_run(tmp_path / "run")


def test_met_run_tells_its_evidence(run: Path) -> None:
    page = Page(write_report(run))
    for told in (
        "Budget met",
        "3 ms",
        "2.71 ms",
        "2.70 to 2.72 ms",
        "90.2 %",
        "88.6 %",
        "n = 734",
        "86.1 % to 90.7 %",
        "87.1 %",
        "balanced accuracy",
        "test",
        "won by validation loss",
        "is over the budget",
        "blocks.1.depthwise",
        "dandelion",
        "race",
        "featherweight fit flowers --latency 3ms --time 30m",
        "1.32.0",
        "Example CPU",
        "runs/flowers-20261124-101500/bundle/run.py picture.jpg",
        "shorter side to 183 pixels (bicubic), then the centre 160 x 160",
    ):
        assert told in page.text, told
    assert page.figures.keys() == {
        "figure-latency",
        "figure-measured",
        "figure-loss",
        "figure-accuracy",
    }
    assert "Not available" not in page.text


def test_balanced_accuracy_only_where_it_is_given(run: Path) -> None:
    write_json(run / "summary.json", example_summary(balanced_accuracy=None))
    assert "balanced accuracy" not in Page(write_report(run)).text


def test_page_fetches_nothing(run: Path) -> None:
    page = Page(write_report(run))
    addresses = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert addresses == []
    assert not {"link", "iframe", "img", "object", "embed"} & {tag for tag, _ in page.tags}
    assert "@import" not in page.styles
    assert "url(" not in page.styles
    policies = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])
    libraries = [script for script in page.scripts if "plotly.js v" in script[:200]]
    assert len(libraries) == 1, "plotly is inlined exactly once"
    own = [script for script in page.scripts if script is not libraries[0]]
    assert all("http" not in script for script in own)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = write_fit_run(tmp_path / "run", data=HOSTILE)
    write_json(run / "summary.json", example_summary(network=HOSTILE, platform=HOSTILE))
    splits = {"train": {HOSTILE: 9}, "val": {HOSTILE: 1}, "test": {HOSTILE: 1}}
    write_json(run / "splits.json", splits)
    write_lines(run / "train.jsonl", [{"event": HOSTILE, "note": "</pre><b>"}])
    write_lines(run / "stages.jsonl", [{"stage": HOSTILE, "seconds": 1.0}])
    path = write_report(run)
    page = Page(path)
    assert HOSTILE in page.text
    assert not any("alert(" in script for script in page.scripts)
    assert "<script>alert" not in path.read_text(encoding="utf-8")
    assert "b" not in {tag for tag, attributes in page.tags if attributes.get("class")}


def test_names_that_are_not_utf8_are_written_out(tmp_path: Path) -> None:
    path = write_report(write_fit_run(tmp_path / "run", data=os.fsdecode(b"caf\xe9")))
    assert r"fit caf\xe9 --latency" in Page(path).text


def test_unfinished_run_is_running(tmp_path: Path) -> None:
    run = write_fit_run(tmp_path / "run", finished=False)
    lock = take_lock(run)
    assert read_run(run).status == "running"
    page = Page(write_report(run))
    lock.release()
    assert "Running" in page.text
    assert "A process works on this run now." in page.text
    assert "Stages finished so far: look, shop, probe, race, train" in page.text
    assert "figure-measured" in page.figures
    assert "figure-latency" not in page.figures


def test_a_killed_run_is_cut_short_whatever_the_verb(tmp_path: Path) -> None:
    fitted = write_fit_run(tmp_path / "fit", finished=False)
    (fitted / "lock").write_text("4242 12.0\n")  # of a process that is gone
    trained = write_training(tmp_path / "train")
    (trained / "summary.json").unlink()
    for run in (fitted, trained):
        page = Page(write_report(run))
        assert read_run(run).status == "cut"
        assert "Cut short" in page.text
        assert "Running" not in page.text
        assert "Nobody works on this run" in page.text


def test_a_finished_training_is_finished(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    read, page = read_run(run), Page(write_report(run))
    assert read.status == "finished"
    assert read.problems == ()
    assert "Finished" in page.text
    assert "Running" not in page.text
    assert "report of a training" in page.text
    assert "names the right class for 91.2 % of 400 val pictures" in page.text
    assert "figure-loss" in page.figures


def test_the_pictures_are_named_as_they_were_given(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    assert read_run(run).data == "photos/flowers"
    (run / "run.yaml").write_text("given: [odd]\nidentity: {data: flowers}\n")
    assert read_run(run).data == "flowers"


def test_a_path_that_is_too_long_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run directory"):
        read_run(tmp_path / ("x" * 300))


def test_a_run_under_way_is_followed_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_fit_run(tmp_path / "run", finished=False)
    lock = take_lock(run)
    shown: list[str] = []

    def sleep(seconds: float) -> None:
        assert seconds == 7.0
        shown.append((run / "report.html").read_text(encoding="utf-8"))
        if len(shown) == 2:
            write_json(run / "summary.json", example_summary())

    monkeypatch.setattr("featherweight.reporting.report.time.sleep", sleep)
    last = follow_report(run, every_s=7.0).read_text(encoding="utf-8")
    lock.release()
    assert len(shown) == 2
    assert all('<meta http-equiv="refresh" content="7">' in page for page in shown)
    assert 'http-equiv="refresh"' not in last
    assert "Budget met" in last


def test_run_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("identity: {data: flowers, latency_ms: 5}\n")
    lock = take_lock(tmp_path)
    page = Page(write_report(tmp_path))
    lock.release()
    assert "Running" in page.text
    assert "5 ms" in page.text
    assert page.figures == {}
    assert page.text.count("Not available") >= 8


def test_not_met_and_infeasible_say_so(run: Path) -> None:
    measured = {"median_ms": 3.12, "interval_ms": (3.05, 3.2)}
    write_json(
        run / "summary.json",
        example_summary(verdict="not_met", measured=measured, utilisation=1.04, pretrained=None),
    )
    text = Page(write_report(run)).text
    assert "Budget not met" in text
    assert "above the budget" in text
    assert "Trained from random weights" in text
    summary = example_summary(
        verdict="infeasible",
        measured=None,
        utilisation=None,
        accuracy=None,
        artifact=None,
        bundle=None,
        curve=(),
        network=None,
        precision=None,
        nearest_feasible_ms=3.4,
        balanced_accuracy=None,
    )
    write_json(run / "summary.json", summary)
    text = Page(write_report(run)).text
    assert "Budget infeasible" in text
    assert "3.40 ms" in text
    assert "--latency 3.64ms" in text


@pytest.mark.parametrize(
    ("precisions", "ending"), [(["fp32", "int8"], "threads=1"), (["fp32"], "precision=fp32")]
)
def test_the_command_for_another_budget_allows_the_same_precisions(
    run: Path, precisions: list[str], ending: str
) -> None:
    read = read_run(run)
    platform = "local/onnxruntime:threads=1,precision=fp32"
    identity = {**read.identity, "platform": platform, "precisions": precisions}
    commands = usage_commands(read._replace(settings={"identity": identity}))
    assert commands[-1].line.endswith(ending)
    assert any("fit --from" in command.line for command in commands)


def test_busy_machine_is_stated(tmp_path: Path) -> None:
    quiet = Page(write_report(write_fit_run(tmp_path / "quiet")))
    busy = Page(write_report(write_fit_run(tmp_path / "busy", foreign_cpu_share=0.34)))
    assert "disturbed:" not in quiet.text
    assert "was disturbed:" in busy.text
    assert "34 % of the processor" in busy.text


def test_a_network_that_answered_a_part_is_not_put_beside_the_file(run: Path) -> None:
    assert "network before export" in Page(write_report(run)).text
    line = json.loads((run / "verifications.jsonl").read_text())
    write_lines(run / "verifications.jsonl", [{**line, "compared": 300}])
    summary = json.loads((run / "summary.json").read_text())
    summary["accuracy"]["network"] = None
    (run / "summary.json").write_text(json.dumps(summary))
    page = Page(write_report(run))
    assert "network before export" not in page.text
    assert "on 300 of 734" in page.text


def test_failed_verification_is_stated(run: Path) -> None:
    write_lines(run / "verifications.jsonl", [{"platform": "local/other", "passed": False}])
    assert "Verification failed on local/other" in Page(write_report(run)).text


@pytest.mark.parametrize("name", often(FILES, FILES[::3]))
def test_absent_file_is_said_not_raised(run: Path, name: str) -> None:
    (run / name).unlink()
    page = Page(write_report(run))
    assert "Budget met" in page.text
    if "artifact" not in name:  # without it the section has its commands only
        assert "Not available" in page.text


@pytest.mark.parametrize(
    "name", often([*FILES, "summary.json", "run.yaml"], [*FILES[1::3], "summary.json", "run.yaml"])
)
def test_damaged_file_is_named_not_raised(run: Path, name: str) -> None:
    for content in ("{", "[1, 2]\n", '{"stage": 5}\n', "\x00\n", ""):
        (run / name).write_text(content, encoding="utf-8")
        read = read_run(run)
        assert "<h2>Reproduce it</h2>" in render_html(read)
        if name == "summary.json":
            assert read.status == "finished"
            assert any("summary.json" in text for text in read.problems)


@pytest.mark.parametrize("content", ["{", "[1]", '{"task": []}', '{"task": {}}'])
def test_a_damaged_network_record_costs_the_name_of_the_metric_only(
    run: Path, content: str
) -> None:
    (run / "network.json").write_text(content, encoding="utf-8")
    read = read_run(run)
    assert read.metric == "accuracy"
    assert "accuracy of the file on test" in Page(write_report(run)).text


def test_damaged_line_costs_only_itself(run: Path) -> None:
    before = len(read_run(run).candidates)
    write_lines(run / "candidates.jsonl", [{"name": "half"}])
    with (run / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('not json\n{"event": "epoch", "network": "torn')
    read = read_run(run)
    assert len(read.candidates) == before
    assert len(read.problems) == 2, "the torn last line is one still being written"
    text = Page(write_report(run)).text
    assert "Could not be read: candidates.jsonl line" in text
    assert "Could not be read: train.jsonl line" in text


def test_diverged_loss_is_a_gap(run: Path) -> None:
    with (run / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"event": "epoch", "network": "n", "epoch": 1, "val_loss": NaN}\n')
    assert read_run(run).epochs[-1].val_loss is None
    Page(write_report(run))


def test_epoch_trained_again_counts_once(run: Path) -> None:
    before = len(read_run(run).epochs)
    again = {
        "event": "epoch",
        "network": "efficientnet_lite0:resolution=160",
        "phase": "train",
        "epoch": 20,
        "val_accuracy": 0.123,
    }
    write_lines(run / "train.jsonl", [again])
    epochs = read_run(run).epochs
    assert len(epochs) == before
    assert epochs[-1].val_accuracy == 0.123


def test_same_run_same_report(run: Path) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="not a run directory"):
        write_report(tmp_path / "absent")


def test_reporting_does_not_import_torch() -> None:
    code = "import sys, featherweight.reporting.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.system("chromium")
@pytest.mark.parametrize(("width", "scheme"), often([(1200, 1), (500, 0)], [(500, 0)]))
def test_browser_draws_it(run: Path, tmp_path: Path, width: int, scheme: int) -> None:
    """At both widths, light (1) and dark (0), everything is drawn without a complaint."""
    path = write_report(run)
    picture = tmp_path / "report.png"
    talk = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--virtual-time-budget=4000",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2400",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={picture}",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stderr
    assert "CONSOLE" not in talk, talk
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    corner = pixels[0, 0].mean()
    assert corner > 200 if scheme == 1 else corner < 60
    bars = {1: (0x2A, 0x6F, 0xB5), 0: (0x6C, 0xB0, 0xF2)}[scheme]
    assert (pixels == bars).all(axis=2).sum() > 2000, "the charts' first colour is on the page"


def test_proof_is_the_measurement_the_summary_quotes(run: Path) -> None:
    quoted = read_run(run).proof
    assert quoted is not None
    assert quoted.purpose == "prove"
    later = {"purpose": "prove", "median_ms": 9.0, "samples_ms": [9.0]}
    write_lines(run / "measurements.jsonl", [later])
    assert read_run(run).proof == quoted
    measured = {"median_ms": 1.0, "interval_ms": (1.0, 1.0)}
    write_json(run / "summary.json", example_summary(measured=measured))
    proof = read_run(run).proof
    assert proof is not None
    assert proof.median_ms == 9.0, "nothing is quoted: the last one counts"
