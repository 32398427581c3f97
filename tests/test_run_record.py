"""run.yaml and stages.jsonl as they may be found: odd, damaged, or of the same data elsewhere."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from featherweight.errors import FeatherweightError, RecordError, RunDirectoryError, UsageError
from featherweight.journal import Journal
from featherweight.run_directory import RunDirectory, open_run
from featherweight.run_record import StageRecord, file_digest, named_content, read_stages

ATTEMPT = "{command: fit, started: '2026-01-01T00:00:00+00:00', pid: 1}"
ODD = {
    "a list": "[1, 2]",
    "text": "words",
    "nothing": "",
    "a list as identity": "identity: [1]",
    "numbers as keys": f"identity: {{seed: {{1: 2}}}}\nattempts: [{ATTEMPT}]",
    "a date": f"identity: {{seed: 2026-01-01}}\nattempts: [{ATTEMPT}]",
    "no number": f"identity: {{seed: .nan}}\nattempts: [{ATTEMPT}]",
    "a loop": f"identity: &a {{seed: *a}}\nattempts: [{ATTEMPT}]",
    "attempts as a map": "identity: {seed: 0}\nattempts: {command: fit}",
    "a negative time": "identity: {seed: 0}\nattempts: [{command: c, started: s, pid: 1, "
    "elapsed_s: -5}]",
    "a pid that is text": "identity: {seed: 0}\nattempts: [{command: c, started: s, pid: x}]",
}


def start(folder: Path | None, *, parent: Path = Path("runs"), **given: Any) -> RunDirectory:
    return open_run(folder, parent=parent, identity={"seed": 0}, command="fit", **given)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_run_yaml_is_one_line(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.yaml").write_text(ODD[name])
    with pytest.raises(RecordError, match=r"run\.yaml") as caught:
        start(run)
    assert "\n" not in str(caught.value)
    with start(None, parent=tmp_path) as other:  # it is passed over
        assert other.path != run


def test_runs_begun_at_odd_times_are_passed_over(tmp_path: Path) -> None:
    for name, started in (("a", "2026-01-01T00:00:00"), ("b", "soon"), ("c", "")):
        with start(tmp_path / name) as run:
            file = run.path / "run.yaml"
        plain = yaml.safe_load(file.read_text())
        plain["attempts"][0]["started"] = started
        file.write_text(yaml.safe_dump(plain))
    with start(tmp_path / "good"):
        pass
    with start(None, parent=tmp_path) as run:
        assert run.path == tmp_path / "good"


def test_a_long_output_is_one_line_and_a_long_name_is_cut(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run directory") as caught:
        start(tmp_path / ("x" * 300))
    assert "\n" not in str(caught.value)
    with start(None, parent=tmp_path, name="fit-" + "y" * 300) as run:
        assert run.path.name.startswith("fit-yyyy")


@pytest.mark.parametrize("entry", ["run.yaml", "stages.jsonl", "artifacts", "networks/a/w.bin"])
def test_a_link_in_a_run_directory_is_not_followed(entry: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    with start(tmp_path / "run"):
        pass
    link = tmp_path / "run" / entry
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere / "kept" if "." in entry else elsewhere)
    with pytest.raises(RunDirectoryError, match="is a link"):
        start(tmp_path / "run")
    assert (elsewhere / "kept").read_text() == "kept"
    (tmp_path / "linked").symlink_to(tmp_path / "new", target_is_directory=True)
    (tmp_path / "new").mkdir()
    with start(tmp_path / "linked") as run:  # the directory itself may be one
        assert not run.finished


def test_a_pipe_in_a_run_directory_stops_nobody(tmp_path: Path) -> None:
    with start(tmp_path / "run"):
        pass
    os.mkfifo(tmp_path / "run" / "stages.jsonl")
    with pytest.raises(RunDirectoryError, match="no plain file"):
        start(tmp_path / "run")
    with pytest.raises(FeatherweightError, match="plain file"):
        Journal(tmp_path / "run" / "stages.jsonl").read()


def test_new_files_keep_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with start(tmp_path / "run") as run:
            run.finish_stage("look", inputs={}, outputs={}, seconds=1.0)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.path.iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert {"lock", "run.yaml", "stages.jsonl", "environment.json"} <= modes.keys()


def test_damaged_outputs_of_a_stage_are_not_gone_on_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(tmp_path / "run") as run:
        for name in ("look", "shop"):
            run.finish_stage(name, inputs={}, outputs={"ms": 3.25, "of": ["a"]}, seconds=1.0)
    file = tmp_path / "run" / "stages.jsonl"
    good, shop = file.read_text().splitlines()
    plain = json.loads(shop)
    damages = [
        {**plain, "outputs": {}},
        {**plain, "outputs": {"ms": "3.25", "of": ["a"]}},
        {**plain, "outputs": []},
        {**plain, "files": {"absent": 3}},
        {**plain, "seal": ""},
        {"stage": "shop"},
    ]
    for damaged in damages:
        file.write_text(f"{good}\n{json.dumps(damaged)}\n")
        caplog.clear()
        with start(tmp_path / "run") as run, caplog.at_level(logging.WARNING):
            assert run.stage_done("shop", inputs={}) is None
            assert run.stage_done("look", inputs={}) == {"ms": 3.25, "of": ["a"]}
        assert caplog.records, damaged


def test_stages_of_a_run_without_seals_can_be_read(tmp_path: Path) -> None:
    line = StageRecord(
        stage="train",
        inputs_digest="0",
        outputs={"val_loss": 1.0},
        files={},
        seconds=1.0,
        finished="2026-01-01T00:00:00+00:00",
    )
    plain = line.model_dump(mode="json", exclude={"seal"})
    Journal(tmp_path / "stages.jsonl").append(plain)
    assert read_stages(Journal(tmp_path / "stages.jsonl")) == [line]


def test_a_line_without_what_it_needs_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "train.jsonl")
    journal.append({"event": "epoch", "network": "a", "epoch": 1})
    journal.append({"event": "epoch", "epoch": 2})
    journal.append({"event": "plan"})
    assert len(journal.read()) == 3
    assert len(journal.read(event="epoch", needed=("event", "epoch"))) == 2
    with pytest.raises(RecordError, match="line 2 has no 'network'"):
        journal.read(event="epoch", needed=("network", "epoch"))


def test_paths_are_no_part_of_an_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    Path("nets/w.bin").write_bytes(b"weights")
    Path("nets/architecture.json").write_text("{}")
    assert named_content("nets/w.bin") == named_content("./nets/../nets/w.bin")
    assert named_content("nets/w.bin").startswith("sha256:")
    Path("nets/w.bin").rename("w2.bin")
    assert named_content("w2.bin") == named_content(str(tmp_path / "w2.bin"))
    assert named_content("nets") == named_content("./nets/") != named_content("w2.bin")
    assert named_content("nets", files=("weights.safetensors",)) == "nets"
    assert named_content("mobilenet_v2:width=0.5") == "mobilenet_v2:width=0.5"
    assert named_content("x" * 300) == "x" * 300
    with start(None, given={"data": "./pets"}) as run:
        pass
    with start(None, given={"data": "pets"}) as again:
        assert again.path == run.path
    plain = yaml.safe_load((run.path / "run.yaml").read_text())
    assert plain["given"] == {"data": "pets"}


def test_files_that_come_and_go_while_a_run_is_opened_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path / "run"):
        (tmp_path / "run" / ".summary.json.abc").write_text("{")
    scandir = os.scandir

    def replaced(folder: Any) -> Any:
        with scandir(folder) as entries:
            found = list(entries)
        (tmp_path / "run" / ".summary.json.abc").unlink(missing_ok=True)
        return contextlib.nullcontext(found)

    monkeypatch.setattr(os, "scandir", replaced)
    with start(tmp_path / "run") as run:
        assert len(run.attempts) == 2


@pytest.mark.parametrize("name", ["absent", "x" * 5000, ".", "/dev/zero"])
def test_what_cannot_be_read_has_no_digest(tmp_path: Path, name: str) -> None:
    assert file_digest(tmp_path / name) is None
