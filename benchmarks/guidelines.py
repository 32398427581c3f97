"""Whether `guidelines` finds what networks were built to do wrong, and whether its figures hold.

    python benchmarks/guidelines.py [--on local/onnxruntime:threads=1 local/openvino:threads=1]

Five networks that each break one rule, and three of the zoo, are advised on. Each advised change is
then timed anew, in a process of its own beside the unchanged network: the saving that was named
against the saving that came out, and beside it what multiply-adds and a roofline foretell. On
EfficientNet-Lite0 the same. With `--tables` also ShuffleNetV2's four tables on every platform.
Writes results/guidelines.json after every network; goes on where it was cut.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from photographs import about

from featherweight.advising.experiment import run_experiment
from featherweight.advising.guideline import Plan
from featherweight.advising.guidelines import advise, proposals_for
from featherweight.advising.paper_networks import Chain, paper_networks, repeated
from featherweight.advising.turns import TurnsTimer
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.errors import DeviceError, UnsupportedError
from featherweight.exporting.platforms import Platform, parse_platform
from featherweight.measuring.roofline import Roof, measure_roofline
from featherweight.networks.graphs import as_graph
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile

RESULT = Path(__file__).parent / "results" / "guidelines.json"
ON = ("local/onnxruntime:threads=1", "local/openvino:threads=1")
TABLES = (
    "local/onnxruntime:threads=1",
    "local/onnxruntime:threads=1,precision=int8",
    "local/openvino:threads=1",
    "local/openvino:threads=1,precision=int8",
    "local/ncnn:threads=1",
)
ZOO = {"shufflenet_v1_g8": "G2", "ghostnet": "G3", "mobilenet_v3_small": "G4"}
CLEAN = "efficientnet_lite0"
SAMPLES, ATTEMPTS = 100, 3


def odd(chain: Chain) -> None:
    chain.conv(33).relu().conv(49).relu()


def built() -> dict[str, tuple[Architecture, str]]:
    """Return networks that each break one rule -> with its name."""
    wanted = {"G1": "1:12", "G2": "g = 8", "G3": "4 in parallel", "G4": "ReLU and shortcut"}
    found = {
        f"built for {one.guideline}": (one.architecture, one.guideline)
        for one in paper_networks()
        if wanted[one.guideline] == one.setting and one.multiple == 2
    }
    found["built for width"] = (repeated(49, odd), "width")
    for name, rule in ZOO.items():
        found[name] = (resolve_architecture(name), rule)
    found[CLEAN] = (resolve_architecture(CLEAN), "")
    return found


def roof_ms(network: Architecture, roof: Roof) -> float:
    """Return the ms of a network whose layers each reach the roof."""
    seconds = 0.0
    for layer in profile(network).layers:
        moved = layer.memory_access_bytes or 0
        arithmetic = (layer.flops or 0) / (roof.gflop_per_s * 1e9)
        seconds += max(arithmetic, moved / (roof.cache_gb_per_s * 1e9))
    return 1e3 * seconds


def timed_again(network: Architecture, variant: Architecture, platform: Platform) -> Latency:
    """Return what a variant takes over the network, in a process of its own."""
    for attempt in range(ATTEMPTS):
        try:
            found = TurnsTimer(network, platform, seed=7).time([variant], samples=SAMPLES).ratios[0]
        except DeviceError as disturbed:
            print(disturbed, flush=True)
            if attempt == ATTEMPTS - 1:
                raise
        else:
            assert found is not None
            return found
    raise AssertionError(ATTEMPTS)


def roof_of(on: str) -> Roof | None:
    """Return the roof of a platform; `None` where a runtime skips what it is measured with."""
    try:
        return measure_roofline([CLEAN], on=on).roof
    except DeviceError as error:
        print(on, error, flush=True)
        return None


def checked(architecture: Architecture, on: str, roof: Roof | None) -> dict[str, Any]:
    """Advise, then time every advised change anew beside the network."""
    platform = parse_platform(on)
    advice = advise(architecture, platform)
    network = as_graph(architecture)
    variants = {
        (one.guideline, one.layers, one.finding): one.variant
        for one in proposals_for(Plan(network))
    }
    rows = []
    for one in advice.findings:
        variant = variants[one.guideline, one.layers, one.finding]
        again = timed_again(network, variant, platform)
        rows.append(
            {
                "guideline": one.guideline,
                "layer": one.layer,
                "finding": one.finding,
                "advice": one.advice,
                "cost_ms": one.cost_ms,
                "named_ratio": one.ratio,
                "named_interval": one.ratio_interval,
                "ratio": again.median_ms,
                "interval": again.interval_ms,
                "macs_ratio": one.macs_ratio,
                "roofline_ratio": roof and roof_ms(variant, roof) / roof_ms(network, roof),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return {
        "ms": advice.median_ms,
        "noise": advice.noise,
        "seconds": advice.seconds,
        "measuring_share": advice.measuring_s / advice.seconds,
        "tried": len(advice.findings) + len(advice.untouched),
        "findings": rows,
    }


def until_quiet(found: dict[str, Any], key: str, run: Any) -> None:
    """Note what a run gives, or why it gave nothing; again where the machine was disturbed."""
    for _ in range(ATTEMPTS):
        if key in found and "error" not in found[key]:
            return
        try:
            found[key] = run()
        except (DeviceError, UnsupportedError) as error:
            found[key] = {"error": str(error)}
            print(key, error, flush=True)


def summary(platforms: dict[str, Any]) -> dict[str, Any]:
    rules = {name: rule for name, (_, rule) in built().items()}
    found: dict[str, Any] = {}
    every: list[dict[str, Any]] = []
    for on, networks in platforms.items():
        rows = [row for one in networks.values() for row in one.get("findings", ())]
        first = {
            name: one["findings"][0]["guideline"] if one.get("findings") else None
            for name, one in networks.items()
        }
        found[on] = {
            "first": first,
            "right_rule_first": sum(
                rule == rules[name] for name, rule in first.items() if rules[name]
            ),
            **foretold(rows),
        }
        every += rows
    return {**found, "all": foretold(every)}


def foretold(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how well the ms of changed networks were foretold, and by what."""
    known = {
        by: [row for row in rows if row[by] is not None]
        for by in ("named_ratio", "macs_ratio", "roofline_ratio")
    }
    errors = {
        by: [abs(row["ratio"] - row[by]) / abs(1 - row["ratio"]) for row in own]
        for by, own in known.items()
        if own
    }
    return {
        "findings": len(rows),
        "surely_faster_again": sum(row["interval"][1] < 1 for row in rows),
        "sign_right": {
            by: f"{sum((row[by] < 1) == (row['ratio'] < 1) for row in own)} of {len(own)}"
            for by, own in known.items()
        },
        "mape_of_the_saving": {by: statistics.mean(own) for by, own in errors.items()},
        "median_error_of_the_saving": {by: statistics.median(own) for by, own in errors.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", nargs="*", default=ON)
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    found = {**found, **about(ON[0])}
    found.setdefault("platforms", {})
    found.setdefault("tables", {})

    def note() -> None:
        found["summary"] = summary(found["platforms"])
        RESULT.write_text(json.dumps(found, indent=1) + "\n")

    if options.tables:
        for on in TABLES:
            until_quiet(
                found["tables"], on, lambda on=on: run_experiment(on=on).model_dump(mode="json")
            )
            note()
    for on in options.on:
        roof = roof_of(on)
        own = found["platforms"].setdefault(on, {})
        for name, (architecture, _) in built().items():
            until_quiet(own, name, lambda one=architecture: checked(one, on, roof))  # noqa: B023
            note()
    print(json.dumps(found["summary"], indent=1))


if __name__ == "__main__":
    main()
