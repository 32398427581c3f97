"""The pictures of `adapt`: those that proposals are tuned on, and a hold-out that judges them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.pictures import PictureSet
from featherweight.errors import UsageError
from featherweight.fitting.candidate import Trained
from featherweight.fitting.context import FitContext

__all__ = ["draw_pictures", "draw_tuning"]


def draw_pictures(context: FitContext, parent: Trained) -> tuple[PictureSet, PictureSet]:
    """Return the hold-out, which no tuning sees, and what proposals are tuned on.

    Args:
        context: of the run.
        parent: at whose size they are.

    Raises:
        UsageError: too few pictures to tell proposals apart.
    """
    trainer, policy = context.trainer, context.policy.adapt
    count, classes = trainer.count("train"), max(1, len(trainer.classes))
    order = np.random.default_rng([context.seed, 10]).permutation(count)
    most = max(policy.held_out_pictures, policy.least_of_a_class * classes)
    held = order[: min(most, count // 10)]
    if len(held) < policy.least_of_a_class * classes:
        raise UsageError(
            f"{count} pictures of {classes} classes are too few to tell proposals apart: a tenth "
            "of those to train on is held out",
            allowed=f"{10 * policy.least_of_a_class} pictures to train on of each class",
        )
    return _at_size(context, parent, held), draw_tuning(context, parent)


def draw_tuning(context: FitContext, parent: Trained) -> PictureSet:
    """Return what proposals are tuned on: none of the hold-out.

    Args:
        context: of the run.
        parent: at whose size they are.
    """
    count = context.trainer.count("train")
    order = np.random.default_rng([context.seed, 10]).permutation(count)
    most = max(context.policy.adapt.tuning_pictures)
    return _at_size(context, parent, order[count // 10 :][:most])


def _at_size(context: FitContext, parent: Trained, rows: NDArray[np.int64]) -> PictureSet:
    """Return pictures of train as the parent takes them."""
    preprocessing = parent.candidate.family.preprocessing
    held = context.trainer.store.held_out(
        "train", parent.candidate.resolution, preprocessing, rows=np.sort(rows)
    )
    return PictureSet.of(held, preprocessing, seed=context.seed)
