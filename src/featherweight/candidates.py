"""What a fit writes about the networks that it considered: rows of candidates.jsonl, the curve.

They stand below everything that writes or reads them: a run can be read without training code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from featherweight.records import Record

__all__ = ["CandidateRow", "CurvePoint", "FileAccuracy", "latest_candidates"]


class CandidateRow(Record):
    """One line of candidates.jsonl: a network at a resolution and precision that was considered.

    A later line for the same (name, precision) supersedes an earlier one whole.

    Attributes:
        name: network with its settings, such as `efficientnet_lite0:resolution=160`.
        architecture_digest: `Architecture.digest`.
        family: the zoo's family, or what produced the network.
        width: the zoo's width multiplier; `None` = the network has none.
        params, macs: `None` while an operator is unknown to the counter.
        interval_ms: 95 % interval of the median latency.
        predicted_ms: predicted latency, where it was not measured.
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


def latest_candidates(lines: Iterable[CandidateRow]) -> tuple[CandidateRow, ...]:
    """Return the last line of every (name, precision), in the order of first appearance."""
    latest: dict[tuple[str, str], CandidateRow] = {}
    for line in lines:
        latest[line.name, line.precision] = line
    return tuple(latest.values())


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
