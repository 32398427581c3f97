"""What a soft and a hard reward make the paper's controller propose, on NAS-Bench-Macro.

    python benchmarks/search_rewards.py ../shared/data/nas_bench_macro [--seeds 5]

600 networks each, T = 0.5 ms, accuracies and milliseconds from the table. `soft`: accuracy x
(latency / T)^-0.07; `paper's hard`: accuracy up to T, and x (latency / T)^-1 above it; `never
trained`: what is too slow costs nothing and scores nothing, as `search` does it. Deciles of the
milliseconds of the last 200 proposals. Beside them, for three T, the network with the best soft and
the best hard reward of the whole table: T cannot change the former. Writes
results/search_rewards.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from photographs import about

from featherweight.searching.reward import Reward, fitted_exponent
from featherweight.searching.sampler import SAMPLERS, Fate, Seen, propose_next
from featherweight.searching.space import SPACES, Point, SpaceSettings

RESULTS = Path(__file__).parent / "results" / "search_rewards.json"
SPACE = SPACES["nas_bench_macro"](SpaceSettings((3, 32, 32), 10))
BUDGET_MS, TRIALS, LAST = 0.5, 600, 200
SAMPLER = "ppo"


def read_table(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return accuracy in 0..1 and milliseconds by key."""
    rows = json.loads((folder / "nas-bench-macro_cifar10.json").read_text())
    with (folder / "ort_cpu_1thread.csv").open() as file:
        times = {row["arch"]: float(row["ort_ms_median"]) for row in csv.DictReader(file)}
    accuracy, ms = {}, {}
    for key in rows:
        if key in times:
            canonical = SPACE.key(tuple(map(int, key)))
            accuracy[canonical] = float(np.mean(rows[key]["test_acc"])) / 100
            ms[canonical] = times[key]
    return accuracy, ms


def papers_hard(accuracy: float, latency_ms: float) -> float:
    """Return the reward of section 3.1 with exponents 0 and -1."""
    return accuracy * min(1.0, BUDGET_MS / latency_ms)


def proposed(
    accuracy: dict[str, float],
    ms: dict[str, float],
    reward: Callable[[float, float], float],
    *,
    filtered: bool,
    seed: int,
) -> list[float]:
    """Return the milliseconds of the last proposals of a search."""
    sampler, seen, times = SAMPLERS[SAMPLER](SPACE), [], []

    def judge(point: Point) -> Fate:
        return "slow" if filtered and ms[SPACE.key(point)] > BUDGET_MS else "new"

    for trial in range(TRIALS):
        answer = propose_next(sampler, seen, trial=trial, seed=seed, judge=judge)
        key = SPACE.key(answer.point)
        seen += [Seen(point, 0.0, trained=False, trial=trial) for point in answer.slow]
        score = reward(accuracy[key], ms[key])
        seen.append(Seen(answer.point, score, trained=True, trial=trial))
        times.append(ms[key])
    return times[-LAST:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    accuracy, ms = read_table(options.data)
    rewards: dict[str, tuple[Callable[[float, float], float], bool]] = {
        "soft": (Reward(BUDGET_MS, "soft"), False),
        "paper's hard": (papers_hard, False),
        "never trained": (Reward(BUDGET_MS, "hard"), True),
    }
    told: dict[str, object] = {**about("none"), "budget_ms": BUDGET_MS, "seeds": options.seeds}
    deciles = {"all networks": np.quantile(list(ms.values()), np.linspace(0, 1, 11)).tolist()}
    for name, (reward, filtered) in rewards.items():
        times = [
            one
            for seed in range(options.seeds)
            for one in proposed(accuracy, ms, reward, filtered=filtered, seed=seed)
        ]
        deciles[name] = np.quantile(times, np.linspace(0, 1, 11)).tolist()
        print(name, np.round(deciles[name], 3), flush=True)
    best = {
        kind: {
            str(budget): max(ms, key=lambda key: Reward(budget, kind)(accuracy[key], ms[key]))
            for budget in (0.4, 0.5, 0.6)
        }
        for kind in ("soft", "hard")
    }
    keys = list(ms)
    fitted = fitted_exponent([accuracy[key] for key in keys], [ms[key] for key in keys])
    told |= {"deciles_ms": deciles, "best_by_budget": best, "fitted_exponent": fitted}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(best), fitted)


if __name__ == "__main__":
    main()
