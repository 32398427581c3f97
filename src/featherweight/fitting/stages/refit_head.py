"""After the last training: the network at the size that fits, with a classifier that suits it.

A short fit trains at a size at which it sees enough pictures (`stages.pace`), which may be far
below what the budget allows, and a machine that has become slower allows less than before.
Weights on photographs run at any resolution, but not equally well: trained at 96 pixels, a network
had a loss of 0.66 there and of 1.17 at 112, where its last feature map is 4 x 4 instead of 3 x 3
(docs/adr/0015-whole-pictures.md). A classifier is fitted to another size in seconds
(`fitting.refit`), and val says which size, with which classifier, is the best one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.budget import Evaluation
from featherweight.data.metrics import difference_interval
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.ranking import (
    evaluate_on_val,
    keep_losses,
    kept_losses,
    losses_on_val,
)
from featherweight.fitting.refit import with_fitted_classifier
from featherweight.networks.modules import as_classifier, at_size
from featherweight.networks.storage import StoredNetwork
from featherweight.records import Record

__all__ = ["is_known_to_grow", "rank_at_size", "refit_head"]

logger = logging.getLogger(__name__)


class _RefitRecord(Record):
    val: Evaluation
    val_loss: float


def is_known_to_grow(context: FitContext, trained: Trained, size: float) -> bool:
    """Whether `size` is a larger one that the training showed, and all pictures were seen.

    At 128 pixels after a training at 112 all ten fine-tunings of results/fine_tuning.json (in
    benchmarks) had the lower loss, over some 950 pictures; the 300 of a usual val can hardly show
    more, and a short fit does not ask them.
    """
    growth = size / trained.candidate.size
    is_known = growth > 1.0 and trained.candidate.family.knows(growth)
    return is_known and _has_learnt(context, trained)


def _has_learnt(context: FitContext, trained: Trained) -> bool:
    """Whether a network has no features of a larger data set, or has seen every picture."""
    has_seen_all = trained.training.images_seen >= context.trainer.count("train")
    return trained.candidate.family.source is None or has_seen_all


def refit_head(
    context: FitContext, trained: Trained, fitting: Measured, *, is_short: bool = False
) -> Trained:
    """Return what ships, and at which size: as trained, or as `fitting` if val allows it.

    A larger size that the training showed ships unless it is surely (95 %) worse on val; any other
    must be better. At the size of its training a network gets a new classifier only where it
    started from weights of a larger data set with a drawn one, and has not seen every picture.

    Args:
        context: of the fit.
        trained: what the last training ended with.
        fitting: the largest size that fits.
        is_short: whether there is no time to try a new classifier at a smaller size. Seen once, 96
            pixels after a training at 120: val had a loss of 1.454 with the old one, and 1.673 with
            one fitted to pictures that the network had learnt.
    """
    before, after = trained.candidate, fitting.candidate
    family, growth = before.family, after.size / before.size
    has_learnt = _has_learnt(context, trained)
    suits = has_learnt and family.knows(growth)
    keeps = (
        has_learnt or family.name in context.trainer.classifiers or not context.trainer.task.linear
    )
    if (growth == 1.0 and keeps) or (growth < 1.0 and (suits or (is_short and keeps))):
        return trained
    phase = trained.phase.model_copy(update={"trained_at": before.size})
    losses, val = rank_at_size(
        context,
        after,
        phase,
        load=lambda: context.trainer.load(before, trained.phase),
        inputs={"trained": before.key, "phase": str(trained.phase), "size": after.size},
        refits=not suits and context.trainer.task.linear,
    )
    found = Trained(fitting, trained.training, phase, losses, val)
    context.ledger.note_trained(
        found,
        status="finalist",
        reason=f"val loss {found.val_loss:.3f} with its classifier fitted again; {before.label} "
        f"as trained has {trained.val_loss:.3f}",
    )
    # What is smaller than the training's size ships because the trained size does not fit.
    best = found if growth < 1.0 or found.val_loss < trained.val_loss else trained
    # Larger pictures are answered better than a few hundred of val can show.
    if suits and difference_interval(found.losses, trained.losses, seed=context.seed)[0] <= 0.0:
        best = found
    logger.info(
        "refit: %s has loss %.3f on val; %s as trained %.3f",
        after.title,
        found.val_loss,
        before.title,
        trained.val_loss,
    )
    return best


def rank_at_size(
    context: FitContext,
    candidate: Candidate,
    phase: Phase,
    *,
    load: Callable[[], StoredNetwork],
    inputs: Mapping[str, Any],
    refits: bool = True,
) -> tuple[NDArray[np.float64], Evaluation]:
    """Copy a trained network at a size, suit its classifier to that, and rank its file: a stage.

    Args:
        context: of the fit.
        candidate: the size and precision that would ship.
        phase: names the stage and the folder of the copy.
        load: reads the trained network.
        inputs: what the stage depends on.
        refits: whether a linear classifier is fitted to this size.

    Returns:
        the loss of the file on each ranked val picture, and how the network answers val.
    """
    trainer = context.trainer
    folder = trainer.network_folder(candidate, phase)
    files: list[Path] = []

    def work() -> _RefitRecord:
        network = at_size(load().network, candidate.resolution)
        if refits and trainer.task.linear:
            fitted = with_fitted_classifier(
                candidate,
                as_classifier(network),
                trainer=trainer,
                name="refit",
                policy=context.policy.refit,
            )
            network = fitted or network
        trainer.save(network, candidate, folder=folder)
        most = context.policy.race.val_pictures
        losses = losses_on_val(trainer, candidate, network, phase=phase, most=most)
        files.extend(keep_losses(folder, losses))
        val = evaluate_on_val(trainer, candidate, network)
        logger.info(
            "%s: %s: val %s, loss of the file %.3f", phase, candidate.title, val, losses.mean()
        )
        return _RefitRecord(val=val, val_loss=float(losses.mean()))

    record = context.run.stage(
        f"{phase}:{candidate.key}",
        inputs=inputs,
        outputs=_RefitRecord,
        work=work,
        files=lambda: files,
    )
    return kept_losses(folder), record.val
