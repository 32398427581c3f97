"""Measure one network again and again, quiet and beside a busy loop, ours and naively.

    python benchmarks/timing_stability.py --times 20

Ours is `fw.measure`: a fresh process, warm-up to steady state, the median of 100 samples, a repeat
where something disturbed. Naive is what a quick script does: open the file in this process and
take the mean of 100 runs. Both measure the same file in turns. A measurement is *flagged* when it
says it was disturbed; a quiet one that is flagged although /proc/stat showed less than 2 % foreign
CPU is a false alarm. Writes results/timing_stability.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform as host
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import featherweight as fw
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.worker import seeded_picture
from featherweight.runtimes.runtime import RUNTIMES

RESULT = Path(__file__).parent / "results" / "timing_stability.json"
RUNS = 100
FOREIGN = 0.02


def naive_ms(artifact: Any) -> float:
    predict = RUNTIMES["onnxruntime"].load(artifact, num_threads=1)
    picture = seeded_picture(artifact.input_shape, 0)
    start = time.perf_counter()
    for _ in range(RUNS):
        predict(picture)
    return (time.perf_counter() - start) / RUNS * 1e3


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Keep `count` processes busy."""
    loops = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.terminate()
            loop.join()


def repeat(artifact: Any, network: str, times: int) -> list[dict[str, Any]]:
    platform = fw.parse_platform("local/onnxruntime")
    found = []
    for _ in range(times):
        (one,) = fw.measure_artifacts([artifact], platform=platform, names=[network])
        found.append(
            {
                "ours_ms": one.median_ms,
                "flagged": one.disturbed,
                "foreign_cpu_share": one.foreign_cpu_share,
                "relative_iqr": one.relative_iqr,
                "naive_ms": naive_ms(artifact),
            }
        )
    return found


def spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    low, high = np.quantile(values, [0.1, 0.9])
    return {
        "median_ms": middle,
        "p90_minus_p10": float(high - low) / middle,
        "max_over_min": max(values) / min(values),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        artifact = export_untrained(
            fw.resolve_architecture(options.network),
            platform=fw.parse_platform("local/onnxruntime"),
            out=Path(folder),
        )
        for loops in (0, 1, cores):
            with busy_loops(loops):
                name = "quiet" if loops == 0 else f"{loops} busy loop(s) on {cores} cores"
                runs[name] = repeat(artifact, options.network, options.times)
    quiet = runs["quiet"]
    summary = {
        name: {
            "ours": spread([one["ours_ms"] for one in found]),
            "naive": spread([one["naive_ms"] for one in found]),
            "flagged": f"{sum(one['flagged'] for one in found)}/{len(found)}",
        }
        for name, found in runs.items()
    }
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": host.platform(),
        "versions": {name: version(name) for name in ("featherweight", "onnxruntime", "numpy")},
        "network": options.network,
        "summary": summary,
        "false_alarms": sum(
            one["flagged"] and (one["foreign_cpu_share"] or 0.0) < FOREIGN for one in quiet
        ),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(summary, indent=1), found["false_alarms"])


if __name__ == "__main__":
    main()
