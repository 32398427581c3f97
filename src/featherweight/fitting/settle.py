"""After the last training: the network at the size that fits, with a classifier that suits it.

A short fit trains at a size at which it sees enough pictures (`fitting.pace`), which may be far
below what the budget allows. Weights on photographs run at any resolution, and a classifier is
fitted to a new one in seconds (`fitting.refit`): so the trained network is tried at both sizes,
and the file with the lower loss on val ships.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featherweight.fitting.halving import Ranked
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.prove import MOST_GROWTH
from featherweight.fitting.race import Entry, Trainer, keep_losses, kept_losses
from featherweight.fitting.refit import with_fitted_classifier
from featherweight.networks.storage import StoredNetwork, save_network
from featherweight.nn.network import resized
from featherweight.run_directory import RunDirectory
from featherweight.training.classify import evaluate_network

__all__ = ["SETTLE_S", "settle", "settle_stage", "sizes_to_settle"]

logger = logging.getLogger(__name__)

SETTLE_S = 20.0
"""Reserved for two sizes: most of it for decoding, the rest for their files."""
_FARTHEST = 2.25
"""Largest multiple of the resolution of its training that a network is tried at. Seen by
hand in one run: EfficientNet-Lite0, trained at 128 pixels for 18 s, answered 0.74 of the val
photographs there, 0.88 at 144 and 0.89 at 240, both with a classifier of their own."""


def settle_stage(
    run: RunDirectory,
    ledger: Ledger,
    trained: Ranked,
    shopped: Sequence[Entry],
    *,
    trainer: Trainer,
) -> Ranked:
    """Return what ships: the trained network as it is, or with a classifier that makes it better.

    Only networks that started from weights of a larger data set: the features are theirs, and
    trainings from scratch are long enough for their classifiers.

    Args:
        run: the run directory.
        ledger: its journals.
        trained: what the last training ended with.
        shopped: the candidates at the largest sizes that fit, as shopping kept them.
        trainer: exports and ranks.
    """
    if trained.entry.family.source is None:
        return trained
    settled = []
    for entry in sizes_to_settle(trained.entry, shopped):
        phase = f"{trained.phase}-at-{trained.entry.value:g}"
        losses, accuracy = settle(
            entry,
            phase,
            run=run,
            trainer=trainer,
            load=lambda: trainer.load(trained.entry, trained.phase),
            inputs={"trained": trained.entry.key, "phase": trained.phase, "value": entry.value},
        )
        told_as = trained.told_as or (trained.entry.title, trained.phase)
        settled.append(
            replace(
                trained,
                entry=entry,
                phase=phase,
                losses=losses,
                val_accuracy=accuracy,
                told_as=told_as,
            )
        )
    ledger.note_settled(settled, as_trained=trained)
    best = min([trained, *settled], key=lambda ranked: ranked.val_loss)
    logger.info(
        "settle: %s has loss %.3f on val; %s as trained %.3f",
        best.entry.title, best.val_loss, trained.entry.title, trained.val_loss,
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
) -> tuple[NDArray[np.float64], float]:
    """Copy a trained network at a size, suit its classifier to that, and rank its file: a stage.

    Args:
        entry: the size and precision that would ship.
        phase: names the stage and the folder of the copy.
        run: the run directory.
        trainer: exports and ranks.
        load: reads the trained network.
        inputs: what the stage depends on.

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
        network = with_fitted_classifier(entry, network, trainer=trainer, name="refit") or network
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


def sizes_to_settle(trained: Entry, shopped: Sequence[Entry]) -> list[Entry]:
    """Return the trained network at its own size, and as large as fits where that is far above."""
    family = trained.family
    sizes = [trained]
    for entry in shopped:
        same = entry.family.name == family.name
        if not same or entry.candidate.precision != trained.candidate.precision:
            continue
        most = min(entry.value, _FARTHEST * trained.value)
        value = max((v for v in family.values if v <= most), default=trained.value)
        if family.knob == "resolution" and value > MOST_GROWTH * trained.value:
            sizes.append(entry if value == entry.value else trained.at(value))
    return sizes
