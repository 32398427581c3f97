"""What `adapt` predicts for random changes, against whole networks on the clock.

    python benchmarks/adapt_table.py

Of each network the savings of every group and branch are measured once, as `adapt` does. Then 40
random choices (how many changes, which, how narrow) are predicted from that table and measured as
whole networks, which take turns with the parent. Told are the mean relative errors of the latency
and of the saving, and Spearman's rank correlation; the same with savings simply added up, and with
multiply-adds for milliseconds, beside. Writes results/adapt_table.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about
from scipy.stats import spearmanr

from featherweight.adapting.branches import droppable
from featherweight.adapting.changes import changed
from featherweight.adapting.groups import Change, Drop, width_groups
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import change_options
from featherweight.adapting.table import measure_table
from featherweight.architecture import Architecture
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import medians_in_turns
from featherweight.networks.resolve import create_architecture
from featherweight.profiling.profile import profile

RESULT = Path(__file__).parent / "results" / "adapt_table.json"
CASES = {
    "efficientnet_lite0 int8": ("efficientnet_lite0", 160, "int8"),
    "mobilenet_v2 fp32": ("mobilenet_v2", 160, "fp32"),
    "mobilenet_v3_small fp32": ("mobilenet_v3_small", 160, "fp32"),
}
ON = "local/onnxruntime:threads=1"
CHOICES, SAMPLES = 40, 100
LARGEST_SHARE, LEAST_SHARE = 0.9, 0.25


def random_choice(architecture: Architecture, generator: np.random.Generator) -> list[Change]:
    """Return changes of a random share of all groups, and sometimes of branches."""
    share = generator.uniform(0.05, 0.9)
    changes: list[Change] = []
    drops = [one for one in droppable(architecture) if generator.uniform() < 0.3 * share]
    rest = changed(architecture, drops) if drops else architecture
    left = {group.name for group in width_groups(rest)}
    changes += drops
    for group in width_groups(architecture):
        if group.name in left and generator.uniform() < share:
            wanted = generator.uniform(LEAST_SHARE, LARGEST_SHARE)
            changes += group.narrowed((wanted,))
    return changes


def timed(networks: Sequence[Architecture], precision: str, samples: int) -> list[float]:
    found = time_untrained(
        [Untrained(str(k), one, precision) for k, one in enumerate(networks)],
        platform=parse_platform(ON),
        samples=samples,
        max_s_each=0.03 * samples,
        repeat_disturbed=False,
    )
    return medians_in_turns([found[k] for k in range(len(networks))])


def compare(name: str, resolution: int, precision: str, *, seed: int) -> dict[str, Any]:
    architecture = create_architecture(name, resolution=resolution, classes=10)
    started = time.monotonic()
    (present_ms,) = timed([architecture], precision, 2 * SAMPLES)
    savings = measure_table(
        architecture,
        change_options(architecture),
        time=lambda networks: timed(networks, precision, 60),
        present_ms=present_ms,
    )
    table_s = time.monotonic() - started
    generator = np.random.default_rng(seed)
    choices: list[list[Change]] = []
    while len(choices) < CHOICES:
        choice = random_choice(architecture, generator)
        if choice:
            choices.append(choice)
    networks = [changed(architecture, choice) for choice in choices]
    own_ms, *others = timed([architecture, *networks], precision, SAMPLES)
    measured = [present_ms * ms / own_ms for ms in others]
    model = SavingModel(architecture, savings, present_ms=present_ms)
    macs = float(profile(architecture).macs or 1)
    predictions = {
        "table": [model.latency_ms(choice) for choice in choices],
        "savings added up": [present_ms - sum(map(model.saved_ms, one)) for one in choices],
        "multiply-adds": [present_ms * float(profile(one).macs or 0) / macs for one in networks],
    }
    return {
        "present_ms": present_ms,
        "table_s": table_s,
        "changes_in_the_table": len(savings),
        "errors": {
            how: errors(np.array(predicted), np.array(measured), present_ms)
            for how, predicted in predictions.items()
        },
        "choices": [
            {
                "changes": len(choice),
                "branches": sum(isinstance(one, Drop) for one in choice),
                "predicted_ms": predicted,
                "measured_ms": ms,
            }
            for choice, predicted, ms in zip(choices, predictions["table"], measured, strict=True)
        ],
    }


def errors(predicted: np.ndarray, measured: np.ndarray, present_ms: float) -> dict[str, float]:
    saved = present_ms - measured
    return {
        "latency": float(np.mean(np.abs(predicted - measured) / measured)),
        "saving": float(np.mean(np.abs(present_ms - predicted - saved) / np.abs(saved))),
        "bias_of_latency": float(np.mean((predicted - measured) / measured)),
        "rank": float(spearmanr(predicted, measured).statistic),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    rows = {}
    for name in options.cases:
        rows[name] = compare(*CASES[name], seed=options.seed)
        print(name, json.dumps(rows[name]["errors"], indent=1), flush=True)
        RESULT.write_text(json.dumps({**about(ON), "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
