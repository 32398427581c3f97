"""Samplers on NAS-Bench-Macro with measured milliseconds: regret after N trained networks.

    python benchmarks/search_tables.py ../shared/data/nas_bench_macro [--seeds 20]

A hard limit T, known before training; one of a network's three accuracies as the noise of its
training; regret is the best mean accuracy within T less that of the network with the best noisy
one among the first N, in points. The median over seeds, the mean over T. Beside them the network
of most multiply-adds that fits, which trains nothing. Goes on where it was cut.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from photographs import about
from search_rows import read_rows, write_rows

from featherweight.searching.sampler import SAMPLERS, Fate, Seen, propose_next
from featherweight.searching.space import SPACES, Point, SpaceSettings

RESULTS = Path(__file__).parent / "results" / "search_tables.json"
BUDGETS_MS = (0.4, 0.5, 0.6, 0.7)
COUNTS = (30, 50, 100, 200)
SPACE = SPACES["nas_bench_macro"](SpaceSettings((3, 32, 32), 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    options = parser.parse_args()
    table = Table(options.data)
    told: dict[str, Any] = {"rows": read_rows(RESULTS)}
    done = {(row["sampler"], row["seed"], row["budget_ms"]) for row in told["rows"]}
    for sampler in options.samplers:
        for seed in range(options.seeds):
            for budget_ms in BUDGETS_MS:
                if (sampler, seed, budget_ms) not in done:
                    told["rows"].append(table.search(sampler, seed=seed, budget_ms=budget_ms))
            told |= {**about("none"), "seeds": seed + 1}
            told["median_regret"] = summary(told["rows"])
            told["most_multiply_adds"] = [table.largest(budget_ms) for budget_ms in BUDGETS_MS]
            write_rows(RESULTS, told)
        print(sampler, json.dumps(told["median_regret"][sampler]))
    print("most multiply-adds that fit", told["most_multiply_adds"])


class Table:
    """Accuracies of three trainings, and milliseconds, of every network."""

    def __init__(self, folder: Path) -> None:
        rows = json.loads((folder / "nas-bench-macro_cifar10.json").read_text())
        self.runs = {key: rows[key]["test_acc"] for key in rows}
        self.macs = {key: rows[key]["flops"] for key in rows}
        with (folder / "ort_cpu_1thread.csv").open() as file:
            times = {row["arch"]: float(row["ort_ms_median"]) for row in csv.DictReader(file)}
        self.ms: dict[str, float] = {}
        for key in rows:
            canonical = SPACE.key(tuple(map(int, key)))
            if key in times:
                self.ms[canonical] = times[key]
        self.best = {
            budget: max(np.mean(self.runs[key]) for key in self.ms if self.ms[key] <= budget)
            for budget in BUDGETS_MS
        }

    def regret(self, key: str, budget_ms: float) -> float:
        """Return what the best within the budget has more, in points."""
        return float(self.best[budget_ms] - np.mean(self.runs[key]))

    def largest(self, budget_ms: float) -> float:
        """Return the regret of the most multiply-adds that fit."""
        fits = [key for key in self.ms if self.ms[key] <= budget_ms]
        return self.regret(max(fits, key=self.macs.__getitem__), budget_ms)

    def search(self, sampler_name: str, *, seed: int, budget_ms: float) -> dict[str, object]:
        """Return the regret after every count of trained networks."""
        sampler, noise = SAMPLERS[sampler_name](SPACE), np.random.default_rng((seed, 99))
        draw = {key: float(self.runs[key][noise.integers(3)]) for key in self.ms}
        proposed: set[str] = set()

        def judge(point: Point) -> Fate:
            key = SPACE.key(point)
            if self.ms[key] > budget_ms:
                return "slow"
            return "known" if key in proposed else "new"

        seen: list[Seen] = []
        found: list[tuple[float, str]] = []
        slow: list[int] = []
        started = time.perf_counter()
        for trial in range(max(COUNTS)):
            answer = propose_next(sampler, seen, trial=trial, seed=seed, judge=judge)
            key = SPACE.key(answer.point)
            proposed.add(key)
            seen += [Seen(point, 0.0, trained=False, trial=trial) for point in answer.slow]
            seen.append(Seen(answer.point, draw[key] / 100, trained=True, trial=trial))
            found.append((draw[key], key))
            slow.append(len(answer.slow))
        return {
            "sampler": sampler_name,
            "seed": seed,
            "budget_ms": budget_ms,
            "regret": {str(n): self.regret(max(found[:n])[1], budget_ms) for n in COUNTS},
            "feasible": None if sampler_name == "predictor" else shares(slow),
            "seconds": round(time.perf_counter() - started, 2),
        }


def shares(slow: list[int]) -> list[float]:
    """Return the share of draws within the budget, of 20 trials at a time.

    Of a trial of PPO at most 20 slow draws are known; the predictor asks of hundreds beforehand.
    """
    return [
        round(len(own) / (len(own) + sum(own)), 3)
        for own in (slow[n : n + 20] for n in range(0, len(slow), 20))
    ]


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Median over seeds, mean over budgets."""
    told: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["sampler"] for row in rows):
        of = [row for row in rows if row["sampler"] == name]
        told[name] = {
            str(n): round(
                float(
                    np.mean(
                        [
                            np.median(
                                [row["regret"][str(n)] for row in of if row["budget_ms"] == t]
                            )
                            for t in BUDGETS_MS
                        ]
                    )
                ),
                3,
            )
            for n in COUNTS
        }
    return told


if __name__ == "__main__":
    main()
