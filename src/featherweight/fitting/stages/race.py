"""Train the kept candidates briefly and keep what learns best: successive halving.

At equal wall clock, so that training speed is part of the choice. Each rung trains with a complete
schedule from the same start. Ranking is by mean loss of the *file* on val (int8 damage included),
paired; where the interval of a difference spans zero, the network that is cheaper to run wins.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from featherweight.data.metrics import difference_interval
from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Measured, Phase, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.ranking import cheapest_of_equals
from featherweight.fitting.train_candidate import Length, begin_training

__all__ = ["race", "racers"]

logger = logging.getLogger(__name__)


def race(context: FitContext, entrants: Sequence[Measured]) -> list[Trained]:
    """Race candidates in two rungs; return everything trained, the winner first.

    A single candidate is not raced: its whole time goes to the training. A race that the first rung
    has decided has no second one, and neither has one that is too short for two.
    """
    if len(entrants) < 2:
        return []
    raced = _race(context, entrants)
    context.ledger.note_race(raced)
    return raced


def racers(context: FitContext, entrants: Sequence[Measured]) -> list[Measured]:
    """Return who races: of detectors only as many as the first rung can tell apart.

    The head of a detector is drawn: after a pass or two all of them find next to nothing, and a
    race would choose by chance. Those with the largest pictures are kept, of equals those that
    train fastest: each has the size that can learn in the time there is, so that larger pictures
    are the cheaper network's. Where one is left, the whole time is its own. One that fits in two
    precisions is trained once, for the exact one.
    """
    field, race_s = _field(context, entrants), context.plan.race_s
    if race_s is None or not all(one.candidate.family.anchored for one in field):
        return field
    exact = {one.candidate.label for one in field if one.candidate.precision == "fp32"}
    for one in [*field]:
        if one.candidate.precision != "fp32" and one.candidate.label in exact:
            field.remove(one)
            _leave_out(context, one, reason="it fits in fp32 too, which is exact")
    speeds = context.trainer.speeds
    field.sort(
        key=lambda one: (
            -one.candidate.resolution,
            -speeds.get(one.candidate.family.name, 0.0),
        )
    )
    while len(field) > 1:
        slowest = min(speeds.get(one.candidate.family.name, 0.0) for one in field)
        rung_s = 0.5 * race_s * min(context.width, len(field)) / len(field)
        if rung_s * slowest >= context.policy.race.detector_pictures:
            break
        _leave_out(context, field.pop(), reason="there is too little time to tell detectors apart")
    return field


def _leave_out(context: FitContext, one: Measured, *, reason: str) -> None:
    logger.info("race: %s is left out: %s", one.candidate.title, reason)
    context.ledger.note(one, status="rejected", reason=reason, stage="race")


def _race(context: FitContext, field: Sequence[Measured]) -> list[Trained]:
    race_s, policy = context.plan.race_s, context.policy.race
    if race_s is not None and 0.5 * race_s / len(field) < policy.least_rung_s:
        only = _rung(context, field, 1, share=1.0)
        return _winner_first(context, only)
    first = _rung(context, field, 1, share=0.5)
    if _is_decided(context, first):
        logger.info("race: %s leads by far: no second rung", first[0].candidate.title)
        return first
    count = -(-len(first) // 3)
    if count < 2 and len(first) > 2:
        count = 2
    finalists = [trained.measured for trained in first[:count]]
    second = _rung(context, finalists, 2, share=0.5)
    return [*_winner_first(context, second), *first[count:]]


def _winner_first(context: FitContext, ranked: Sequence[Trained]) -> list[Trained]:
    best = cheapest_of_equals(ranked, seed=context.seed)
    return [best, *(trained for trained in ranked if trained is not best)]


def _rung(
    context: FitContext, field: Sequence[Measured], rung: int, *, share: float
) -> list[Trained]:
    """Train every candidate for the same time; the best first."""
    plan, phase = context.plan, Phase(kind="race", rung=rung)
    time_s = None
    if plan.race_s is not None:
        time_s = plan.race_s * share * min(context.width, len(field)) / len(field)
    epochs = None
    if plan.epochs is not None:
        epochs = min(plan.epochs, context.policy.race.rung_epochs * rung)
    length = Length(time_s, epochs)
    begun = [(one, begin_training(context, one.candidate, phase, length=length)) for one in field]
    ranked, failures = [], []
    for one, finish in begun:
        try:
            ranked.append(Trained.of(one, finish()))
        except DivergedError as failure:  # one that diverges loses; the others go on
            logger.warning("%s: %s is out: %s", phase, one.candidate.title, failure)
            failures.append(failure)
    if not ranked:
        raise failures[0]
    return sorted(ranked, key=lambda trained: trained.val_loss)


def _field(context: FitContext, entrants: Sequence[Measured]) -> list[Measured]:
    """Return as many candidates as race: every family's largest before any second one."""
    most = context.policy.race.most_racers
    seen: dict[str, int] = {}
    turns = []
    for one in sorted(entrants, key=lambda one: -one.candidate.macs):
        name = one.candidate.family.name
        seen[name] = seen.get(name, 0) + 1
        turns.append((seen[name], one))
    chosen = [one for _, one in sorted(turns, key=lambda turn: turn[0])]
    for one in chosen[most:]:
        logger.info("race: %s is left out: %d race at most", one.candidate.title, most)
    return chosen[:most]


def _is_decided(context: FitContext, ranked: Sequence[Trained]) -> bool:
    """Whether nobody can be expected to catch up with the leader in a slightly longer training.

    The second rung is about 1.5 times as long as the first; its time is worth more in the last
    training when every other loss is surely far above the leader's.
    """
    leader = ranked[0]
    gap = context.policy.race.decisive_gap * leader.val_loss
    return all(
        difference_interval(other.losses, leader.losses, seed=context.seed)[0] > gap
        for other in ranked[1:]
    )
