"""How busy and how steady the machine is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from featherweight.measuring import load


def test_a_foreign_process_is_seen_and_our_own_work_is_not() -> None:
    if load.foreign_cpu_share(0.1) is None:
        pytest.skip("this system does not count CPU time")
    cores = os.cpu_count() or 1
    burn = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        busy = load.foreign_cpu_share(0.6)
    finally:
        burn.kill()
        burn.wait()
    # It gets at least half a core even beside other work.
    assert busy is not None
    assert 0.4 / cores < busy <= 1


def test_where_cpu_time_is_not_counted_the_share_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load.worker, "read_cpu_ticks", lambda: None)
    assert load.foreign_cpu_share(0.0) is None


def test_timing_noise_is_the_spread_of_a_fixed_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 <= load.timing_noise(seconds=0.1) < 5
    # A clock on which one run in three takes double: the 90th percentile is twice the median.
    ticks = iter(
        tick
        for run in range(1000)
        for tick in (run * 1000, run * 1000 + 100 * (1 + (run % 3 == 0)))
    )
    monkeypatch.setattr(load.time, "perf_counter_ns", lambda: next(ticks))
    assert load.timing_noise(seconds=0.0) == pytest.approx(1.0)
