"""The stage before the last training, where the budget is not used up: a larger parent, shrunk.

Resolutions come in steps, and some networks end before a budget does. Here the winner at a larger
resolution, up to 1.6 times too slow, loses hidden channels and blocks (`fitting.shrinking`). What
comes out ships only if it learns clearly more in the same time than the winner as it is.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from featherweight.adapting.shrink import hidden_widths
from featherweight.errors import DivergedError, UnsupportedError
from featherweight.fitting.families import stored_family
from featherweight.fitting.halving import Ranked, train_stage
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.race import Entry, Trainer, difference_interval
from featherweight.fitting.settings import FitSettings, SamplePlan, TimePlan
from featherweight.fitting.shop import Shopper
from featherweight.fitting.shrinking import shrink_parent
from featherweight.fitting.stages import open_shopper
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory

__all__ = ["fill_stage", "parent_value"]

logger = logging.getLogger(__name__)

_USED_UP = 0.85
"""Share of the budget from which nothing is filled."""
_MOST_EXCESS = 1.6
"""Most multiples of the budget that a parent may take: what must lose more has little left."""
_TRAINING_SHARE = 0.4
"""Of the time for filling, for the winner; the same again for the shrunk network."""


def fill_stage(
    run: RunDirectory,
    ledger: Ledger,
    winner: Entry,
    *,
    trainer: Trainer,
    settings: FitSettings,
    plan: TimePlan,
) -> tuple[Entry, list[Ranked]]:
    """Return what the last training should train, and what was trained to find out."""
    value = parent_value(winner, budget_ms=settings.latency_ms)
    if plan.fill_s == 0.0 or value is None:
        return winner, []
    time_s = _TRAINING_SHARE * plan.fill_s
    own = train_stage(winner, "fill", trainer=trainer, run=run, time_s=time_s, epochs=None)
    inputs = {"winner": winner.key}
    done = run.stage_done("fill", inputs=inputs)
    if done is None:
        started = time.monotonic()
        shopper = open_shopper(
            run, ledger, settings, purpose="fill", samples=SamplePlan.of(settings)
        )
        done = _shrink(winner, value, trainer=trainer, shopper=shopper, settings=settings)
        seconds = time.monotonic() - started
        run.finish_stage("fill", inputs=inputs, outputs=done, seconds=seconds)
    if done["folder"] is None:
        return winner, [own]
    family, value = stored_family(run.path / done["folder"], source=winner.family.source)
    entry = Entry(Candidate.model_validate(done["candidate"]), family, value)
    try:
        other = train_stage(entry, "fill", trainer=trainer, run=run, time_s=time_s, epochs=None)
    except DivergedError as failure:  # the winner as it is goes on, as in a race
        logger.warning("fill: %s is out: %s", entry.title, failure)
        return winner, [own]
    low, high = difference_interval(other.losses, own.losses, seed=trainer.seed)
    compared = (
        f"val loss {other.val_loss:.3f} shrunk, {own.val_loss:.3f} as it was; "
        f"difference {low:.3f} to {high:.3f}"
    )
    logger.info("fill: %s", compared)
    ledger.note_candidates(
        one.entry.candidate.model_copy(
            update={
                "status": "finalist",
                "reason": compared,
                "val_accuracy": one.val_accuracy,
                "val_loss": one.val_loss,
                "stage": "fill",
            }
        )
        for one in (own, other)
    )
    return (entry if high < 0.0 else winner), [own, other]


def _shrink(
    winner: Entry, value: float, *, trainer: Trainer, shopper: Shopper, settings: FitSettings
) -> dict[str, Any]:
    """Return what `shrink_parent` does; a network that cannot be sliced has no shrunk form."""
    try:
        return shrink_parent(
            winner, value, trainer=trainer, shopper=shopper, budget_ms=settings.latency_ms
        )
    except UnsupportedError as refusal:
        logger.warning("fill: %s stays as it is: %s", winner.title, refusal)
        return {"folder": None, "reason": str(refusal)}


def parent_value(winner: Entry, *, budget_ms: float) -> float | None:
    """Return the resolution of the parent; `None` = the budget or the time is used up, or none.

    Latency is taken to grow with the multiply-adds.
    """
    family, latency_ms = winner.family, winner.candidate.latency_ms
    if latency_ms is None or latency_ms >= _USED_UP * budget_ms or winner.ceiling is not None:
        return None
    if family.knob != "resolution" or not hidden_widths(family.build(winner.value)):
        return None
    present = profile(family.build(winner.value)).macs or 0
    most = _MOST_EXCESS * budget_ms / latency_ms * present
    larger = [
        value
        for value in family.values
        if value > winner.value and (profile(family.build(value)).macs or 0) <= most
    ]
    return max(larger, default=None)
