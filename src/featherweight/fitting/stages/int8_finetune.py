"""After the last training: where the int8 file answers worse than its network, more training.

The network goes on at a low rate, computing as its file does and keeping to the answers it gave
before (`training.fake_quantisation`). What comes out ships only if its file is better on val.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Phase, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.ranking import paired_scores
from featherweight.fitting.train_candidate import Length, train_candidate
from featherweight.records import Record

__all__ = ["finetune_int8", "is_worth_finetuning"]

logger = logging.getLogger(__name__)


class _CostRecord(Record):
    cost: float
    pictures: int


def finetune_int8(context: FitContext, trained: Trained, *, time_s: float | None) -> Trained:
    """Return what ships: the trained network, or what more training in int8 made of it.

    Args:
        context: of the fit.
        trained: what the last training ended with.
        time_s: what is reserved; 0 = nothing, `None` = it goes by epochs.
    """
    candidate, epochs = trained.candidate, context.settings.epochs
    if candidate.precision != "int8" or time_s == 0.0 or candidate.family.anchored:
        return trained
    if not is_worth_finetuning(context, trained):
        return trained
    passes = None if epochs is None else max(1, epochs // context.policy.int8.epochs_share)
    try:
        training = train_candidate(
            context,
            candidate,
            Phase(kind="int8-finetune"),
            length=Length(time_s, passes),
            before=trained,
        )
    except DivergedError as failure:
        logger.warning("int8-finetune: %s stays as it was: %s", candidate.title, failure)
        return trained
    logger.info(
        "int8-finetune: loss of the file on val %.4f, before %.4f",
        training.val_loss,
        trained.val_loss,
    )
    if training.val_loss >= trained.val_loss:
        return trained
    both = replace(
        training,
        images_seen=trained.training.images_seen + training.images_seen,
        seconds=trained.training.seconds + training.seconds,
    )
    return Trained.of(trained.measured, both)


def is_worth_finetuning(context: FitContext, trained: Trained) -> bool:
    """Return whether the int8 file loses more val accuracy than nothing is done about: a stage."""
    candidate, phase = trained.candidate, trained.phase

    def work() -> _CostRecord:
        network = context.trainer.load(candidate, phase).network
        own, of_file = paired_scores(
            context.trainer,
            candidate,
            network,
            phase=phase,
            most=context.policy.race.val_pictures,
        )
        cost = float(np.mean(own) - np.mean(of_file))
        return _CostRecord(cost=cost, pictures=len(own))

    cost = context.run.stage(
        "int8-cost",
        inputs={"trained": candidate.key, "phase": str(phase)},
        outputs=_CostRecord,
        work=work,
    ).cost
    logger.info("int8 costs %s %.1f points of val accuracy", phase, 100 * cost)
    return cost > context.policy.int8.most_cost
