"""What a fit run writes about itself and the report reads: records, no behaviour.

They stand below `fitting`, which writes them, so that a run can be read without training code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import field_serializer

from featherweight.budget import Budget
from featherweight.records import Record

__all__ = [
    "Candidate",
    "CurvePoint",
    "FileAccuracy",
    "FitSummary",
    "MeasuredLatency",
    "Shortfall",
    "Verdict",
    "latest_candidates",
]

Verdict = Literal["met", "too_inaccurate", "not_met", "infeasible"]

Shortfall = Literal["below_asked", "guessing"]
"""Below the accuracy that was asked for, or not surely above that of the commonest class."""


class Candidate(Record):
    """One line of candidates.jsonl: a network at a resolution and precision that was considered.

    A later line for the same (name, precision) supersedes an earlier one whole.

    Attributes:
        name: network with its settings, such as `efficientnet_lite0:resolution=160`.
        architecture_digest: `Architecture.digest`.
        family: the zoo's family, or what produced the network.
        width: the zoo's width multiplier; `None` = the network has none.
        params, macs: `None` while an operator is unknown to the counter.
        interval_ms: 95 % interval of the median latency.
        predicted_ms: latency foretold by a table or a fit, where it was not measured.
        status: how far it came; `kept` = on the accuracy-latency curve with its files.
        reason: why it was rejected or kept, one sentence.
        stage: the stage that wrote this line.
    """

    name: str
    architecture_digest: str
    family: str
    width: float | None = None
    resolution: int
    precision: str
    runtime: str
    params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    predicted_ms: float | None = None
    pretrained: bool = False
    status: Literal["rejected", "raced", "finalist", "winner", "kept"]
    reason: str = ""
    val_accuracy: float | None = None
    val_loss: float | None = None
    stage: str


def latest_candidates(lines: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the last line of every (name, precision), in the order of first appearance."""
    latest: dict[tuple[str, str], Candidate] = {}
    for line in lines:
        latest[line.name, line.precision] = line
    return tuple(latest.values())


class MeasuredLatency(Record):
    """Median latency of the exported file and its 95 % interval, from the `prove` stage."""

    median_ms: float
    interval_ms: tuple[float, float]


class FileAccuracy(Record):
    """Accuracy of the exported file, with the evidence behind it.

    Attributes:
        network: accuracy of the trained network before export, on the same pictures; `None` = not
            noted.
        artifact: accuracy of the exported file.
        split: where the pictures come from.
        n: number of pictures.
        interval: 95 % interval (Wilson) of `artifact`.
    """

    network: float | None
    artifact: float
    split: str
    n: int
    interval: tuple[float, float]


class CurvePoint(Record):
    """One network of the accuracy-latency curve; its files are in the run directory."""

    name: str
    precision: str
    resolution: int
    latency_ms: float
    interval_ms: tuple[float, float] | None = None
    val_accuracy: float
    architecture_digest: str


class FitSummary(Record):
    """summary.json: the answer of a fit run; its plain form is what `fit --json` prints.

    Attributes:
        verdict: `met` = the upper end of the interval is within the budget and the file answers
            as well as it must; `too_inaccurate` = only the first; `infeasible` = no candidate
            measured fits, `nearest_feasible_ms` names the least that would.
        shortfall: why the accuracy is too low; `None` = it is not.
        min_accuracy: what the user asked for; `None` = nothing.
        commonest_class: share of the test pictures that are of the commonest class: what always
            answering with that class would reach.
        budget: `{"latency_ms": ...}`.
        platform: text form of the platform.
        utilisation: measured median / budget.
        balanced_accuracy: of the file's split; `None` = the classes are even, or unknown.
        artifact, bundle, report: paths relative to the run directory.
        images_seen, images_per_s: of the final training.
        foreign_cpu_share: share of the processor other processes used meanwhile, in [0, 1].
        seconds: wall clock of the whole command, summed over resumed attempts.
        pretrained: where the first weights came from; `None` = random.
        network: name of the network that ships.
    """

    verdict: Verdict
    shortfall: Shortfall | None = None
    min_accuracy: float | None = None
    commonest_class: float | None = None
    budget: Budget
    platform: str
    measured: MeasuredLatency | None = None
    utilisation: float | None = None
    accuracy: FileAccuracy | None = None
    balanced_accuracy: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    artifact: str | None = None
    bundle: str | None = None
    report: str | None = None
    run_directory: str
    nearest_feasible_ms: float | None = None
    network: str | None = None
    precision: str | None = None
    pretrained: str | None = None
    images_seen: int | None = None
    images_per_s: float | None = None
    foreign_cpu_share: float | None = None
    seconds: float | None = None

    @field_serializer("budget")
    def _limits_only(self, budget: Budget) -> dict[str, Any]:
        return budget.model_dump(exclude_none=True)

    @property
    def budget_ms(self) -> float:
        """The latency limit.

        Raises:
            ValueError: the budget has no latency limit.
        """
        if self.budget.latency_ms is None:
            raise ValueError("the summary's budget has no latency_ms")
        return self.budget.latency_ms
