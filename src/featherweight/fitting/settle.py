"""After the last training: the network at the size that fits, with a classifier that suits it.

A short fit trains at a size at which it sees enough pictures (`fitting.pace`), which may be far
below what the budget allows, and a machine that has become slower allows less than before.
Weights on photographs run at any resolution, but not equally well: trained at 96 pixels, a network
had a loss of 0.66 there and of 1.17 at 112, where its last feature map is 4 x 4 instead of 3 x 3
(docs/adr/0015-whole-pictures.md). A classifier is fitted to another size in seconds
(`fitting.refit`), and val says which size, with which classifier, is the best one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featherweight.fitting.halving import Ranked
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.race import (
    Entry,
    Trainer,
    difference_interval,
    keep_losses,
    kept_losses,
)
from featherweight.fitting.refit import with_fitted_classifier
from featherweight.networks.storage import StoredNetwork, save_network
from featherweight.nn.network import resized
from featherweight.run_directory import RunDirectory
from featherweight.training.classify import evaluate_network

__all__ = ["FARTHEST", "is_known_to_grow", "settle", "settle_stage"]

logger = logging.getLogger(__name__)

FARTHEST = 2.25
"""Largest multiple of the resolution of its training that a network is tried at. Seen by
hand in one run: EfficientNet-Lite0, trained at 128 pixels for 18 s, answered 0.74 of the val
photographs there, 0.88 at 144 and 0.89 at 240, both with a classifier of their own."""


def is_known_to_grow(trained: Ranked, value: float, *, trainer: Trainer) -> bool:
    """Whether `value` is a larger size that the training showed, and all pictures were seen.

    At 128 pixels after a training at 112 all ten fine-tunings of results/fine_tuning.json (in
    benchmarks) had the lower loss, over some 950 pictures; the 300 of a usual val can hardly show
    more, and a short fit does not ask them.
    """
    growth = value / trained.entry.value
    return growth > 1.0 and trained.entry.family.knows(growth) and _has_learnt(trained, trainer)


def _has_learnt(trained: Ranked, trainer: Trainer) -> bool:
    """Whether a network has no features of a larger data set, or has seen every picture."""
    pictures = len(trainer.store.data.splits["train"])
    return trained.entry.family.source is None or trained.images_seen >= pictures


def settle_stage(
    run: RunDirectory,
    ledger: Ledger,
    trained: Ranked,
    value: float,
    *,
    trainer: Trainer,
    is_short: bool = False,
) -> Ranked:
    """Return what ships, and at which size: as trained, or at `value` if val has nothing against.

    A larger size that the training showed ships unless it is surely (95 %) worse on val; any other
    must be better. At the size of its training a network gets a new classifier only where it
    started from weights of a larger data set with a drawn one, and has not seen every picture.

    Args:
        run: the run directory.
        ledger: its journals.
        trained: what the last training ended with.
        value: the largest size that fits.
        trainer: exports and ranks.
        is_short: whether there is no time to try a new classifier at a smaller size. Seen once, 96
            pixels after a training at 120: val had a loss of 1.454 with the old one, and 1.673 with
            one fitted to pictures that the network had learnt.
    """
    family, growth = trained.entry.family, value / trained.entry.value
    has_learnt = _has_learnt(trained, trainer)
    suits = has_learnt and family.knows(growth)
    keeps = has_learnt or family.name in trainer.classifiers
    if (growth == 1.0 and keeps) or (growth < 1.0 and (suits or (is_short and keeps))):
        return trained
    entry = trained.entry.at(value)
    phase = f"{trained.phase}-at-{trained.entry.value:g}"
    losses, accuracy = settle(
        entry,
        phase,
        run=run,
        trainer=trainer,
        load=lambda: trainer.load(trained.entry, trained.phase),
        inputs={"trained": trained.entry.key, "phase": trained.phase, "value": value},
        refits=not suits,
    )
    settled = replace(
        trained,
        entry=entry,
        phase=phase,
        losses=losses,
        val_accuracy=accuracy,
        told_as=trained.told_as or (trained.entry.title, trained.phase),
        trained_value=trained.entry.value,
    )
    ledger.note_settled([settled], as_trained=trained)
    # What is smaller than the training's size ships because the trained size does not fit.
    best = settled if growth < 1.0 or settled.val_loss < trained.val_loss else trained
    # Larger pictures are answered better than a few hundred of val can show.
    if suits and difference_interval(settled.losses, trained.losses, seed=trainer.seed)[0] <= 0.0:
        best = settled
    logger.info(
        "settle: %s has loss %.3f on val; %s as trained %.3f",
        entry.title, settled.val_loss, trained.entry.title, trained.val_loss,
    )  # fmt: skip
    return best


def settle(
    entry: Entry,
    phase: str,
    *,
    run: RunDirectory,
    trainer: Trainer,
    load: Callable[[], StoredNetwork],
    inputs: dict[str, object],
    refits: bool = True,
) -> tuple[NDArray[np.float64], float]:
    """Copy a trained network at a size, suit its classifier to that, and rank its file: a stage.

    Args:
        entry: the size and precision that would ship.
        phase: names the stage and the folder of the copy.
        run: the run directory.
        trainer: exports and ranks.
        load: reads the trained network.
        inputs: what the stage depends on.
        refits: whether the classifier is fitted to this size.

    Returns:
        the loss of the file on each ranked val picture, and the network's accuracy on val.
    """
    folder = trainer.network_folder(entry, phase)
    stage = f"{phase}:{entry.key}"
    done = run.stage_done(stage, inputs=inputs)
    if done is None:
        started = time.monotonic()
        stored = load()
        network = resized(stored.network, entry.candidate.resolution)
        if refits:
            fitted = with_fitted_classifier(entry, network, trainer=trainer, name="refit")
            network = fitted or network
        preprocessing = entry.family.preprocessing
        save_network(network, folder, preprocessing=preprocessing, classes=stored.classes)
        losses = trainer.rank(entry, network, phase=phase)
        val = trainer.store.held_out("val", entry.candidate.resolution, preprocessing)
        accuracy = evaluate_network(
            network, images=val, preprocessing=preprocessing, device=trainer.device
        ).accuracy
        done = {"val_accuracy": accuracy, "val_loss": float(losses.mean())}
        files = keep_losses(folder, losses)
        seconds = time.monotonic() - started
        run.finish_stage(stage, inputs=inputs, outputs=done, files=files, seconds=seconds)
        logger.info(
            "%s: %s: val accuracy %.3f, loss of the file %.3f",
            phase, entry.title, accuracy, losses.mean(),
        )  # fmt: skip
    return kept_losses(folder), float(done["val_accuracy"])
