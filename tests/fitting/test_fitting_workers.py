"""Networks that are compared train in other processes: the same choices and the same verdict."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import PlayedDevice

from featherweight.cli.app import run
from featherweight.journal import Journal
from featherweight.measuring import latency

FIT = ["fit", "demo", "--latency", "0.25ms", "--epochs", "1", "--precision", "fp32", "--json"]


@pytest.fixture(autouse=True)
def _played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "answer_of_device", PlayedDevice())


def fit(output: Path, workers: str, capsys: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*FIT, "--workers", workers, "--output", str(output)]) in (0, 3)
    printed = capsys.readouterr().out
    assert printed.startswith("{"), printed
    return dict(json.loads(printed))


def raced(output: Path) -> list[str]:
    lines = Journal(output / "stages.jsonl").read()
    return [line["stage"].partition(":")[0] for line in lines if line["stage"].startswith("race")]


def kill_one_worker(killed: list[int]) -> None:
    """Kill a process of Ray or of the pool that trains, as soon as there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = status.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if command.startswith("ray::run_job"):
                killed.append(int(status.parent.name))
                os.kill(killed[0], signal.SIGKILL)
                return
        time.sleep(0.1)


@pytest.mark.slow
def test_trainings_in_processes_choose_the_same(tmp_path: Path, capsys: Any) -> None:
    here = fit(tmp_path / "here", "here", capsys)
    there = fit(tmp_path / "there", "processes=2", capsys)
    assert raced(tmp_path / "here") == raced(tmp_path / "there") != []
    assert (there["verdict"], there["network"]) == (here["verdict"], here["network"])


@pytest.mark.slow
def test_a_killed_worker_of_ray_costs_nothing_but_time(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("ray")
    here = fit(tmp_path / "here", "here", capsys)
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_worker, args=(killed,), daemon=True)
    killer.start()
    there = fit(tmp_path / "there", "ray", capsys)
    killer.join(1)
    assert killed, "nothing was killed"
    assert raced(tmp_path / "here") == raced(tmp_path / "there") != []
    assert (there["verdict"], there["network"]) == (here["verdict"], here["network"])


def test_other_words_are_refused(tmp_path: Path, capsys: Any) -> None:
    output = ["--output", str(tmp_path / "run")]
    assert run([*FIT, "--workers", "somewhere", *output]) == 2
    assert "processes=N" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
