from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from featherweight import run_directory
from featherweight.errors import FailedError, RecordError, RunDirectoryError, UsageError
from featherweight.run_directory import RunDirectory, is_begun, open_run

IDENTITY: dict[str, Any] = {
    "budget": {"latency_ms": 5.0},
    "seed": 0,
    "data": "ab12",
    "date": "2026-01-01",
}


def _open(
    output: Path | None,
    parent: Path,
    name: str = "fit-demo",
    given: dict[str, str] | None = None,
    **changes: Any,
) -> RunDirectory:
    return open_run(
        output,
        parent=parent,
        identity={**IDENTITY, **changes},
        command="fw fit demo",
        name=name,
        given=given,
    )


def test_a_new_directory_is_named_and_described(tmp_path: Path) -> None:
    with _open(None, tmp_path / "runs", name="fit my/flowers") as run:
        assert run.path.parent == tmp_path / "runs"
        assert run_directory.re.fullmatch(r"fit-my-flowers-\d{8}-\d{6}", run.path.name)
        assert not run.finished
    plain = yaml.safe_load((run.path / "run.yaml").read_text())
    assert plain["identity"] == IDENTITY
    assert [a["command"] for a in plain["attempts"]] == ["fw fit demo"]
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["cores"] == os.cpu_count()
    assert all(environment["versions"][name] for name in ("torch", "onnxruntime", "numpy"))


def test_module_does_not_import_torch() -> None:
    code = "import sys, featherweight.run_directory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_command_resumes_the_newest_unfinished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _open(tmp_path / "older", tmp_path):
        pass
    monkeypatch.setattr(run_directory, "_now", lambda: "2999-01-01T00:00:00+00:00")
    with _open(tmp_path / "newer", tmp_path):
        pass
    monkeypatch.undo()
    with _open(None, tmp_path) as run:
        assert run.path == tmp_path / "newer"
        assert len(run.attempts) == 2
        run.finish({"verdict": "met"})
        assert run.finished
    with _open(None, tmp_path) as run:
        assert run.path == tmp_path / "older"
        run.finish({"verdict": "met"})
    with _open(None, tmp_path) as run:
        assert run.path.name.startswith("fit-demo-")
    with _open(None, tmp_path, seed=1) as other:
        assert other.path not in (tmp_path / "newer", tmp_path / "older", run.path)


def test_a_run_that_would_go_on_is_known_before_it_is_opened(tmp_path: Path) -> None:
    def begun(output: Path | None, **changes: Any) -> bool:
        return is_begun(output, parent=tmp_path, identity={**IDENTITY, **changes})

    assert not begun(None)
    assert not begun(tmp_path / "run")
    with _open(tmp_path / "run", tmp_path) as run:
        assert begun(None)
        assert not begun(None, seed=7)
        run.finish({})
    assert begun(run.path), "it would be read"
    assert not begun(None), "finished: the next one is a new run"


def test_another_identity_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    with _open(tmp_path / "run", tmp_path):
        pass
    with pytest.raises(RunDirectoryError) as caught:
        _open(tmp_path / "run", tmp_path, budget={"latency_ms": 3.0}, extra=None)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "budget.latency_ms is 3.0, there 5.0" in text
    assert "extra is None, there absent" in text
    with _open(tmp_path / "run", tmp_path) as run:  # the refusal left no lock and no attempt
        assert len(run.attempts) == 2


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(RunDirectoryError, match=r"cat\.jpg"):
        _open(tmp_path / "photos", tmp_path)
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_what_a_crash_before_run_yaml_left_is_continued(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("1\n")
    (tmp_path / "run" / ".run.yaml.x1y2").write_text("ident")
    with _open(tmp_path / "run", tmp_path) as run:
        assert len(run.attempts) == 1


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="file") as caught:
            _open(output, tmp_path)
        assert "choose another --output" in str(caught.value)
    with pytest.raises(UsageError, match="file"):
        _open(None, tmp_path / "file" / "runs")


def test_a_broken_run_yaml_is_named_or_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("identity: [")
    with pytest.raises(RecordError, match=r"run\.yaml"):
        _open(tmp_path / "run", tmp_path)
    with _open(None, tmp_path) as run:
        assert run.path != tmp_path / "run"


def test_the_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from featherweight.run_directory import open_run\n"
        f"run = open_run(pathlib.Path(sys.argv[1]), identity={IDENTITY!r}, command='x')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        for output in (tmp_path / "run", None):
            with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}"):
                _open(output, tmp_path)
        holder.kill()
        holder.wait(10)
    with _open(tmp_path / "run", tmp_path) as run:  # a killed process holds nothing
        assert len(run.attempts) == 2


def test_a_stage_is_done_for_its_inputs_and_files(tmp_path: Path) -> None:
    inputs = {"epochs": 3, "resolution": 96}
    with _open(tmp_path / "run", tmp_path) as run:
        assert run.stage_done("train", inputs=inputs) is None
        weights = run.path / "networks" / "weights.bin"
        weights.parent.mkdir()
        weights.write_bytes(b"abcd")
        run.finish_stage(
            "train", inputs=inputs, outputs={"accuracy": 0.5}, files=[weights], seconds=1.5
        )
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    with _open(moved, tmp_path) as run:
        assert run.stage_done("train", inputs=inputs) == {"accuracy": 0.5}
        assert run.stage_done("train", inputs={**inputs, "epochs": 4}) is None
        assert run.stage_done("probe", inputs=inputs) is None
        weights = moved / "networks" / "weights.bin"
        for damage in (b"abce", b"abc", None):
            weights.unlink() if damage is None else weights.write_bytes(damage)
            assert run.stage_done("train", inputs=inputs) is None
        weights.write_bytes(b"abcd")
        assert run.stage_done("train", inputs=inputs) == {"accuracy": 0.5}


def test_a_half_written_stage_line_is_no_stage(tmp_path: Path) -> None:
    with _open(tmp_path / "run", tmp_path) as run:
        run.finish_stage("look", inputs={}, outputs={"n": 1}, seconds=0.1)
        file = run.path / "stages.jsonl"
        file.write_bytes(file.read_bytes()[:-1])
        assert run.stage_done("look", inputs={}) is None
        run.finish_stage("look", inputs={}, outputs={"n": 2}, seconds=0.1)
        assert run.stage_done("look", inputs={}) == {"n": 2}


def test_stages_and_summaries_refuse_what_json_cannot_hold(tmp_path: Path) -> None:
    with _open(tmp_path / "run", tmp_path) as run:
        with pytest.raises(FailedError, match="loss"):
            run.finish_stage("train", inputs={}, outputs={"loss": float("nan")}, seconds=0.1)
        with pytest.raises(FailedError, match=r"absent\.bin"):
            run.finish_stage(
                "t", inputs={}, outputs={}, files=[run.path / "absent.bin"], seconds=0.1
            )
        with pytest.raises(FailedError, match=r"measured\.median_ms"):
            run.finish({"measured": {"median_ms": float("inf")}})
        assert not run.finished
        assert run.stage_done("train", inputs={}) is None


def test_the_error_of_the_run_is_not_hidden_by_the_last_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise FailedError("no space")

    def work_until_interrupted() -> None:
        with _open(tmp_path / "run", tmp_path):
            monkeypatch.setattr(run_directory, "write_bytes", full)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_until_interrupted()
    monkeypatch.undo()
    with pytest.raises(FailedError, match="no space"), _open(tmp_path / "run", tmp_path):
        monkeypatch.setattr(run_directory, "write_bytes", full)
    monkeypatch.undo()
    with _open(tmp_path / "run", tmp_path) as run:
        assert len(run.attempts) == 3
