"""Time files on devices without Python, by the runtime's own program.

One start of the program is one sample: the median (older programs: the mean) of some runs. The
networks take turns, as with the worker.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from featherweight.devices.device import CompletedRun, Device
from featherweight.devices.holding import last_line
from featherweight.errors import DeviceError, UsageError
from featherweight.measuring.worker import rounds_of_turns
from featherweight.runtimes.artifact import Artifact

__all__ = ["answer_of_programs", "read_run_ms"]

_PROGRAMS = {"litert": "/data/local/tmp/benchmark_model"}
_HOW = (
    "download LiteRT's benchmark_model for the device (page `measurement` of its documentation); "
    "then: adb push benchmark_model {path} && adb shell chmod +x {path}"
)
_STATISTICS = re.compile(r"^(?:INFO: )?count=(\d+) (.*)$", re.MULTILINE)
_FEWEST, _MOST_SAMPLES = 5, 20
_SAMPLE_S = 0.25
"""A sample runs at least about this long."""
_MOST_RUNS = 500
_PROBE_RUNS = 5
_NOT_THERE = (126, 127)


def answer_of_programs(
    device: Device,
    artifacts: Sequence[Artifact],
    folders: Sequence[str],
    job: dict[str, Any],
    *,
    timeout_s: float,
) -> dict[str, Any]:
    """Do a worker's job with native programs; the answer has the worker's form.

    Args:
        device: has no Python.
        artifacts: what is timed.
        folders: where their files lie on the device.
        job: as for the worker.
        timeout_s: of one start of the program.

    Raises:
        UsageError: the runtime has no such program.
        DeviceError: it is not on the device, or failed.
    """
    runtime = job["runtime"]
    if runtime not in _PROGRAMS:
        raise UsageError(
            f"{runtime} cannot be timed on {device.url}: it has no Python",
            allowed=", ".join(_PROGRAMS),
        )
    program = _PROGRAMS[runtime]
    graphs = [
        f"{folder}/{artifact.files[0]}" for folder, artifact in zip(folders, artifacts, strict=True)
    ]

    def run_ms(index: int, runs: int) -> float:
        argv = [
            program,
            f"--graph={graphs[index]}",
            f"--num_threads={job['num_threads']}",
            f"--num_runs={runs}",
            "--min_secs=0",
            "--warmup_runs=1",
            "--warmup_min_secs=0.1",
            "--use_xnnpack=true",
        ]
        done = device.run(argv, timeout_s=timeout_s)
        return _checked(done, device=device, program=program)

    steady = [run_ms(index, _PROBE_RUNS) for index in range(len(graphs))]
    runs = [min(_MOST_RUNS, max(1, math.ceil(_SAMPLE_S * 1e3 / ms))) for ms in steady]
    counts = [
        max(
            _FEWEST,
            min(job["samples"], _MOST_SAMPLES, int(job["max_s_each"] * 1e3 / (count * ms))),
        )
        for count, ms in zip(runs, steady, strict=True)
    ]
    samples: list[list[float]] = [[] for _ in graphs]
    for index in itertools.chain.from_iterable(rounds_of_turns(counts, seed=job["seed"])):
        samples[index].append(run_ms(index, runs[index]))
    return {
        "runtime_version": f"{program.rpartition('/')[2]} on the device",
        "cpus": None,
        "samples_ms": samples,
        "retaken_samples": [None] * len(graphs),
        "warm_up_runs": [1] * len(graphs),
        "runs_per_sample": runs,
        "foreign_cpu_share": {"machine": None, "pinned": None},
        "involuntary_switches": None,
        "answers": None,
    }


def read_run_ms(said: str) -> float | None:
    """Return the ms of one run from what benchmark_model prints; `None` = it timed nothing.

    The last statistics are those of the timed runs, in microseconds: newer programs tell the
    median, older ones only the mean.
    """
    found = _STATISTICS.findall(said)
    if len(found) < 2:  # the first are the warm-up's
        return None
    fields = dict(part.split("=", 1) for part in found[-1][1].split() if "=" in part)
    value = fields.get("median", fields.get("avg"))
    return None if value is None else float(value) / 1e3


def _checked(done: CompletedRun, *, device: Device, program: str) -> float:
    said = f"{done.stdout}\n{done.stderr}"
    if done.returncode in _NOT_THERE:
        raise DeviceError(
            f"{program} is not on the device {device.url!r}", hint=_HOW.format(path=program)
        )
    found = read_run_ms(said)
    if done.returncode != 0 or found is None:
        raise DeviceError(
            f"{program} failed on the device {device.url!r}: {last_line(done.stderr or said)}"
        )
    return found
