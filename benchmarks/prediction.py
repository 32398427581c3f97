"""How well latency is predicted: networks and widths that no calibration has timed.

    python benchmarks/prediction.py --on local/onnxruntime --on local/openvino --networks 160

Each platform is calibrated (`featherweight device calibrate`), then other networks of the zoo at
other widths and resolutions are predicted and timed. Beside our prediction stand two others, both
fitted to the same calibration: a power of the multiply-adds, and a roofline (each layer takes the
longer of its multiply-adds over a speed and its bytes over a bandwidth; speed and bandwidth are the
best pair). Choosing: of all those networks, for each of 20 budgets, the one with the most
multiply-adds that is predicted to fit; then what it really takes. Writes results/prediction.json;
platforms that are not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import platform as host
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.calibrate import calibrate, judge, time_sampled
from featherweight.measuring.sampling import sample_networks
from featherweight.measuring.table import LatencyTable, predict_latency
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS

RESULT = Path(__file__).parent / "results" / "prediction.json"
SEED = 1000
ROUND = 8
BUDGETS = 20
Predict = Callable[[Sequence[Architecture]], np.ndarray]


def macs_of(networks: Sequence[Architecture]) -> np.ndarray:
    return np.array([float(profile(one).macs or 0) for one in networks])


def by_macs(networks: Sequence[Architecture], measured: np.ndarray) -> Predict:
    slope, start = np.polyfit(np.log(macs_of(networks)), np.log(measured), 1)
    return lambda asked: np.exp(start + slope * np.log(macs_of(asked)))


def layer_work(network: Architecture, *, bytes_each: float) -> np.ndarray:
    """Return (layers, 2): multiply-adds and bytes moved."""
    counted = profile(network)
    return np.array(
        [
            (one.macs or 0, bytes_each / 4 * (one.memory_access_bytes or 0))
            for one in counted.layers
        ],
        dtype=np.float64,
    )


def by_roofline(
    networks: Sequence[Architecture], measured: np.ndarray, *, bytes_each: float
) -> tuple[Predict, dict[str, float]]:
    work = [layer_work(one, bytes_each=bytes_each) for one in networks]

    def times(parts: Sequence[np.ndarray], macs_per_ms: float, bytes_per_ms: float) -> np.ndarray:
        return np.array(
            [np.maximum(p[:, 0] / macs_per_ms, p[:, 1] / bytes_per_ms).sum() for p in parts]
        )

    best = min(
        (float(np.abs(np.log(times(work, speed, width) / measured)).mean()), speed, width)
        for speed in np.geomspace(1e6, 1e9, 40)
        for width in np.geomspace(1e5, 1e9, 40)
    )
    _, speed, width = best
    found = {"gmacs_per_s": speed / 1e6, "gb_per_s": width / 1e6}
    return (
        lambda asked: times([layer_work(one, bytes_each=bytes_each) for one in asked], speed, width)
    ), found


def choose(networks: Sequence[Architecture], predicted: np.ndarray, truth: np.ndarray) -> Any:
    """Return what choosing by a prediction comes to, over budgets between the deciles."""
    macs = macs_of(networks)
    over, used = [], []
    for budget in np.geomspace(np.quantile(truth, 0.1), np.quantile(truth, 0.9), BUDGETS):
        fits = np.flatnonzero(predicted <= budget)
        if not len(fits):
            continue
        chosen = fits[macs[fits].argmax()]
        best = np.flatnonzero(truth <= budget)
        best = best[macs[best].argmax()]
        over.append(truth[chosen] > budget)
        used.append(macs[chosen] / macs[best] if truth[chosen] <= budget else None)
    kept = [one for one in used if one is not None]
    return {
        "budgets": len(over),
        "over_budget": float(np.mean(over)),
        "macs_of_the_best_median": float(np.median(kept)) if kept else None,
    }


def errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    relative = np.abs(predicted / truth - 1.0)
    return {
        "within_10_percent": float((relative <= 0.1).mean()),
        "mape": float(relative.mean()),
        "spearman": float(
            np.corrcoef(predicted.argsort().argsort(), truth.argsort().argsort())[0, 1]
        ),
    }


def examine(table: LatencyTable, *, count: int, seed: int) -> dict[str, Any]:
    platform = parse_platform(table.platform)
    known = [resolve_architecture(entry.network) for entry in table.entries]
    known_ms = np.array([entry.median_ms for entry in table.entries])
    drawn = sample_networks(
        count, seed=seed, without=frozenset(entry.network for entry in table.entries)
    )
    measured = [
        one
        for first in range(0, len(drawn), ROUND)
        for one in time_sampled(drawn[first : first + ROUND], platform=platform, seed=seed)
    ]
    architectures = dict(drawn)
    networks = [architectures[one.network] for one in measured]
    truth = np.array([one.median_ms for one in measured])
    ours = predict_latency(networks, table=table)
    our_ms = np.array([one.median_ms for one in ours])
    roofline, speeds = by_roofline(
        known, known_ms, bytes_each=1.0 if platform.precision == "int8" else 4.0
    )
    others = {"macs": by_macs(known, known_ms)(networks), "roofline": roofline(networks)}
    families: dict[str, list[float]] = {}
    for one, ms in zip(measured, our_ms, strict=True):
        family = MODELS[one.network.partition(":")[0]].family
        families.setdefault(family, []).append(abs(ms / one.median_ms - 1.0))
    misses = sorted(
        (
            (abs(ms / one.median_ms - 1.0), one.network, one.median_ms, float(ms))
            for one, ms in zip(measured, our_ms, strict=True)
        ),
        reverse=True,
    )
    return {
        "platform": table.platform,
        "calibration": {
            "networks": len(table.entries),
            "seconds": round(table.seconds, 1),
            "held_out": table.held_out.model_dump(),
        },
        "networks": len(networks),
        "disturbed": sum(one.disturbed for one in measured),
        "ours": judge(ours, list(truth)).model_dump(),
        **{name: errors(values, truth) for name, values in others.items()},
        "roofline_speeds": speeds,
        "choosing": {
            "ours": choose(networks, our_ms, truth),
            **{name: choose(networks, values, truth) for name, values in others.items()},
        },
        "by_family": {
            family: {
                "networks": len(found),
                "mape": float(np.mean(found)),
                "within_10_percent": float(np.mean(np.array(found) <= 0.1)),
            }
            for family, found in sorted(families.items())
        },
        "worst": [
            {"network": name, "measured_ms": ms, "predicted_ms": said, "error": error}
            for error, name, ms, said in misses[:10]
        ],
        "measured_ms": {one.network: round(one.median_ms, 4) for one in measured},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", action="append", required=True)
    parser.add_argument("--networks", type=int, default=160)
    parser.add_argument("--time", type=float, default=600.0, help="s of each calibration")
    options = parser.parse_args()
    results = json.loads(RESULT.read_text())["platforms"] if RESULT.exists() else []
    for on in options.on:
        for table in calibrate(on, time_s=options.time):
            found = {
                "collected": datetime.now(UTC).isoformat(timespec="seconds"),
                **examine(table, count=options.networks, seed=SEED),
            }
            print(json.dumps(found, indent=1), flush=True)
            others = [one for one in results if one["platform"] != found["platform"]]
            results = [*others, found]
            about = {
                "machine": host.platform(),
                "versions": {
                    name: version(name)
                    for name in ("featherweight", "onnxruntime", "openvino", "scikit-learn")
                },
                "platforms": results,
            }
            RESULT.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
