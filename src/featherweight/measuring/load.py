"""How busy and how steady this machine is, before anything is measured on it."""

from __future__ import annotations

import time

import numpy as np

from featherweight.measuring import worker

__all__ = ["foreign_cpu_share", "timing_noise"]

_KERNEL_FLOATS = 16_384
_KERNEL_RUNS = 20


def foreign_cpu_share(seconds: float = 0.5) -> float | None:
    """Watch the machine for a while and return the share of CPU time that others take.

    Args:
        seconds: how long to watch; the system counts in steps of 10 ms, so a tenth of a second
            is the least that says something.

    Returns:
        a share in [0, 1] of all CPUs, this process not counted; `None` where the system does
        not count CPU time (no /proc/stat).
    """
    before, own_s = worker.read_cpu_ticks(), time.process_time()
    time.sleep(seconds)
    return worker.foreign_share(
        before, worker.read_cpu_ticks(), own_cpu_s=time.process_time() - own_s, min_ticks=1
    )


def timing_noise(*, seconds: float = 0.5) -> float:
    """Time a fixed single-threaded computation again and again and return its relative spread.

    Args:
        seconds: how long to repeat it.

    Returns:
        (90th - 10th percentile) / median of its duration (about 0.2 ms, in the cache). Seen on a
        virtual machine: 0.25 while nearly idle, 0.2-0.4 under full load, so it shows what the
        machine's clock and neighbours do and does not replace `foreign_cpu_share`. The quartiles
        would not see what disturbs a fifth of the runs.
    """
    values = np.linspace(0.0, 1.0, _KERNEL_FLOATS, dtype=np.float32)
    result = np.empty_like(values)
    durations_ns: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(durations_ns) < _KERNEL_RUNS:
        start = time.perf_counter_ns()
        for _ in range(_KERNEL_RUNS):
            np.multiply(values, values, out=result)
            np.sqrt(result, out=result)
        durations_ns.append(time.perf_counter_ns() - start)
    low, middle, high = np.quantile(durations_ns[1:], [0.1, 0.5, 0.9])
    return float(high - low) / float(middle)
