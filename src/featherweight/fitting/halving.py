"""Successive halving over the candidates that shopping kept; every training is a stage."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featherweight.data.metrics import accuracy_interval
from featherweight.errors import DivergedError
from featherweight.fitting.race import (
    Entry,
    Trainer,
    difference_interval,
    keep_losses,
    kept_losses,
)
from featherweight.fitting.time_plan import TimePlan
from featherweight.run_directory import RunDirectory
from featherweight.training.recipe import int8_recipe

__all__ = ["MOST_RACERS", "Length", "Ranked", "cheapest_of_equals", "run_race", "train_stage"]

logger = logging.getLogger(__name__)

MOST_RACERS = 6
"""More candidates than this share the race's time too thinly to tell them apart."""

_LEAST_RUNG_S = 8.0
"""Of one training in a rung: a shorter one mostly starts and ends."""

_DECISIVE_GAP = 0.25
"""Of the leader's loss."""

_RACE_EPOCHS = 2
"""Epochs of the first rung when the final training is given in epochs."""


@dataclass(frozen=True)
class Ranked:
    """A trained candidate.

    Attributes:
        entry: which candidate.
        phase: `race-1`, `race-2`, `fill`, `teacher`, `train` or `finish`; names its folders.
        losses: loss of the file on each ranked val picture.
        val_accuracy: of the network on val.
        images_seen, seconds: of this training.
        told_as: title and phase of its lines in train.jsonl, where they differ from its own.
        trained_value: knob value of its training, where it ships at another one.
    """

    entry: Entry
    phase: str
    losses: NDArray[np.float64]
    val_accuracy: float
    images_seen: int
    seconds: float
    told_as: tuple[str, str] | None = None
    trained_value: float | None = None

    @property
    def val_loss(self) -> float:
        """Mean loss on val."""
        return float(self.losses.mean())


class Length(NamedTuple):
    """How long a training is.

    Attributes:
        time_s: wall clock; `None` = it goes by epochs.
        epochs: passes over the pictures; `None` = it goes by time.
        spent_s: part of `time_s` that is gone already; below 0 = there is more.
    """

    time_s: float | None
    epochs: int | None
    spent_s: float = 0.0


def run_race(
    entries: list[Entry], *, trainer: Trainer, run: RunDirectory, plan: TimePlan
) -> list[Ranked]:
    """Race the entries in two rungs; return everything trained, the winner first.

    A single entry is not raced: its whole time goes to the training. A race that the first rung
    has decided has no second one, and neither has one that is too short for two.
    """
    if len(entries) < 2:
        return []
    field = _field(entries)
    if plan.race_s is not None and 0.5 * plan.race_s / len(field) < _LEAST_RUNG_S:
        first = _rung(field, "race-1", share=1.0, trainer=trainer, run=run, plan=plan)
        best = cheapest_of_equals(first, seed=trainer.seed)
        return [best, *[ranked for ranked in first if ranked is not best]]
    first = _rung(field, "race-1", share=0.5, trainer=trainer, run=run, plan=plan)
    if _is_decided(first, seed=trainer.seed):
        logger.info("race: %s leads by far: no second rung", first[0].entry.title)
        return first
    finalists = [ranked.entry for ranked in first[: -(-len(first) // 3)]]
    if len(finalists) < 2 and len(first) > 2:
        finalists = [ranked.entry for ranked in first[:2]]
    second = _rung(finalists, "race-2", share=0.5, trainer=trainer, run=run, plan=plan)
    best = cheapest_of_equals(second, seed=trainer.seed)
    rest = [ranked for ranked in second if ranked is not best]
    dropped = [ranked for ranked in first if ranked.entry not in finalists]
    return [best, *rest, *dropped]


def _rung(
    field: list[Entry],
    phase: str,
    *,
    share: float,
    trainer: Trainer,
    run: RunDirectory,
    plan: TimePlan,
) -> list[Ranked]:
    time_s = None if plan.race_s is None else plan.race_s * share / len(field)
    epochs = None
    if plan.epochs is not None:
        epochs = min(plan.epochs, _RACE_EPOCHS * int(phase[-1]))
    ranked, failures = [], []
    for entry in field:
        try:
            ranked.append(
                train_stage(entry, phase, trainer=trainer, run=run, length=Length(time_s, epochs))
            )
        except DivergedError as failure:  # one that diverges loses; the others go on
            logger.warning("%s: %s is out: %s", phase, entry.title, failure)
            failures.append(failure)
    if not ranked:
        raise failures[0]
    return sorted(ranked, key=lambda r: r.val_loss)


def _field(entries: list[Entry]) -> list[Entry]:
    """Return at most `MOST_RACERS` entries: every family's largest before any second one."""
    seen: dict[str, int] = {}
    turns = []
    for entry in sorted(entries, key=lambda e: -(e.candidate.macs or 0)):
        seen[entry.family.name] = seen.get(entry.family.name, 0) + 1
        turns.append((seen[entry.family.name], entry))
    chosen = [entry for _, entry in sorted(turns, key=lambda turn: turn[0])]
    for entry in chosen[MOST_RACERS:]:
        logger.info("race: %s is left out: %d race at most", entry.title, MOST_RACERS)
    return chosen[:MOST_RACERS]


def train_stage(
    entry: Entry,
    phase: str,
    *,
    trainer: Trainer,
    run: RunDirectory,
    length: Length,
    teacher: tuple[Entry, str] | None = None,
    before: Ranked | None = None,
) -> Ranked:
    """Train one candidate in one phase, or return what an earlier attempt trained.

    Args:
        entry: the candidate.
        phase: of the fit; names the stage and its folders.
        trainer: trains and ranks.
        run: the run directory.
        length: of the training.
        teacher: the candidate to learn from and the phase it was trained in.
        before: go on from that network, in int8, and keep to its answers.
    """
    stage = f"{phase}:{entry.key}"
    time_s, epochs, spent_s = length
    inputs = {"phase": phase, "candidate": entry.key, "epochs": epochs}
    if before is not None:
        inputs["before"] = before.phase
        teacher = before.entry, before.phase
    folder = trainer.network_folder(entry, phase)
    done = run.stage_done(stage, inputs=inputs)
    if done is None:
        started = time.monotonic()
        recipe = trainer.recipe(
            entry, time_s=time_s, epochs=epochs, distillation=teacher is not None
        )
        guide = None if teacher is None else trainer.load(*teacher)
        start = None
        if before is not None:
            assert guide is not None
            recipe, start = int8_recipe(recipe, time_s=time_s, epochs=epochs), guide.network
        result = trainer.train(
            entry, phase=phase, recipe=recipe, teacher=guide, before=start, beat=run.beat,
            spent_s=spent_s,
        )  # fmt: skip
        losses = trainer.rank(entry, result.network, phase=phase)
        last = result.history[-1]
        done = {
            "val_accuracy": result.best.val_accuracy,
            "val_loss": float(losses.mean()),
            "images_seen": last.images_seen,
            "seconds": time.monotonic() - started,
        }
        files = keep_losses(folder, losses)
        run.finish_stage(
            stage, inputs=inputs, outputs=done, files=files, seconds=float(done["seconds"])
        )
        logger.info(
            "%s: %s: val %s, loss of the file %.3f after %d pictures",
            phase, entry.title, _show_accuracy(result.best.val_accuracy, trainer=trainer),
            losses.mean(), last.images_seen,
        )  # fmt: skip
    return Ranked(
        entry=entry,
        phase=phase,
        losses=kept_losses(folder),
        val_accuracy=float(done["val_accuracy"]),
        images_seen=int(done["images_seen"]),
        seconds=float(done["seconds"]),
    )


def _show_accuracy(accuracy: float, *, trainer: Trainer) -> str:
    """Return the figure with Wilson's interval, which holds for a share of pictures only."""
    if trainer.store.balanced:
        return f"balanced accuracy {accuracy:.3f}"
    held_out = len(trainer.store.data.splits["val"])
    low, high = accuracy_interval(round(accuracy * held_out), held_out)
    return f"accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}]"


def _is_decided(ranked: list[Ranked], *, seed: int) -> bool:
    """Whether nobody can be expected to catch up with the leader in a slightly longer training.

    The second rung is about 1.5 times as long as the first; its time is worth more in the last
    training when every other loss is surely more than a quarter above the leader's.
    """
    leader = ranked[0]
    gap = _DECISIVE_GAP * leader.val_loss
    return all(
        difference_interval(other.losses, leader.losses, seed=seed)[0] > gap for other in ranked[1:]
    )


def cheapest_of_equals(ranked: list[Ranked], *, seed: int) -> Ranked:
    """Return the best by loss, or a faster file whose difference to it spans zero."""
    best = ranked[0]
    equals = [
        other
        for other in ranked[1:]
        if difference_interval(other.losses, best.losses, seed=seed)[0] <= 0.0
    ]
    return min([best, *equals], key=lambda r: r.entry.candidate.latency_ms or 0.0)
