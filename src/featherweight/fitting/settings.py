"""What a fit was asked for: the identity of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from pydantic import Field

from featherweight.arguments import LARGEST_SEED
from featherweight.budget import Budget
from featherweight.errors import UsageError
from featherweight.exporting.platforms import Platform, offered_precisions
from featherweight.records import Record, to_plain
from featherweight.run_record import named_content
from featherweight.runtimes.runtime import RUNTIMES

__all__ = [
    "FitSettings",
    "Metric",
    "allowed_metric",
    "allowed_precisions",
]

Metric = Literal["accuracy", "balanced_accuracy"]
"""Balanced: every class counts the same, however many pictures it has."""


class FitSettings(Record):
    """The effective configuration of one fit.

    What may be a path is left out of its plain form (`exclude`): a run goes on when the data were
    named otherwise or moved.

    Attributes:
        data: what the user named.
        latency_ms: the budget.
        platform: DEVICE/RUNTIME:threads=N.
        time_s: wall clock of the whole command; `None` when `epochs` is given.
        epochs: epochs of the final training instead of a time (repeatable to the bit, given the
            form of computing that a short timing chooses).
        model: restrict to one network, with settings; `None` = choose.
        pretrained: `auto`, `none` or a weights file for `model`.
        precisions: precisions that may ship.
        metric: what all choices and trainings care for.
        min_accuracy: least accuracy of the file on test, in 0..1; `None` = better than guessing.
        seed: of everything that draws.
        device: where training runs.
    """

    data: str = Field(exclude=True)
    latency_ms: float = Field(gt=0)
    platform: str
    time_s: float | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, ge=1)
    model: str | None = Field(default=None, exclude=True)
    pretrained: str = Field(default="auto", exclude=True)
    precisions: tuple[str, ...] = ("fp32", "int8")
    metric: Metric = "accuracy"
    min_accuracy: float | None = Field(default=None, ge=0.0, le=1.0)
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    device: str = "auto"

    @property
    def budget(self) -> Budget:
        """The latency that the file may have."""
        return Budget(latency_ms=self.latency_ms)

    @property
    def given(self) -> dict[str, str]:
        """What may be a path, as it was spelled."""
        named = {"data": self.data, "model": self.model, "pretrained": self.pretrained}
        return {name: text for name, text in named.items() if text is not None}

    def identity(self, *, fingerprint: str) -> dict[str, Any]:
        """Return what makes two fits one run; paths are in it by what lies there.

        Args:
            fingerprint: of the pictures.
        """
        return {
            **to_plain(self),
            "model": None if self.model is None else named_content(self.model),
            "pretrained": named_content(self.pretrained),
            "fingerprint": fingerprint,
        }


def allowed_metric(metric: str) -> Metric:
    """Return the metric of that name.

    Raises:
        UsageError: there is none.
    """
    for known in get_args(Metric):
        if metric == known:
            return cast(Metric, known)
    raise UsageError(f"unknown metric {metric!r}", allowed=", ".join(get_args(Metric)))


def allowed_precisions(
    precisions: Sequence[str] | None, platform: Platform, on: str
) -> tuple[str, ...]:
    """Return what may ship.

    Raises:
        UsageError: the runtime does not have a precision that was asked for.
    """
    offered = RUNTIMES[platform.runtime].precisions
    if precisions is None:
        return offered_precisions(platform, on)
    for precision in precisions:
        if precision not in offered:
            raise UsageError(
                f"{platform.runtime} has no precision {precision!r}", allowed=", ".join(offered)
            )
    return tuple(dict.fromkeys(precisions))
