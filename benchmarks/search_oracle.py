"""Samplers in the MnasNet space, on accuracies and milliseconds that are sums over its choices.

    python benchmarks/search_oracle.py [--seeds 3] [--samplers predictor evolution ...]

432^7 networks, which no sampler can list. Every option of every choice has milliseconds and points
of its own, drawn once per seed (slower ones are better on average); a training is off by 0.3
points. The limit admits 30 % of even draws, and is known before training; what is best within it is
found exactly by dynamic programming. Regret is its accuracy less that of the network with the best
noisy one among the first N, in points: median over seeds. Goes on where it was cut.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about
from search_rows import read_rows, write_rows

from featherweight.adapting.knapsack import Option, choose_options
from featherweight.searching.sampler import SAMPLERS, Fate, Seen, propose_next
from featherweight.searching.space import SPACES, Point, SpaceSettings, random_point

RESULTS = Path(__file__).parent / "results" / "search_oracle.json"
COUNTS = (30, 50, 100, 200)
NOISE, SPREAD = 0.3, 2.0
"""Points: of a training, and of even draws."""
SHARE = 0.3
SPACE = SPACES["mnasnet"](SpaceSettings((3, 224, 224), 1000))


class Oracle:
    """Points and milliseconds of every network.

    Args:
        seed: of both.
    """

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng((seed, 1))
        self.ms = [generator.random(len(one.options)) for one in SPACE.choices]
        raw = [ms + 0.5 * generator.normal(size=len(ms)) for ms in self.ms]
        draws = [random_point(SPACE, generator) for _ in range(4000)]
        scale = SPREAD / np.std([_sum(raw, point) for point in draws])
        self.points = [scale * one for one in raw]
        self.limit = float(np.quantile([_sum(self.ms, point) for point in draws], SHARE))
        groups = [
            [Option(float(ms), float(points)) for ms, points in zip(*pair, strict=True)]
            for pair in zip(self.ms, self.points, strict=True)
        ]
        chosen = choose_options(groups, budget=self.limit)
        assert chosen is not None
        self.best = _sum(self.points, tuple(chosen))

    def regret(self, point: Point) -> float:
        """Return what the best network has more, in points."""
        return self.best - _sum(self.points, point)


def _sum(tables: list[np.ndarray], point: Point) -> float:
    return float(sum(table[option] for table, option in zip(tables, point, strict=True)))


def search(name: str, *, seed: int) -> dict[str, object]:
    """Return the regret after every count of trained networks."""
    oracle, sampler = Oracle(seed), SAMPLERS[name](SPACE)
    noise = np.random.default_rng((seed, 2))
    proposed: set[Point] = set()

    def judge(point: Point) -> Fate:
        if point in proposed:
            return "known"
        return "slow" if _sum(oracle.ms, point) > oracle.limit else "new"

    seen: list[Seen] = []
    found: list[tuple[float, Point]] = []
    started = time.perf_counter()
    for trial in range(max(COUNTS)):
        answer = propose_next(sampler, seen, trial=trial, seed=seed, judge=judge)
        proposed.add(answer.point)
        score = _sum(oracle.points, answer.point) + NOISE * float(noise.normal())
        seen += [Seen(point, 0.0, trained=False, trial=trial) for point in answer.slow]
        seen.append(Seen(answer.point, 0.7 + score / 100, trained=True, trial=trial))
        found.append((score, answer.point))
    return {
        "sampler": name,
        "seed": seed,
        "regret": {str(n): oracle.regret(max(found[:n])[1]) for n in COUNTS},
        "seconds": round(time.perf_counter() - started, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    options = parser.parse_args()
    told: dict[str, Any] = {"rows": read_rows(RESULTS)}
    done = {(row["sampler"], row["seed"]) for row in told["rows"]}
    for seed in range(options.seeds):
        for name in options.samplers:
            if (name, seed) not in done:
                told["rows"].append(search(name, seed=seed))
                print(json.dumps(told["rows"][-1]), flush=True)
                told |= {**about("none"), "median_regret": summary(told["rows"])}
                write_rows(RESULTS, told)
    print(json.dumps(told["median_regret"], indent=1))


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Return the median over seeds."""
    return {
        name: {
            str(n): round(
                float(np.median([r["regret"][str(n)] for r in rows if r["sampler"] == name])), 3
            )
            for n in COUNTS
        }
        for name in dict.fromkeys(row["sampler"] for row in rows)
    }


if __name__ == "__main__":
    main()
