"""How sharply two networks are told apart: the ratio of two medians, and the median of ratios.

    python benchmarks/turns.py

EfficientNet-Lite0 at 160, 152 and again 160 pixels take turns as int8 in onnxruntime, one thread,
several times over. Told of each is its ratio to the first, with the 95 % interval, in both ways:
the medians of all samples divided (`ratio_interval`), and the median of what every turn divides to
(`latencies_in_turns`). Writes results/turns.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about

from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import latencies_in_turns, ratio_interval
from featherweight.networks.resolve import create_architecture

RESULT = Path(__file__).parent / "results" / "turns.json"
ON = "local/onnxruntime:threads=1"
PIXELS = (160, 152, 160)
TURNS = 160


def told(seed: int) -> dict[str, Any]:
    wanted = [
        Untrained(str(k), create_architecture("efficientnet_lite0", resolution=side), "int8")
        for k, side in enumerate(PIXELS)
    ]
    found = time_untrained(
        wanted,
        platform=parse_platform(ON),
        samples=TURNS,
        max_s_each=6.0,
        seed=seed,
        repeat_disturbed=False,
    )
    first, *others = (found[k] for k in range(len(PIXELS)))
    in_turns = latencies_in_turns([first, *others])[1:]
    return {
        "first_ms": first.median_ms,
        "rows": [
            {
                "pixels": side,
                "medians": [
                    other.median_ms / first.median_ms,
                    *ratio_interval(other.samples_ms, over=first.samples_ms),
                ],
                "turns": [
                    one.median_ms / first.median_ms,
                    *(end / first.median_ms for end in one.interval_ms),
                ],
            }
            for side, other, one in zip(PIXELS[1:], others, in_turns, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    runs = [told(seed) for seed in range(options.repeats)]
    widths = {
        way: float(np.mean([row[way][2] - row[way][1] for run in runs for row in run["rows"]]))
        for way in ("medians", "turns")
    }
    found = {**about(ON), "turns": TURNS, "mean_width_of_the_interval": widths, "runs": runs}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    for run in runs:
        print(json.dumps(run), flush=True)
    print(widths)


if __name__ == "__main__":
    main()
