"""Compare latencies measured over ssh with those measured directly, on one machine.

    python benchmarks/ssh_loopback.py --device ssh://me@localhost --python "$(which python)"

The device must be this very machine, reached with ssh (a server on the loopback interface). Every
round measures the same networks directly and over ssh, in an order that alternates; both start a
fresh process. Writes results/ssh_loopback.json: every median and interval, and per network the
ratio ssh / direct over the rounds with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import platform as host
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

import featherweight as fw
from featherweight.devices.known import KnownDevice, add_device, find_device

RESULT = Path(__file__).parent / "results" / "ssh_loopback.json"
NETWORKS = ("convnet:classes=10", "mobilenet_v3_small", "mobilenet_v2", "efficientnet_lite0")
NAME = "loopback"


def measure(device: str, precision: str) -> dict[str, Any]:
    start = time.perf_counter()
    measured = fw.measure(NETWORKS, on=[f"{device}/onnxruntime:precision={precision}"])
    return {
        "seconds": time.perf_counter() - start,
        "networks": {
            one.network: {
                "median_ms": one.median_ms,
                "interval_ms": one.interval_ms,
                "disturbed": one.disturbed,
            }
            for one in measured
        },
    }


def compare(rounds: list[dict[str, Any]], precision: str, network: str) -> dict[str, Any]:
    """Return the mean log ratio of paired rounds as a ratio, and how often the intervals meet."""
    pairs = [
        [one[precision][device]["networks"][network] for device in ("local", NAME)]
        for one in rounds
    ]
    logs = np.log([there["median_ms"] / here["median_ms"] for here, there in pairs])
    half = student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    meet = [
        here["interval_ms"][0] <= there["interval_ms"][1]
        and there["interval_ms"][0] <= here["interval_ms"][1]
        for here, there in pairs
    ]
    return {
        "ratio": float(np.exp(logs.mean())),
        "interval": [float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))],
        "intervals_that_meet": f"{sum(meet)}/{len(meet)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", required=True, help="ssh:// URL of this machine")
    parser.add_argument("--python", help="interpreter with onnxruntime")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    add_device(NAME, KnownDevice(url=options.device, python=options.python))
    info = find_device(NAME).info()
    rounds: list[dict[str, Any]] = []
    for turn in range(options.rounds):
        order = ("local", NAME) if turn % 2 == 0 else (NAME, "local")
        rounds.append(
            {
                precision: {device: measure(device, precision) for device in order}
                for precision in ("fp32", "int8")
            }
        )
        print(f"round {turn + 1} of {options.rounds}", flush=True)
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"platform": host.platform(), "cpu": info.cpu, "cores": info.cores},
        "versions": {name: version(name) for name in ("featherweight", "onnxruntime", "numpy")},
        "ssh_over_direct": {
            f"{network} {precision}": compare(rounds, precision, network)
            for network in NETWORKS
            for precision in ("fp32", "int8")
        },
        "rounds": rounds,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["ssh_over_direct"], indent=1))


if __name__ == "__main__":
    main()
