"""MnasNet's space by stages against the flat one, where every layer is decided for itself.

    python benchmarks/search_flat.py [--seeds 5] [--samplers predictor evolution random]

Equal numbers of networks, the same worth of every network: a point for each doubling of a block's
multiply-adds, and points of each option of each stage, drawn once per seed; of them a share is that
of the single layer (`own`): 0 = layers of a stage want the same, 1 = each wants something of its
own. A training is off by 0.3 points. At most 300 M multiply-adds, known before. The table says how
many points the best by noise of the first N has more in the space by stages than in the flat one:
median over seeds. The worth is made up: it says what the samplers do, not what MnasNet's accuracies
are. Writes results/search_flat.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about
from search_rows import read_rows, write_rows

from featherweight.architecture import Architecture, BlockSpec
from featherweight.profiling.profile import profile
from featherweight.searching.sampler import SAMPLERS, Fate, Seen, propose_next
from featherweight.searching.space import SPACES, Point, SpaceSettings

RESULTS = Path(__file__).parent / "results" / "search_flat.json"
COUNTS = (30, 50, 100, 200)
MOST_MACS = 300e6
NOISE, SPREAD, PER_DOUBLING = 0.3, 0.3, 0.5
"""Points: of a training, of an option, and for twice the multiply-adds."""
SHAPE = SpaceSettings((3, 224, 224), 1000)
STAGED, FLAT = (SPACES[name](SHAPE) for name in ("mnasnet", "mnasnet_flat"))


class Worth:
    """Points of every network of both spaces.

    Args:
        seed: of what options are worth.
        own: share of that which is of the single layer.
    """

    def __init__(self, seed: int, own: float) -> None:
        self._seed, self._own = seed, own
        self._drawn: dict[str, float] = {}

    def __call__(self, space_name: str, point: Point) -> float:
        """Return the points of a network."""
        space = STAGED if space_name == "mnasnet" else FLAT
        network = space.decode(point)
        total = PER_DOUBLING * math.log2(macs(network))
        for place, block in zip(space.places(point), network.blocks, strict=True):
            stage = place.partition(".")[0]
            for option in options_of(block):
                total += (1.0 - self._own) * self._value(f"{stage}:{option}")
                total += self._own * self._value(f"{place}:{option}")
        return total

    def _value(self, name: str) -> float:
        if name not in self._drawn:
            digits = [self._seed, *name.encode()]
            self._drawn[name] = SPREAD * float(np.random.default_rng(digits).normal())
        return self._drawn[name]


def options_of(block: BlockSpec) -> tuple[str, ...]:
    """Return what was chosen for a block, as the worth counts it."""
    if block.op == "conv":
        kind = "conv"
    elif block.hidden_channels is None:
        kind = "separable"
    else:
        kind = "inverted"
    return (
        kind,
        f"kernel {block.kernel_size}",
        f"gate {bool(block.se_channels)}",
        f"skip {block.skip}",
    )


def macs(network: Architecture) -> float:
    """Return the multiply-adds of a network."""
    return float(profile(network).macs or 0)


def search(name: str, space_name: str, *, seed: int, own: float) -> dict[str, object]:
    """Return the worth of the best by noise after every count of networks."""
    space = STAGED if space_name == "mnasnet" else FLAT
    worth, sampler = Worth(seed, own), SAMPLERS[name](space)
    noise = np.random.default_rng((seed, 2))
    fates: dict[Point, Fate] = {}
    proposed: set[str] = set()

    def judge(point: Point) -> Fate:
        if point not in fates:
            fates[point] = "slow" if macs(space.decode(point)) > MOST_MACS else "new"
        # Many points of the flat space are one network: choices of layers that it has not.
        return "known" if space.key(point) in proposed else fates[point]

    seen: list[Seen] = []
    found: list[tuple[float, float]] = []
    for trial in range(max(COUNTS)):
        answer = propose_next(sampler, seen, trial=trial, seed=seed, judge=judge)
        proposed.add(space.key(answer.point))
        points = worth(space_name, answer.point)
        score = points + NOISE * float(noise.normal())
        seen += [Seen(point, 0.0, trained=False, trial=trial) for point in answer.slow]
        seen.append(Seen(answer.point, 0.5 + score / 100, trained=True, trial=trial))
        found.append((score, points))
    return {
        "sampler": name,
        "space": space_name,
        "own": own,
        "seed": seed,
        "points": {str(n): max(found[:n])[1] for n in COUNTS},
    }


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Return how many points the space by stages has more, by sampler and share of its own."""
    told: dict[str, dict[str, float]] = {}
    for name, own in dict.fromkeys((row["sampler"], row["own"]) for row in rows):
        for n in map(str, COUNTS):
            gaps = [
                one["points"][n] - other["points"][n]
                for one in rows
                for other in rows
                if (one["space"], other["space"]) == ("mnasnet", "mnasnet_flat")
                and one["seed"] == other["seed"]
                and (one["sampler"], one["own"]) == (other["sampler"], other["own"]) == (name, own)
            ]
            if gaps:
                told.setdefault(f"{name}, own {own:g}", {})[n] = round(float(np.median(gaps)), 2)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samplers", nargs="+", default=["predictor", "evolution", "random"])
    options = parser.parse_args()
    told: dict[str, Any] = {"rows": read_rows(RESULTS)}
    done = {(r["sampler"], r["space"], r["own"], r["seed"]) for r in told["rows"]}
    for seed in range(options.seeds):
        for name in options.samplers:
            for own in (0.0, 0.5, 1.0):
                for space in ("mnasnet", "mnasnet_flat"):
                    if (name, space, own, seed) in done:
                        continue
                    told["rows"].append(search(name, space, seed=seed, own=own))
                    print(json.dumps(told["rows"][-1]), flush=True)
                told |= {**about("none"), "points_by_stages_less_flat": summary(told["rows"])}
                write_rows(RESULTS, told)
    print(json.dumps(told["points_by_stages_less_flat"], indent=1))


if __name__ == "__main__":
    main()
