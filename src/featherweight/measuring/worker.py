"""The measuring process: loads networks, warms them up, times them in turns.

Run by path in a fresh process (`python -P worker.py < job.json`), here or on a device, so this
file imports only the standard library, numpy and the runtime asked for; one other than onnxruntime
and ncnn, or named `installed:NAME`, is loaded through the featherweight installed beside it.

Job (JSON on stdin): `runtime`, `precision`, `num_threads`, `networks` (list of `{directory, files,
input_shape (H, W, C), outputs (names)}`), `samples`, `max_s_each`, `seed`, `cpus` (list, or null to
choose), `answers` (optional: whether to return what they answer to the seeded picture).
Answer (one JSON line on stdout): `runtime_version`, `cpus`, `samples_ms`, `retaken_samples`,
`warm_up_runs` and `runs_per_sample` (per network), `wall_s`, `process_cpu_s`, `foreign_cpu_share`
(`{machine, pinned}`), `involuntary_switches`, `clock_change`, `answers` (`{output: numbers}` each,
or null). Whatever a runtime prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "CpuTicks",
    "choose_cpus",
    "foreign_share",
    "read_cpu_ticks",
    "rounds_of_turns",
    "seeded_picture",
]

MIN_SAMPLE_S = 0.2e-3
"""A shorter network is run several times per sample: one interrupt (1-10 us) stays below 5 %."""
MIN_SAMPLE_OVERHEADS = 20
"""... and one sample is at least this many times what reading the clock costs."""
CACHE_WARM_S = 10e-3
"""Of untimed runs before a sample (at least one): the caches hold the network again after another
one's turn, and 100 samples of a fast one span a second: speed drifts."""
RETAKES, RETAKE_PAUSE_S = 4, 1e-3
"""A sample in which another process got the CPU is taken again, so often at most, after a sleep:
who slept gets a whole turn from the scheduler, some milliseconds."""
STEADY_CHANGE = 0.02
"""Warm-up ends when the median of a window differs from the one before by less than this."""
WINDOW_S, MIN_WINDOW_RUNS = 0.03, 3
WARM_UP_SHARE = 0.3
"""Warm-up takes at most this share of the time of a network."""
MIN_SAMPLES = 5  # taken even where they take longer than allowed: fewer have no quartiles
MIN_TICKS, PROBE_S = 20, 0.05  # below 0.2 s of /proc/stat's clock (100 Hz) a share is noise
CLOCK_LOOPS, CLOCK_TURNS = 20_000, 15  # of the fixed arithmetic that tells the clock: about 5 ms

Run = Callable[[], object]


class CpuTicks(NamedTuple):
    """Ticks of one CPU since boot, and those not idle; time a hypervisor stole counts as busy."""

    total: int
    busy: int


def read_cpu_ticks(path: str = "/proc/stat") -> dict[int, CpuTicks] | None:
    """Return the ticks of every CPU, or `None` on a system that does not count them."""
    if not os.path.exists(path):  # noqa: PTH110 - this file runs on devices, kept minimal
        return None
    ticks = {}
    with open(path, encoding="ascii") as stream:  # noqa: PTH123
        for line in stream:
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                # user nice system idle iowait irq softirq steal; guest time is inside user.
                values = [int(field) for field in fields[:8]]
                total = sum(values)
                ticks[int(name[3:])] = CpuTicks(total, total - values[3] - values[4])
    return ticks or None


def foreign_share(
    before: Mapping[int, CpuTicks] | None,
    after: Mapping[int, CpuTicks] | None,
    *,
    own_cpu_s: float,
    cpus: Iterable[int] | None = None,
    min_ticks: int = MIN_TICKS,
) -> float | None:
    """Return the share of CPU time, in [0, 1], that other processes took between two readings.

    `own_cpu_s` seconds were this process's. Only `cpus` count (`None` = all of them). `None` where
    CPU time is not counted, or less than `min_ticks` of the clock lie between the readings.
    """
    if before is None or after is None:
        return None
    chosen = sorted(set(before) & set(after) & set(after if cpus is None else cpus))
    total = sum(after[cpu].total - before[cpu].total for cpu in chosen)
    busy = sum(after[cpu].busy - before[cpu].busy for cpu in chosen)
    if not chosen or total < min_ticks * len(chosen):
        return None
    own = own_cpu_s * os.sysconf("SC_CLK_TCK")
    return min(max((busy - own) / total, 0.0), 1.0)


def rounds_of_turns(counts: Sequence[int], *, seed: int) -> list[list[int]]:
    """Return whose turn it is, round after round.

    Each round is in a new shuffled order, so that slow drift of the machine meets all networks
    alike. One with fewer samples (`counts`) sits out rounds evenly instead of leaving early.
    """
    generator = random.Random(seed)
    rounds = max(counts, default=0)
    order: list[list[int]] = []
    for turn in range(rounds):
        present = [
            index
            for index, count in enumerate(counts)
            if (turn + 1) * count // rounds > turn * count // rounds
        ]
        generator.shuffle(present)
        order.append(present)
    return order


def choose_cpus(count: int) -> list[int]:
    """Return `count` CPUs for this process, the least loaded ones, one per core where it can.

    High numbers first among equals: the system's interrupts prefer CPU 0.
    """
    allowed = sorted(os.sched_getaffinity(0), reverse=True)
    before = read_cpu_ticks()
    time.sleep(PROBE_S)
    after = read_cpu_ticks()
    load = {
        cpu: after[cpu].busy - before[cpu].busy if before and after and cpu in before else 0
        for cpu in allowed
    }
    chosen: list[int] = []
    taken: set[int] = set()
    while len(chosen) < min(count, len(allowed)):
        rest = [cpu for cpu in allowed if cpu not in chosen]
        best = min(rest, key=lambda cpu: (cpu in taken, load[cpu]))
        chosen.append(best)
        taken |= _siblings(best)
    return sorted(chosen)


def _siblings(cpu: int) -> set[int]:
    """Return the hardware threads of the core that `cpu` belongs to."""
    path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    if not os.path.exists(path):  # noqa: PTH110
        return {cpu}
    members: set[int] = set()
    with open(path, encoding="ascii") as stream:  # noqa: PTH123
        for part in stream.read().strip().split(","):
            first, _, last = part.partition("-")
            members.update(range(int(first), int(last or first) + 1))
    return members


def _open_onnxruntime(job: Mapping[str, Any]) -> tuple[str, list[Run]]:
    import onnxruntime

    runs: list[Run] = []
    for network in job["networks"]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["num_threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            os.path.join(network["directory"], network["files"][0]),  # noqa: PTH118
            sess_options=options,
            providers=["CPUExecutionProvider"],
        )
        feed = {session.get_inputs()[0].name: seeded_picture(network["input_shape"], job["seed"])}
        runs.append(functools.partial(session.run, network["outputs"], feed))
    return onnxruntime.__version__, runs


def _open_ncnn(job: Mapping[str, Any]) -> tuple[str, list[Run]]:
    import ncnn
    import numpy as np

    runs: list[Run] = []
    for network in job["networks"]:
        net = ncnn.Net()
        net.opt.num_threads = job["num_threads"]
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
            setattr(net.opt, f"use_{name}", job["precision"] == "fp16")
        net.opt.use_bf16_storage = False
        param, weights = (os.path.join(network["directory"], f) for f in network["files"])  # noqa: PTH118
        if net.load_param(param) != 0 or net.load_model(weights) != 0:
            raise RuntimeError(f"ncnn {ncnn.__version__} cannot read {param}")
        picture = np.ascontiguousarray(seeded_picture(network["input_shape"], job["seed"])[0])
        runs.append(functools.partial(_run_ncnn, ncnn, net, picture, network["outputs"]))
    return str(ncnn.__version__), runs


def _run_ncnn(ncnn: Any, net: Any, picture: Any, outputs: Sequence[str]) -> list[Any]:
    """Answer one picture; the cast to float32 is part of the time."""
    import numpy as np

    height, width, _ = picture.shape
    pixels = ncnn.Mat.from_pixels(picture, ncnn.Mat.PixelType.PIXEL_RGB, width, height)
    extractor = net.create_extractor()
    extractor.input("image", pixels)
    return [np.array(extractor.extract(name)[1], dtype=np.float32) for name in outputs]


def _open_installed(job: Mapping[str, Any]) -> tuple[str, list[Run]]:
    """Return version and calls of a runtime that the featherweight on this machine knows."""
    from pathlib import Path

    from featherweight.runtimes.artifact import read_artifact
    from featherweight.runtimes.runtime import RUNTIMES

    runtime = RUNTIMES[job["runtime"].rpartition(":")[2]]
    runs: list[Run] = []
    for network in job["networks"]:
        artifact = read_artifact(Path(network["directory"]))
        predict = runtime.load(artifact, num_threads=job["num_threads"])
        runs.append(functools.partial(predict, seeded_picture(network["input_shape"], job["seed"])))
    return runtime.version(), runs


_ALONE = {"onnxruntime": _open_onnxruntime, "ncnn": _open_ncnn}
"""Runtimes that need no featherweight beside this file: their version and a call per network."""


def seeded_picture(shape: Sequence[int], seed: int) -> Any:
    """Return one seeded uint8 picture (1, H, W, C), allocated once for all runs."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, 256, (1, *shape), dtype=np.uint8)


def _numbers(answer: Any, outputs: Sequence[str]) -> dict[str, list[float]]:
    """Return what a runtime gave, a list in the order of the outputs or by name, as numbers."""
    listed = isinstance(answer, (list, tuple))
    named = dict(zip(outputs, answer)) if listed else answer  # noqa: B905 - Python 3.8
    return {name: [float(v) for v in values.reshape(-1)] for name, values in named.items()}


def _time_s(run: Run, number: int) -> float:
    """Return the seconds per run over `number` runs in a row."""
    counter = time.perf_counter_ns
    start = counter()
    for _ in range(number):
        run()
    return (counter() - start) / number * 1e-9


def _warm_up(run: Run, *, limit_s: float) -> tuple[int, float]:
    """Run until the time is steady; return the number of runs and the last median (s)."""
    start = time.perf_counter()
    count, previous = 1, _time_s(run, 1)
    while True:
        began = time.perf_counter()
        window: list[float] = []
        while len(window) < MIN_WINDOW_RUNS or time.perf_counter() - began < WINDOW_S:
            window.append(_time_s(run, 1))
            if len(window) > 1 and time.perf_counter() - start > limit_s:
                break
        count += len(window)
        median = statistics.median(window)
        steady = abs(median - previous) < STEADY_CHANGE * previous
        if steady or time.perf_counter() - start > limit_s:
            return count, median
        previous = median


def _arithmetic_s() -> float:
    """Return what a fixed loop takes: the least of some turns, which no other process prolongs."""
    return min(_time_s(lambda: sum(range(CLOCK_LOOPS)), 1) for _ in range(CLOCK_TURNS))


def _settle(run: Run, *, alone: bool, run_s: float) -> None:
    """Run untimed before a sample, see `CACHE_WARM_S`; a slow network alone needs none."""
    if alone and run_s > CACHE_WARM_S:
        return
    end = time.perf_counter() + CACHE_WARM_S
    run()
    while time.perf_counter() < end:
        run()


def _sample_ms(run: Run, number: int) -> tuple[float, bool]:
    """Return the ms per run of one sample, and whether it had to be taken again."""
    ms, taken, interrupted = 0.0, 0, True
    while interrupted and taken <= RETAKES:
        if taken:
            time.sleep(RETAKE_PAUSE_S)
        switches = _involuntary_switches()
        ms, taken = round(_time_s(run, number) * 1e3, 7), taken + 1
        interrupted = _involuntary_switches() > switches
    return ms, taken > 1


def _take_samples(
    runs: Sequence[Run], steady_s: Sequence[float], job: Mapping[str, Any]
) -> tuple[list[list[float]], list[int], list[int]]:
    """Return every network's samples (ms per run), how many were retaken, and runs per sample."""
    shortest_s = max(MIN_SAMPLE_S, MIN_SAMPLE_OVERHEADS * _time_s(time.perf_counter_ns, 1000))
    alone = len(runs) == 1
    blocks, counts = [], []
    for run_s in steady_s:
        blocks.append(max(1, -int(-shortest_s // run_s)))
        untimed_s = 0.0 if alone and run_s > CACHE_WARM_S else max(CACHE_WARM_S, run_s)
        fitting = int(job["max_s_each"] * (1 - WARM_UP_SHARE) / (blocks[-1] * run_s + untimed_s))
        counts.append(max(min(job["samples"], fitting), min(job["samples"], MIN_SAMPLES)))
    samples: list[list[float]] = [[] for _ in runs]
    retaken = [0 for _ in runs]
    # A machine that turned slow after the warm-up may cost twice the planned time, not more.
    deadline = time.perf_counter() + 2 * job["max_s_each"] * len(runs)
    for present in rounds_of_turns(counts, seed=job["seed"]):
        if time.perf_counter() > deadline and min(map(len, samples)) >= MIN_SAMPLES:
            break  # never inside a round: turns would stand beside those of others
        for index in present:
            _settle(runs[index], alone=alone, run_s=steady_s[index])
            ms, again = _sample_ms(runs[index], blocks[index])
            samples[index].append(ms)
            retaken[index] += again
    return samples, retaken, blocks


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python's collector out of the timed runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _involuntary_switches() -> int:
    """Return how often the system took the CPU away from this process so far."""
    import resource  # not on every system

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job; see the module's docstring for both sides."""
    cpus: list[int] | None = None
    if hasattr(os, "sched_setaffinity"):
        cpus = job["cpus"] or choose_cpus(job["num_threads"])
        os.sched_setaffinity(0, cpus)
    version, runs = _ALONE.get(job["runtime"], _open_installed)(job)
    with _no_garbage_collection():
        arithmetic_s = _arithmetic_s()
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        before, switches = read_cpu_ticks(), _involuntary_switches()
        warm = [_warm_up(run, limit_s=WARM_UP_SHARE * job["max_s_each"]) for run in runs]
        samples, retaken, blocks = _take_samples(runs, [run_s for _, run_s in warm], job)
        after = read_cpu_ticks()
        wall_s = time.perf_counter() - start_s
        cpu_s = time.process_time() - start_cpu_s
        clock_change = arithmetic_s / _arithmetic_s() - 1.0
    return {
        "runtime_version": version,
        "cpus": cpus,
        "samples_ms": samples,
        "retaken_samples": retaken,
        "warm_up_runs": [count for count, _ in warm],
        "runs_per_sample": blocks,
        "wall_s": wall_s,
        "process_cpu_s": cpu_s,
        "foreign_cpu_share": {
            "machine": foreign_share(before, after, own_cpu_s=cpu_s),
            "pinned": foreign_share(before, after, own_cpu_s=cpu_s, cpus=cpus or ()),
        },
        "involuntary_switches": _involuntary_switches() - switches,
        "clock_change": clock_change,
        "answers": [
            _numbers(run(), network["outputs"])
            for run, network in zip(runs, job["networks"])  # noqa: B905 - Python 3.8
        ]
        if job.get("answers")
        else None,
    }


def _main() -> None:
    """Read a job from stdin, do it, write the answer."""
    answer = os.dup(1)
    os.dup2(2, 1)
    result = _measure(json.load(sys.stdin))
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    _main()
