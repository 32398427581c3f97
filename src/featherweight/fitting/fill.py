"""The stage before the last training, where the budget is not used up: a larger parent, shrunk.

Resolutions come in steps, and some networks end before a budget does. Here the winner at a larger
resolution, up to 1.6 times too slow, loses hidden channels and blocks: all at once by a knapsack
(`fitting.shrinking`), and in long fits also step by step (`fitting.steps`). What comes out ships
only if it learns clearly more in the same time than the winner as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from featherweight.adapting.shrink import hidden_widths
from featherweight.errors import DivergedError, UnsupportedError
from featherweight.fitting.families import stored_family
from featherweight.fitting.halving import Length, Ranked, train_stage
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.race import Entry, Trainer, difference_interval
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import Shopper
from featherweight.fitting.shrinking import shrink_parent
from featherweight.fitting.stages import open_shopper
from featherweight.fitting.steps import adapt_parent
from featherweight.fitting.time_plan import SamplePlan, TimePlan
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
_STEPS_LEAST_S = 1000.0
"""Time for filling from which NetAdapt's steps are tried too: some twenty short trainings."""
_TRAINING_SHARE_OF_3, _STEPS_SHARE = 0.22, 0.28
"""Of the time for filling where they are: for each of three trainings, and for the steps."""


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
    with_steps = plan.fill_s >= _STEPS_LEAST_S
    time_s = (_TRAINING_SHARE_OF_3 if with_steps else _TRAINING_SHARE) * plan.fill_s
    length = Length(time_s, None)
    own = train_stage(winner, "fill", trainer=trainer, run=run, length=length)
    search = _Search(run, ledger, winner, value, trainer=trainer, settings=settings)
    found = [search.by_knapsack()]
    if with_steps:
        found.append(search.by_steps(within_s=_STEPS_SHARE * plan.fill_s))
    tried, better = [own], []
    for entry in found:
        if entry is None:
            continue
        try:
            other = train_stage(entry, "fill", trainer=trainer, run=run, length=length)
        except DivergedError as failure:  # the winner as it is goes on, as in a race
            logger.warning("fill: %s is out: %s", entry.title, failure)
            continue
        tried.append(other)
        if _compare(other, own, ledger=ledger, seed=trainer.seed):
            better.append(other)
    best = min(better, key=lambda one: one.val_loss, default=own)
    return best.entry, tried


def _compare(other: Ranked, own: Ranked, *, ledger: Ledger, seed: int) -> bool:
    """Return whether the shrunk network surely learned more; both are noted."""
    low, high = difference_interval(other.losses, own.losses, seed=seed)
    compared = (
        f"val loss {other.val_loss:.3f} shrunk, {own.val_loss:.3f} as it was; "
        f"difference {low:.3f} to {high:.3f}"
    )
    logger.info("fill: %s: %s", other.entry.title, compared)
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
    return high < 0.0


class _Search:
    """Looks for shrunk forms of the winner; each way is a stage, and is not repeated."""

    def __init__(
        self,
        run: RunDirectory,
        ledger: Ledger,
        winner: Entry,
        value: float,
        *,
        trainer: Trainer,
        settings: FitSettings,
    ) -> None:
        self._run, self._ledger = run, ledger
        self._winner, self._value = winner, value
        self._trainer, self._settings = trainer, settings
        self._knapsack: dict[str, Any] = {}

    def by_knapsack(self) -> Entry | None:
        """Return the parent with all widths chosen at once."""
        self._knapsack = self._stage(
            "fill",
            lambda shopper: shrink_parent(
                self._winner, self._value, trainer=self._trainer, shopper=shopper,
                budget_ms=self._settings.latency_ms,
            ),
        )  # fmt: skip
        return self._entry(self._knapsack)

    def by_steps(self, *, within_s: float) -> Entry | None:
        """Return the parent adapted step by step, from the savings that the knapsack measured."""
        savings = {
            int(position): {int(width): ms for width, ms in saved.items()}
            for position, saved in self._knapsack.get("savings", {}).items()
        }
        if not savings:
            return None
        done = self._stage(
            "fill-steps",
            lambda shopper: adapt_parent(
                self._winner, self._value, savings=savings, trainer=self._trainer,
                shopper=shopper, budget_ms=self._settings.latency_ms, within_s=within_s,
            ),
        )  # fmt: skip
        return self._entry(done)

    def _stage(self, name: str, search: Callable[[Shopper], dict[str, Any]]) -> dict[str, Any]:
        inputs = {"winner": self._winner.key}
        done = self._run.stage_done(name, inputs=inputs)
        if done is not None:
            return done
        started = time.monotonic()
        shopper = open_shopper(
            self._run, self._ledger, self._settings, purpose="fill",
            samples=SamplePlan.of(self._settings),
        )  # fmt: skip
        try:
            done = search(shopper)
        except UnsupportedError as refusal:  # its channels cannot be sliced
            logger.warning("fill: %s stays as it is: %s", self._winner.title, refusal)
            done = {"folder": None, "reason": str(refusal)}
        self._run.finish_stage(
            name, inputs=inputs, outputs=done, seconds=time.monotonic() - started
        )
        return done

    def _entry(self, done: dict[str, Any]) -> Entry | None:
        if done["folder"] is None:
            return None
        before = self._winner.family
        family, value = stored_family(
            self._run.path / done["folder"], source=before.source, whole=before.whole
        )
        return Entry(Candidate.model_validate(done["candidate"]), family, value)


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
