"""What a fit was asked for: the identity of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from pydantic import Field

from featherweight.errors import UsageError
from featherweight.measuring.platform import Platform, offered_precisions
from featherweight.records import Record, to_plain
from featherweight.run_record import named_content
from featherweight.runtimes.runtime import RUNTIMES

__all__ = [
    "FitSettings",
    "Metric",
    "SamplePlan",
    "TimePlan",
    "allowed_metric",
    "allowed_precisions",
]

Metric = Literal["accuracy", "balanced_accuracy"]
"""Balanced: every class counts the same, however many pictures it has."""


_FILL_SHARE = 0.15
"""Of the whole time (design, section 5)."""
_LEAST_FILLED_S = 900.0
"""A shorter fit has no time to make a network smaller: half a minute of timing, two trainings."""


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
    seed: int = Field(default=0, ge=0)
    device: str = "auto"

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


class TimePlan(Record):
    """How the wall clock is shared (design: shop and race at most 35 %, proof reserved first).

    Attributes:
        race_s: all trainings of the race together; `None` = by epochs.
        epochs: of the final training; `None` = by time.
        fill_s: for a parent made smaller, where the budget is not used up; 0 = not tried.
        prove_s: reserved for calibration, verification and the last measurement.
        total_s: the whole command, less what reading the data took.
        asked_s: the whole command as asked for; does not change between attempts.
    """

    total_s: float | None
    race_s: float | None
    prove_s: float
    fill_s: float = 0.0
    epochs: int | None = None
    asked_s: float | None = None

    @classmethod
    def of(cls, settings: FitSettings, *, spent_s: float, small: bool) -> TimePlan:
        """Share out the time of `settings`, of which reading the data took `spent_s`.

        Small pictures make many steps a minute, so that a shorter race tells as much.
        """
        if settings.time_s is None:
            return cls(total_s=None, race_s=None, prove_s=0.0, epochs=settings.epochs)
        # The size once more, calibration, two passes over the test split and the measurements.
        prove_s = min(120.0, max(15.0, 0.08 * settings.time_s))
        race_s = (0.15 if small else 0.22) * settings.time_s
        filled = not small and settings.time_s >= _LEAST_FILLED_S
        return cls(
            total_s=settings.time_s - spent_s,
            race_s=race_s,
            prove_s=prove_s,
            fill_s=_FILL_SHARE * settings.time_s if filled else 0.0,
            asked_s=settings.time_s,
        )


class SamplePlan(Record):
    """How many samples each kind of measurement takes.

    A neighbour on the same host can slow a machine by half for some seconds at a time, unseen in
    /proc/stat. Medians settle when a measurement is longer than such spells, which takes tens of
    seconds: a fit that has little time must do with less.

    Attributes:
        glance: while a family is being sized.
        confirm: of the last guesses, in each process.
        prove: of the file that ships.
        margin: share of the budget that a network may take before its proof. The proof is a new
            measurement in a new process: medians of one file move between processes, the more
            the shorter they are measured, so a network that just fits would often miss.
    """

    glance: int
    confirm: int
    prove: int
    margin: float = 0.94

    @classmethod
    def of(cls, settings: FitSettings) -> SamplePlan:
        """Scale with the time there is: 60 s and below take the least, 30 m and above the most."""
        time_s = 300.0 if settings.time_s is None else settings.time_s
        share = min(1.0, max(0.0, (time_s - 60.0) / (1800.0 - 60.0)))
        return cls(
            glance=30,
            confirm=round(30 + 120 * share),
            prove=round(400 + 800 * share),
            margin=0.85 + 0.09 * share,
        )


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
