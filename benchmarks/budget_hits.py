"""Ask an earlier fit for many budgets, with float32 alone and with int8 allowed; count the hits.

    python benchmarks/budget_hits.py runs/fit-clothing-... --lowest 1.2 --highest 3.0

Every answer is a `featherweight fit --from RUN`: proven in a fresh process on the test split. A
hit is a verdict `met`; utilisation is measured median / budget. Writes results/budget_hits.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import featherweight as fw

RESULT = Path(__file__).parent / "results" / "budget_hits.json"
MODES = {"fp32": ("fp32",), "fp32 or int8": ("fp32", "int8")}
_ENVIRONMENT = ("python", "platform", "cpu", "cores", "versions")


def budgets_ms(lowest: float, highest: float, count: int) -> list[float]:
    """Return budgets at equal ratios."""
    ratio = (highest / lowest) ** (1 / (count - 1))
    return [round(lowest * ratio**k, 3) for k in range(count)]


def ask(run: Path, budget_ms: float, mode: str, work: Path) -> dict[str, Any]:
    """Return what one budget gave."""
    start = time.perf_counter()
    result = fw.fit(
        from_run=run,
        latency=budget_ms,
        precisions=MODES[mode],
        output=work / f"{budget_ms}-{mode.replace(' ', '-')}",
    )
    summary = result.summary
    return {
        "budget_ms": budget_ms,
        "allowed": mode,
        "verdict": summary.verdict,
        "network": summary.network,
        "precision": summary.precision,
        "median_ms": None if summary.measured is None else summary.measured.median_ms,
        "interval_ms": None if summary.measured is None else summary.measured.interval_ms,
        "utilisation": summary.utilisation,
        "accuracy": None if summary.accuracy is None else summary.accuracy.artifact,
        "accuracy_interval": None if summary.accuracy is None else summary.accuracy.interval,
        "nearest_feasible_ms": summary.nearest_feasible_ms,
        "seconds": time.perf_counter() - start,
    }


def summarise(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return hits and utilisation of one mode."""
    met = [one for one in answers if one["verdict"] == "met"]
    used = [one["utilisation"] for one in met]
    return {
        "budgets": len(answers),
        "met": len(met),
        "not_met": sum(one["verdict"] == "not_met" for one in answers),
        "infeasible": sum(one["verdict"] == "infeasible" for one in answers),
        "utilisation_median": statistics.median(used) if used else None,
        "utilisation_least": min(used, default=None),
        "seconds_median": statistics.median(one["seconds"] for one in answers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of a fit")
    parser.add_argument("--lowest", type=float, required=True, help="ms")
    parser.add_argument("--highest", type=float, required=True, help="ms")
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    environment = json.loads((options.run / "environment.json").read_text())
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for budget_ms in budgets_ms(options.lowest, options.highest, options.count):
            for mode in MODES:
                answers.append(ask(options.run, budget_ms, mode, Path(work)))
                print(json.dumps(answers[-1]), flush=True)
                write(answers, environment)  # what was asked so far survives a cut
    print(json.dumps(json.loads(RESULT.read_text())["summary"], indent=1))


def write(answers: list[dict[str, Any]], environment: dict[str, Any]) -> None:
    """Write the answers so far with their summary."""
    by_mode = {mode: [one for one in answers if one["allowed"] == mode] for mode in MODES}
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {key: environment[key] for key in _ENVIRONMENT if key in environment},
        "summary": {mode: summarise(given) for mode, given in by_mode.items() if given},
        "answers": answers,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
