"""A shop that is killed again and again comes to its end, and to the same one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from featherweight.architecture import Architecture
from featherweight.devices.device import DeviceInfo
from featherweight.errors import RecordError
from featherweight.fitting.families import families
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import Look
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import Shopper, Stock, shop
from featherweight.fitting.time_plan import SamplePlan
from featherweight.journal import Journal
from featherweight.measuring.measurement import Measurement
from featherweight.profiling.profile import profile
from featherweight.run_directory import RunDirectory, open_run

INFO = DeviceInfo(cpu="fake", cores=1, memory_bytes=None, os="fake", arch="fake", governor=None)
SETTINGS = FitSettings(data="d", latency_ms=1.0, platform="p")
ONE = SETTINGS.model_copy(update={"model": "convnet"})
LOOK = Look(
    images={"train": 100, "val": 10, "test": 10}, classes=10, typical_size=32, small=True,
    resolution=32, weights=(), foreign_cpu_share=0.0, uneven=1.0,
)  # fmt: skip
PLAN = SamplePlan(glance=30, confirm=150, prove=30)


class Killed(Exception):
    """kill -9."""


class Machine:
    """Times networks, and is taken away when it has done some processes in this attempt."""

    def __init__(self) -> None:
        self.processes: list[list[str]] = []
        self.left = 0

    def __call__(
        self, wanted: Sequence[tuple[str, Architecture, str]], folder: Path, samples: int
    ) -> list[Measurement]:
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.processes.append([f"{label} {precision} {samples}" for label, _, precision in wanted])
        drift = 1.0 + 0.02 * np.sin(len(self.processes))  # no two processes agree
        return [self._measured(one, drift) for one in wanted]

    def _measured(self, one: tuple[str, Architecture, str], drift: float) -> Measurement:
        label, architecture, precision = one
        ms = drift * (0.1 + (profile(architecture).macs or 0) / 4e7)
        return Measurement(
            network=label, platform=f"fake:precision={precision}", device_info=INFO,
            runtime_version="0", artifact_sha256="0", samples_ms=tuple(ms * np.ones(10)),
            warm_up_runs=1, started="2026-01-01T00:00:00+00:00",
        )  # fmt: skip


def start(folder: Path) -> RunDirectory:
    return open_run(folder, identity={"seed": 0}, command="fit")


def go_shopping(
    run: RunDirectory, machine: Machine, *, purpose: str = "shop", settings: FitSettings = ONE
) -> Stock:
    shopper = Shopper(
        Ledger(run).remembered.measuring(machine, purpose=purpose), folder=run.path,
        runtime="fake", samples=PLAN,
    )  # fmt: skip
    return shop(families(LOOK, settings), precisions=("fp32",), budget_ms=1.0, shopper=shopper)


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
    assert found == whole
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
