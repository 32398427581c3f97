"""What was checked about an exported file."""

from __future__ import annotations

from pydantic import Field

from featherweight.records import Record

__all__ = ["Verification"]


class Verification(Record):
    """An exported file against the PyTorch network it came from, on real pictures.

    Attributes:
        platform: text form of where the file ran.
        artifact_sha256: which file.
        max_abs_error: largest difference of a logit on the compared pictures.
        relative_error: that difference over the largest absolute logit of the network.
        top1_agreement: share of the compared pictures with the same answer.
        accuracy: of the file: the mean score of its task.
        network_accuracy: of the network; `None` = not noted (older runs), or it did not answer all.
        interval: 95 % interval of that accuracy.
        balanced_accuracy: of the file, mean over the classes; `None` = its task has none.
        split: which pictures.
        n: how many.
        compared: how many of them the network answered too; `None` = all (older runs).
        passed: within the limits `verify_artifact` documents.
        details: further figures of the file, such as `ap50`.
        device_difference: largest difference of a logit between the device and this machine, over
            the largest logit, on one picture; `None` = it runs on this machine, or was not asked.
    """

    platform: str
    artifact_sha256: str
    max_abs_error: float
    relative_error: float
    top1_agreement: float
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float | None
    split: str
    n: int
    passed: bool
    network_accuracy: float | None = None
    compared: int | None = None
    details: dict[str, float] = Field(default_factory=dict)
    device_difference: float | None = None
