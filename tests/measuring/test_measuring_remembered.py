"""A shop that is killed again and again comes to its end, and to the same one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import SMALL, measurement

from featherweight.errors import RecordError
from featherweight.fitting.families import families
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.shop import ShopResult, find_fitting
from featherweight.fitting.time_plan import SamplePlan
from featherweight.journal import Journal
from featherweight.measuring.bench import Bench, Untrained
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.remembered import Remembered
from featherweight.profiling.profile import profile
from featherweight.run_directory import RunDirectory, open_run

SETTINGS = FitSettings(data="d", latency_ms=1.0, platform="p")
ONE = SETTINGS.model_copy(update={"model": "convnet"})
PLAN = SamplePlan(glance=30, confirm=150, prove=30)


class Killed(Exception):
    """kill -9."""


class Machine:
    """Times networks, and is taken away when it has done some processes in this attempt."""

    def __init__(self) -> None:
        self.processes: list[list[str]] = []
        self.left = 0

    def __call__(
        self, wanted: Sequence[Untrained], folder: Path, samples: int
    ) -> list[Measurement]:
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.processes.append([f"{one.label} {one.precision} {samples}" for one in wanted])
        drift = 1.0 + 0.02 * np.sin(len(self.processes))  # no two processes agree
        return [self._measured(one, drift) for one in wanted]

    def _measured(self, one: Untrained, drift: float) -> Measurement:
        ms = drift * (0.1 + (profile(one.architecture).macs or 0) / 4e7)
        return measurement(one.label, ms * np.ones(10), precision=one.precision)


def start(folder: Path) -> RunDirectory:
    return open_run(folder, identity={"seed": 0}, command="fit")


def go_shopping(
    run: RunDirectory, machine: Machine, *, purpose: str = "shop", settings: FitSettings = ONE
) -> ShopResult:
    bench = Bench(
        Remembered(run).measuring(machine, purpose=purpose),
        folder=run.path,
        samples=PLAN,
        purpose=purpose,
    )
    return find_fitting(
        families(SMALL, settings),
        precisions=("fp32",),
        budget_ms=1.0,
        bench=bench,
        policy=DEFAULT_POLICY.shop,
    )


def plain(found: ShopResult) -> list[object]:
    kept = [(one.candidate.title, one.latency, reason) for one, reason in found.kept]
    left = [(o.measured.candidate.title, o.measured.latency, o.reason) for o in found.rejected]
    return [kept, left, found.nearest_feasible_ms]


def test_a_shop_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    undisturbed = Machine()
    undisturbed.left = 1000
    with start(tmp_path / "whole") as run:
        whole = go_shopping(run, undisturbed)
    machine, found = Machine(), None
    for _ in range(len(undisturbed.processes)):
        machine.left = 1
        with start(tmp_path / "run") as run:
            try:
                found = go_shopping(run, machine)
                break
            except Killed:
                continue
    assert len(undisturbed.processes) > 3
    assert machine.processes == undisturbed.processes, "nothing is measured twice or left out"
    assert found is not None
    assert plain(found) == plain(whole)
    lines = Journal(tmp_path / "run" / "measurements.jsonl").read()
    assert len(lines) == sum(map(len, machine.processes))
    with start(tmp_path / "run") as run:
        run.finish_stage("shop", inputs={}, outputs={}, seconds=1.0)
        machine.left = 0
        with pytest.raises(Killed):  # a later stage asks about later moments
            go_shopping(run, machine)


def test_only_the_cut_stage_and_its_purpose_are_remembered(tmp_path: Path) -> None:
    machine = Machine()
    machine.left = 1
    with start(tmp_path / "run") as run:
        with pytest.raises(Killed):
            go_shopping(run, machine)
        first, machine.left = len(machine.processes), 1
        with pytest.raises(Killed):  # the same attempt measures anew: it looks at another moment
            go_shopping(run, machine)
        assert machine.processes[first] == machine.processes[0]
    machine.left = 0
    with start(tmp_path / "run") as run, pytest.raises(Killed):
        go_shopping(run, machine, purpose="size")
    assert machine.processes[2:] == []


def test_one_process_of_a_shop_is_short_but_holds_neighbours(tmp_path: Path) -> None:
    machine = Machine()
    machine.left = 1000
    with start(tmp_path / "run") as run:
        go_shopping(run, machine, settings=SETTINGS)
    longest = [process for process in machine.processes if process[0].endswith(" 150")]
    assert longest
    assert max(map(len, longest)) == 3  # 2.3 s each
    with start(tmp_path / "size") as run:
        go_shopping(run, machine, purpose="size", settings=SETTINGS)
    assert max(len(one) for one in machine.processes if one[0].endswith(" 150")) > 3


def test_damaged_measurements_are_taken_again(tmp_path: Path) -> None:
    machine = Machine()
    machine.left = 1
    with start(tmp_path / "run") as run, pytest.raises(Killed):
        go_shopping(run, machine)
    file = tmp_path / "run" / "measurements.jsonl"
    whole = file.read_text()
    file.write_text(whole.replace('"samples_ms": [', '"samples_ms": ["x", ', 1))
    machine.left = 1
    with start(tmp_path / "run") as run, pytest.raises(Killed):
        go_shopping(run, machine)
    assert machine.processes[1] == machine.processes[0][:1]
    file.write_text("{\n" + whole)
    with start(tmp_path / "run") as run, pytest.raises(RecordError, match="line 1 is not JSON"):
        go_shopping(run, machine)
