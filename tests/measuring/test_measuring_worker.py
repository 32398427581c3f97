"""The parts of the measuring process that can be checked without measuring."""

from __future__ import annotations

import ast
import itertools
import sys
import time
from pathlib import Path

import pytest

from featherweight.measuring import worker
from featherweight.measuring.worker import CpuTicks, foreign_share, read_cpu_ticks, rounds_of_turns

STAT = """cpu  100 0 100 800 0 0 0 0 0 0
cpu0 60 0 40 380 20 0 0 0 7 0
cpu1 40 0 60 380 0 5 5 10 0 0
intr 12345
"""


def test_every_round_holds_every_network_once_in_changing_order() -> None:
    rounds = rounds_of_turns([50, 50, 50, 50], seed=0)
    assert len(rounds) == 50
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 10
    assert rounds == rounds_of_turns([50, 50, 50, 50], seed=0)
    assert rounds != rounds_of_turns([50, 50, 50, 50], seed=1)


def test_a_network_with_few_samples_is_spread_over_the_whole_time() -> None:
    order = list(itertools.chain.from_iterable(rounds_of_turns([100, 10], seed=0)))
    assert (order.count(0), order.count(1)) == (100, 10)
    places = [place for place, index in enumerate(order) if index == 1]
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert max(gaps) <= 13
    assert places[-1] >= 105
    assert rounds_of_turns([], seed=0) == []


def test_ticks_are_read_and_a_missing_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "stat"
    path.write_text(STAT)
    assert read_cpu_ticks(str(path)) == {0: CpuTicks(500, 100), 1: CpuTicks(500, 120)}
    assert read_cpu_ticks(str(tmp_path / "absent")) is None


def test_foreign_share_counts_what_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.os, "sysconf", lambda name: 100)
    before = {0: CpuTicks(1000, 500), 1: CpuTicks(1000, 500)}
    after = {0: CpuTicks(1200, 700), 1: CpuTicks(1200, 550)}
    # 200 + 50 busy ticks of 400, 2 s = 200 of them ours.
    assert foreign_share(before, after, own_cpu_s=2.0) == pytest.approx(50 / 400)
    assert foreign_share(before, after, own_cpu_s=2.0, cpus=[0]) == 0.0
    assert foreign_share(before, after, own_cpu_s=1.0, cpus=[0]) == pytest.approx(0.5)
    assert foreign_share(before, after, own_cpu_s=9.0) == 0.0


def test_foreign_share_is_unknown_rather_than_guessed() -> None:
    ticks = {0: CpuTicks(1000, 500)}
    assert foreign_share(None, ticks, own_cpu_s=0.0) is None
    assert foreign_share(ticks, ticks, own_cpu_s=0.0) is None
    assert foreign_share(ticks, {0: CpuTicks(1010, 505)}, own_cpu_s=0.0) is None
    assert foreign_share(ticks, {0: CpuTicks(1100, 505)}, own_cpu_s=0.0, cpus=()) is None


def test_the_worker_needs_only_python_numpy_and_the_runtime() -> None:
    path = Path(worker.__file__)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    foreign = names - set(sys.stdlib_module_names)
    assert foreign == {"numpy", "onnxruntime", "ncnn", "featherweight"}
    # At import time: the standard library alone.
    top = {
        (node.names[0].name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert top <= set(sys.stdlib_module_names)


def test_chosen_cpus_are_allowed_ones() -> None:
    if not hasattr(worker.os, "sched_getaffinity"):
        pytest.skip("this system has no CPU affinity")
    allowed = worker.os.sched_getaffinity(0)
    (one,) = worker.choose_cpus(1)
    assert one in allowed
    assert set(worker.choose_cpus(len(allowed) + 5)) == set(allowed)


@pytest.mark.parametrize(("interrupted", "tries"), [(0, 1), (1, 2), (3, 4), (99, 5)])
def test_a_sample_that_was_interrupted_is_taken_again(
    interrupted: int, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a turn of another process would count as the network's time."""
    switches, ran = [0], []

    def run() -> None:
        ran.append(1)
        if len(ran) <= interrupted:
            switches[0] += 1
            time.sleep(0.02)

    monkeypatch.setattr(worker, "_involuntary_switches", lambda: switches[0])
    ms, again = worker._sample_ms(run, 1)
    assert len(ran) == tries
    assert again == (tries > 1)
    assert (ms < 10.0) == (interrupted < 5)


def test_retaken_samples_are_counted_per_network(monkeypatch: pytest.MonkeyPatch) -> None:
    switches = [0]

    def disturbed() -> None:
        switches[0] += 1

    monkeypatch.setattr(worker, "_involuntary_switches", lambda: switches[0])
    monkeypatch.setattr(worker, "CACHE_WARM_S", 0.0)
    job = {"samples": 6, "max_s_each": 1.0, "seed": 0}
    samples, retaken, _ = worker._take_samples([disturbed, lambda: None], [1e-3, 1e-3], job)
    assert [len(one) for one in samples] == [6, 6]
    assert retaken == [6, 0]
