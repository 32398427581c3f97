"""The third stage: train the kept candidates briefly and keep what learns best.

Successive halving at equal wall clock, so that training speed is part of the choice. Each rung
trains with a complete schedule from the same start. Ranking is by mean loss of the *file* on
val (int8 damage included), paired; where the interval of a difference spans zero, the network
that is cheaper to run wins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.images import ImageData
from featherweight.data.rows import spaced_rows
from featherweight.exporting.export import export_network
from featherweight.fitting.families import Family
from featherweight.fitting.fine_tuning import suited
from featherweight.fitting.settings import FitSettings
from featherweight.journal import Journal
from featherweight.measuring.platform import Platform, parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import load_pretrained
from featherweight.networks.storage import StoredNetwork, load_network, save_network
from featherweight.nn.network import Network, build_network, resized
from featherweight.records import to_plain
from featherweight.reporting.run import Candidate
from featherweight.runtimes.answers import load_answers
from featherweight.training.classify import (
    EvaluationResult,
    TrainingImages,
    TrainingResult,
    evaluate_network,
    train_classifier,
)
from featherweight.training.compute import Compute, choose_device
from featherweight.training.fake_quantisation import Int8Levels, observe_levels
from featherweight.training.memory import memory_kept
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.progress import ProgressLog
from featherweight.training.recipe import Recipe, default_recipe
from featherweight.training.results import EpochRecord
from featherweight.training.speed import Probe, choose_compute
from featherweight.training.start import (
    kept_first_weights,
    suit_to_pictures,
    with_classifier,
)

__all__ = [
    "Entry",
    "Trainer",
    "difference_interval",
    "file_losses",
    "keep_losses",
    "kept_losses",
    "open_trainer",
]

logger = logging.getLogger(__name__)

_LOSSES = "val_losses.npy"
_VAL_PICTURES = 2000
"""At most this many val pictures are run through a file per ranking: a standard error of one
point of accuracy, and a few seconds at one millisecond each."""


@dataclass(frozen=True)
class Entry:
    """One candidate in the race with what it needs to be built again.

    Attributes:
        candidate: what was measured.
        family: the network with its knob.
        value: of the knob.
        ceiling: largest value that can learn in the time there is; `None` = any.
    """

    candidate: Candidate
    family: Family
    value: float
    ceiling: float | None = None

    @property
    def key(self) -> str:
        """Name of its folders and stages."""
        return f"{self.candidate.architecture_digest[:16]}-{self.candidate.precision}"

    def label_at(self, resolution: int) -> str:
        """Return the network's text form at a resolution it may ship at."""
        if self.family.knob == "resolution":
            return self.family.label(float(resolution))
        return self.candidate.name

    def at(self, value: float) -> Entry:
        """Return the candidate at another value of its knob, not measured."""
        architecture = self.family.build(value)
        candidate = self.candidate.model_copy(
            update={
                "name": self.family.label(value),
                "architecture_digest": architecture.digest,
                "resolution": architecture.resolution,
                "latency_ms": None,
                "interval_ms": None,
            }
        )
        return Entry(candidate, self.family, value)

    @property
    def title(self) -> str:
        """What journals and messages call it."""
        return f"{self.candidate.name} {self.candidate.precision}"


@dataclass(frozen=True)
class Trainer:
    """Trains, exports and ranks candidates of one run.

    Attributes:
        store: the pictures.
        platform: what the files are exported for (precision replaced by the candidate's).
        folder: the run directory.
        seed: of initial weights, order and augmentation.
        device: where training runs.
        forms: how the networks of a family compute in training, where that is known; the others
            find out at the start of each training.
        speeds: pictures per second that the networks of a family train on, where that is known.
        classifiers: files of the classifiers that the networks of a family start with, where they
            were fitted (`fitting.linear_start`).
    """

    store: PixelStore
    platform: Platform
    folder: Path
    seed: int
    device: str
    forms: Mapping[str, Compute] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    classifiers: Mapping[str, Path] = field(default_factory=dict)

    def start(self, entry: Entry, phase: str) -> Network:
        """Return the network before a training: pretrained, or freshly drawn and kept there."""
        architecture = entry.family.build(entry.value)
        preprocessing = entry.family.preprocessing
        if entry.family.start is not None:
            return resized(load_network(entry.family.start).network, architecture.resolution)
        if entry.family.source is None:
            pictures = self.store.train(architecture.resolution, preprocessing)
            return kept_first_weights(
                self.checkpoint_folder(entry, phase),
                lambda: suit_to_pictures(
                    build_network(architecture, seed=self.seed),
                    pictures,
                    preprocessing=preprocessing,
                ),
            )
        network = load_pretrained(architecture, source=entry.family.source, seed=self.seed)
        classifier = self.classifiers.get(entry.family.name)
        return network if classifier is None else with_classifier(network, classifier)

    def recipe(
        self, entry: Entry, *, time_s: float | None, epochs: int | None, distillation: bool
    ) -> Recipe:
        """Return the training recipe of a candidate for a time or a number of epochs."""
        recipe = default_recipe(
            pretrained=entry.family.source is not None,
            resolution=entry.candidate.resolution,
            images=len(self.store.data.splits["train"].labels),
            time_s=time_s,
            epochs=epochs,
            distillation=distillation,
            whole=entry.family.whole,
            fitted_classifier=entry.family.name in self.classifiers,
            seed=self.seed,
        )
        return suited(recipe, entry.family, value=entry.value)

    def train(
        self,
        entry: Entry,
        *,
        phase: str,
        recipe: Recipe,
        beat: Callable[[], None],
        teacher: StoredNetwork | None = None,
        before: Network | None = None,
        spent_s: float = 0.0,
    ) -> TrainingResult:
        """Train a candidate and save the network.

        Args:
            entry: what is trained.
            phase: names its folders.
            recipe: hyperparameters and length.
            beat: called every epoch.
            teacher: whose answers are imitated.
            before: go on from this network, which learns to be rounded as its int8 file is;
                `None` = from the candidate's start.
            spent_s: part of the recipe's time that is gone, lost attempts included.
        """
        preprocessing = entry.family.preprocessing
        resolution = entry.candidate.resolution
        guide = None if teacher is None else teacher.network
        name = entry.title
        told = ProgressLog(f"{phase}: {name}", logger=logger)
        journal = Journal(self.folder / "train.jsonl")
        written = {
            line["epoch"]
            for line in journal.read()
            if line["network"] == name and line["phase"] == phase
        }

        def write(epoch: EpochRecord) -> None:
            if epoch.epoch not in written:
                written.add(epoch.epoch)
                journal.append(
                    {"event": "epoch", "network": name, "phase": phase, **to_plain(epoch)}
                )

        def end_epoch(epoch: EpochRecord) -> None:
            told.epoch(epoch)
            write(epoch)
            beat()

        result = train_classifier(
            self.start(entry, phase) if before is None else before,
            train=self.store.train(resolution, preprocessing, teacher=guide),
            val=self.store.held_out("val", resolution, preprocessing),
            recipe=recipe,
            preprocessing=preprocessing,
            directory=self.checkpoint_folder(entry, phase),
            teacher=guide,
            teacher_preprocessing=None if teacher is None else teacher.preprocessing,
            device=self.device,
            compute=self.forms.get(entry.family.name),
            levels=None if before is None else self._levels(entry, before),
            progress=end_epoch,
            tick=told.tick,
            spent_s=spent_s,
            images_per_s=self.speeds.get(entry.family.name) if teacher is None else None,
        )
        save_network(
            result.network,
            self.network_folder(entry, phase),
            preprocessing=preprocessing,
            classes=self.store.data.classes,
        )
        for epoch in result.history:  # a kill between checkpoint and journal left one out
            write(epoch)
        return result

    def pace(
        self, entry: Entry, *, recipe: Recipe, compute: Compute | None
    ) -> tuple[Compute, float]:
        """Time a few training steps of a candidate; return their form and pictures per second.

        Args:
            entry: its value says which size is timed.
            recipe: of the training.
            compute: the form; `None` = the fastest is found, on smaller batches.
        """
        architecture = entry.family.build(entry.value)
        probe = Probe(
            build_network(architecture, seed=self.seed),
            self.store.train(architecture.resolution, entry.family.preprocessing),
            recipe,
            entry.family.preprocessing,
            None,
        )
        with memory_kept():
            if compute is None:
                choice = choose_compute(probe, device=choose_device(self.device))
                return choice.compute, choice.fastest_images_per_s
            few = probe.few_pictures
            step_s = probe.mean_step_s(
                compute, size=architecture.resolution, frozen=False, steps=5, most_s=2.0,
                batch_size=few,
            )  # fmt: skip
        return compute, few / step_s

    def checkpoint_folder(self, entry: Entry, phase: str) -> Path:
        """Where a training keeps what it needs to continue."""
        return self.folder / "checkpoints" / f"{entry.key}-{phase}"

    def load(self, entry: Entry, phase: str) -> StoredNetwork:
        """Return a network trained in an earlier phase."""
        return load_network(self.network_folder(entry, phase))

    def network_folder(self, entry: Entry, phase: str) -> Path:
        """Where the trained network of a phase is kept."""
        return self.folder / "networks" / f"{entry.key}-{phase}"

    def rank(self, entry: Entry, network: Network, *, phase: str) -> NDArray[np.float64]:
        """Return the weighted loss on each val picture, of the file if the precision changes it."""
        val, rows = self._ranked_pictures(entry)
        if entry.candidate.precision == "fp32":
            result = self._evaluate(entry, network, val)
            return np.asarray(result.losses, dtype=np.float64)[rows]
        logits = self._file_logits(entry, network, phase=phase)
        losses = file_losses(logits, val.labels[rows])
        return losses if val.weights is None else losses * val.weights[rows]

    def right_answers(
        self, entry: Entry, network: Network, *, phase: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return for each ranked val picture whether network and file are right, weighted."""
        val, rows = self._ranked_pictures(entry)
        weights = np.ones(len(rows)) if val.weights is None else val.weights[rows]
        own = self._evaluate(entry, network, val).predictions[rows]
        file = self._file_logits(entry, network, phase=phase).argmax(axis=1)
        truth = val.labels[rows]
        return (own == truth) * weights, (file == truth) * weights

    def _evaluate(self, entry: Entry, network: Network, val: TrainingImages) -> EvaluationResult:
        preprocessing = entry.family.preprocessing
        return evaluate_network(
            network, images=val, preprocessing=preprocessing, device=self.device
        )

    def _ranked_pictures(self, entry: Entry) -> tuple[TrainingImages, NDArray[np.int64]]:
        """Return val and which of its pictures rank: evenly spaced, as folders list by class."""
        val = self.store.held_out("val", entry.candidate.resolution, entry.family.preprocessing)
        return val, spaced_rows(len(val), most=_VAL_PICTURES)

    def _file_logits(self, entry: Entry, network: Network, *, phase: str) -> NDArray[np.float32]:
        """Return what the exported file answers to the ranked val pictures, (n, classes)."""
        candidate, preprocessing = entry.candidate, entry.family.preprocessing
        val, rows = self._ranked_pictures(entry)
        artifact = export_network(
            network,
            runtime=self.platform.runtime,
            precision=candidate.precision,
            out=self.folder / "artifacts" / "race" / f"{entry.key}-{phase}",
            calibration=self.calibration(candidate.resolution, preprocessing),
            preprocessing=preprocessing,
            labels=self.store.data.classes,
            limit_pairs=self.platform.limits_pairs,
        )
        return load_answers(artifact)(val.pixels[rows])

    def _levels(self, entry: Entry, network: Network) -> Int8Levels:
        preprocessing = entry.family.preprocessing
        return observe_levels(
            network,
            self.calibration(entry.candidate.resolution, preprocessing),
            preprocessing=preprocessing,
            limit_pairs=self.platform.limits_pairs,
        )

    def calibration(self, resolution: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return the training pictures that int8 ranges are taken from."""
        return self.store.calibration(resolution, preprocessing, seed=self.seed)


def open_trainer(images: ImageData, settings: FitSettings, *, folder: Path) -> Trainer:
    """Return what trains and exports for a run in `folder`."""
    return Trainer(
        store=open_store(images, balanced=settings.metric == "balanced_accuracy"),
        platform=parse_platform(settings.platform),
        folder=folder,
        seed=settings.seed,
        device=settings.device,
    )


def keep_losses(folder: Path, losses: NDArray[np.float64]) -> list[Path]:
    """Write the losses on val beside a saved network; return all files of the folder."""
    np.save(folder / _LOSSES, losses)
    return sorted(folder.iterdir())


def kept_losses(folder: Path) -> NDArray[np.float64]:
    """Return what `keep_losses` wrote."""
    losses: NDArray[np.float64] = np.load(folder / _LOSSES)
    return losses


def file_losses(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cross entropy of each row of logits (N, K) in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return np.asarray(log_sum - shifted[np.arange(len(labels)), labels])


def difference_interval(
    first: NDArray[np.float64], second: NDArray[np.float64], *, seed: int
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of mean(first - second), paired over pictures."""
    difference = first - second
    generator = np.random.default_rng([seed, 95])
    picks = generator.integers(0, len(difference), size=(1000, len(difference)))
    means = difference[picks].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
