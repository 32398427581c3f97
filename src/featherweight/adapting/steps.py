"""The records of NetAdapt: its schedule, and the lines of adapt.jsonl."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from featherweight.adapting.groups import GroupKind, Narrow
from featherweight.budget import Latency
from featherweight.records import Record

__all__ = ["Proposal", "Schedule", "Selection", "Step"]

Selection = Literal["accuracy", "ratio"]


class Schedule(Record):
    """How the way is divided.

    Attributes:
        initial: latency that the first step has to save, over that of the start.
        decay: of that from step to step (0.96: NetAdapt, section 4; it lets no more than 25 times
            the first step be saved in all).
        proposals: most groups tried in a step, those that lose the smallest share of their
            filters' squared L2 norm; `None` = every group.
        select: `accuracy`: the lowest loss on the hold-out (NetAdapt); `ratio`: the least loss
            gained per millisecond saved (MobileNetV3).
        kinds: of groups that are narrowed.
    """

    initial: float = Field(default=0.025, gt=0.0, lt=1.0)
    decay: float = Field(default=0.96, gt=0.0, le=1.0)
    proposals: int | None = Field(default=None, ge=1)
    select: Selection = "accuracy"
    kinds: tuple[GroupKind, ...] = ("hidden", "trunk", "head")


class Proposal(Record):
    """One network that was tried, as adapt.jsonl keeps it.

    Attributes:
        change: of the network of the step before.
        loss: mean on the hold-out, after the short fine-tuning; `None` = it was no number.
        predicted_ms: of the whole network, from the table.
        latency: measured, with the interval of its ratio to `beside`; `None` = the best one was
            taken.
        beside: of the network of the step before, which took turns with it.
        status: `taken`, `rejected` (not surely faster, or without a loss) or `tried`.
    """

    change: Narrow
    loss: float | None
    predicted_ms: float
    latency: Latency | None = None
    beside: Latency | None = None
    status: Literal["taken", "rejected", "tried"] = "tried"


class Step(Record):
    """One step of the way, as adapt.jsonl keeps it.

    Attributes:
        number: from 1.
        needed_ms: what it had to save.
        proposals: what was tried, the best first.
        change: what was taken; `None` = every proposal was rejected.
        loss: mean on the hold-out after it.
        score: mean score there, in 0..1; `None` = nothing was taken.
        latency: of the whole network after it.
        folder: of that network, relative to the run; `None` = it is that of the step before.
    """

    number: int
    needed_ms: float
    proposals: tuple[Proposal, ...]
    change: Narrow | None
    loss: float
    score: float | None
    latency: Latency
    folder: str | None = None
