"""What a fit answers, and its report reads: the record of summary.json.

They stand below `fitting`, which writes them, so that a run can be read without training code.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from featherweight.budget import Budget, Latency
from featherweight.candidates import CurvePoint, FileAccuracy
from featherweight.records import Record

__all__ = ["FitSummary", "Shortfall", "Verdict"]

Verdict = Literal["met", "too_inaccurate", "not_met", "infeasible"]

Shortfall = Literal["below_asked", "guessing"]
"""Below the accuracy that was asked for, or not surely above that of the commonest class."""


class FitSummary(Record):
    """summary.json: the answer of a fit run; its plain form is what `fit --json` prints.

    Attributes:
        verdict: `met` = the upper end of the interval is within the budget and the file answers
            as well as it must; `too_inaccurate` = only the first; `infeasible` = no candidate
            measured fits, `nearest_feasible_ms` names the least that would.
        shortfall: why the accuracy is too low; `None` = it is not.
        min_accuracy: what the user asked for; `None` = nothing.
        commonest_class: share of the test pictures that are of the commonest class: what always
            answering with that class would reach; with boxes the AP of what finds next to nothing.
        budget: `{"latency_ms": ...}`.
        platform: text form of the platform.
        utilisation: measured median / budget.
        metric: what `accuracy` is: `ap`, average precision, where the data has boxes.
        details: further figures of the file on its split, such as `ap50`.
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
    measured: Latency | None = None
    utilisation: float | None = None
    accuracy: FileAccuracy | None = None
    metric: str = "accuracy"
    details: dict[str, float] = Field(default_factory=dict)
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
