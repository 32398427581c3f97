"""What trains, exports and loads the networks of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.images import ImageData
from featherweight.detection.detector import Detector
from featherweight.exporting.export import export_network
from featherweight.exporting.platforms import Platform, parse_platform
from featherweight.fitting.candidate import Candidate, Phase
from featherweight.fitting.fine_tuning import suited
from featherweight.fitting.settings import FitSettings
from featherweight.networks.modules import AnyNetwork, drawn_module
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import StoredNetwork, load_network, save_network
from featherweight.runtimes.artifact import Artifact
from featherweight.tasks.task import Task
from featherweight.training.compute import Compute, choose_device
from featherweight.training.detection import detection_recipe
from featherweight.training.job import (
    DataReference,
    FirstWeights,
    TrainingJob,
    first_network,
)
from featherweight.training.memory import memory_kept
from featherweight.training.objective import OBJECTIVES, Objective
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import Recipe, default_recipe
from featherweight.training.speed import StepTimer, choose_compute

__all__ = ["Trainer", "open_trainer"]

_QUICK_STEP = 4
"""Files that do not ship may take their int8 ranges from every so many of the pictures."""


@dataclass(frozen=True)
class Trainer:
    """Trains, exports and loads candidates of one run.

    Attributes:
        store: the pictures.
        platform: what the files are exported for (precision replaced by the candidate's).
        folder: the run directory.
        seed: of initial weights, order and augmentation.
        device: where training runs.
        data: where the pictures lie, for other processes.
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
    data: str = ""
    forms: Mapping[str, Compute] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    classifiers: Mapping[str, Path] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.store.data.classes

    @property
    def task(self) -> Task:
        """What is asked about the pictures."""
        return self.store.task

    @property
    def objective(self) -> Objective:
        """How networks learn it."""
        return OBJECTIVES[self.store.data.task]

    def count(self, split: str) -> int:
        """Return how many pictures a split has."""
        return len(self.store.data.splits[split])

    def start(self, candidate: Candidate, phase: Phase) -> AnyNetwork:
        """Return the network before a training: pretrained, or freshly drawn and kept there."""
        return first_network(
            self._first(candidate, phase),
            candidate.architecture,
            preprocessing=candidate.family.preprocessing,
            store=self.store,
            seed=self.seed,
        )

    def _first(self, candidate: Candidate, phase: Phase) -> FirstWeights:
        family = candidate.family
        return FirstWeights(
            source=family.source,
            classifier=self.classifiers.get(family.name),
            folder=None if family.start is None else family.start.absolute(),
            kept_in=self.checkpoint_folder(candidate, phase).absolute(),
        )

    def recipe(
        self, candidate: Candidate, *, time_s: float | None, epochs: int | None, distillation: bool
    ) -> Recipe:
        """Return the training recipe of a candidate for a time or a number of epochs."""
        family, drawn = candidate.family, candidate.architecture
        if isinstance(drawn, Detector):
            return detection_recipe(
                drawn.backbone,
                pretrained=family.source is not None and family.weights_unsliced,
                images=self.count("train"),
                time_s=time_s,
                epochs=epochs,
                seed=self.seed,
            )
        recipe = default_recipe(
            pretrained=family.source is not None,
            resolution=candidate.resolution,
            images=self.count("train"),
            time_s=time_s,
            epochs=epochs,
            distillation=distillation,
            whole=family.weights_unsliced,
            knows_classes=family.name in self.classifiers or family.start is not None,
            seed=self.seed,
        )
        return suited(recipe, candidate)

    def job(
        self,
        candidate: Candidate,
        phase: Phase,
        *,
        recipe: Recipe,
        teacher: Path | None = None,
        before: Path | None = None,
        spent_s: float = 0.0,
    ) -> TrainingJob:
        """Return a training of a candidate as a plain value.

        Args:
            candidate: what is trained.
            phase: names its folders.
            recipe: hyperparameters and length.
            teacher: folder of the network whose answers are imitated.
            before: folder of the network to go on from, which learns to be rounded as its int8
                file is; `None` = from the candidate's start.
            spent_s: part of the recipe's time that is gone, lost attempts included.
        """
        name, form = candidate.family.name, self.forms.get(candidate.family.name)
        return TrainingJob(
            architecture=candidate.architecture,
            preprocessing=candidate.family.preprocessing,
            first=self._first(candidate, phase),
            data=DataReference(
                data=self.data,
                seed=self.seed,
                balanced=self.store.balanced,
                fingerprint=self.store.data.fingerprint,
            ),
            recipe=recipe,
            checkpoints=self.checkpoint_folder(candidate, phase).absolute(),
            folder=self.network_folder(candidate, phase).absolute(),
            device=self.device,
            seed=self.seed,
            form=None if form is None else (form.memory_format, form.dtype),
            images_per_s=self.speeds.get(name),
            teacher=None if teacher is None else teacher.absolute(),
            before=None if before is None else before.absolute(),
            saturation_safe=None if before is None else self.platform.saturation_safe,
            spent_s=spent_s,
        )

    def pace(
        self, candidate: Candidate, *, recipe: Recipe, compute: Compute | None
    ) -> tuple[Compute, float]:
        """Time a few training steps of a candidate; return their form and pictures per second.

        Args:
            candidate: what is timed.
            recipe: of the training.
            compute: the form; `None` = the fastest is found, on smaller batches.
        """
        architecture, preprocessing = candidate.architecture, candidate.family.preprocessing
        timer = StepTimer(
            drawn_module(architecture, seed=self.seed),
            self.store.train(architecture.resolution, preprocessing),
            recipe,
            preprocessing,
            None,
        )
        with memory_kept():
            if compute is None:
                choice = choose_compute(timer, device=choose_device(self.device))
                return choice.compute, choice.fastest_images_per_s
            few = timer.few_pictures
            step_s = timer.mean_step_s(
                compute,
                size=architecture.resolution,
                frozen=False,
                steps=5,
                most_s=2.0,
                batch_size=few,
            )
        return compute, few / step_s

    def checkpoint_folder(self, candidate: Candidate, phase: Phase) -> Path:
        """Where a training keeps what it needs to continue."""
        return self.folder / "checkpoints" / f"{candidate.key}-{phase}"

    def network_folder(self, candidate: Candidate, phase: Phase) -> Path:
        """Where the trained network of a phase is kept."""
        return self.folder / "networks" / f"{candidate.key}-{phase}"

    def load(self, candidate: Candidate, phase: Phase) -> StoredNetwork:
        """Return a network trained in an earlier phase."""
        return load_network(self.network_folder(candidate, phase))

    def save(self, network: AnyNetwork, candidate: Candidate, *, folder: Path) -> None:
        """Save a network with the preparation of pictures that its candidate has."""
        save_network(
            network,
            folder,
            preprocessing=candidate.family.preprocessing,
            classes=self.classes,
            task=self.task.kind,
        )

    def export(
        self,
        network: AnyNetwork,
        candidate: Candidate,
        *,
        out: Path,
        labels: tuple[str, ...] | None = None,
        quickly: bool = False,
    ) -> Artifact:
        """Export a network in its candidate's precision, int8 ranges from training pictures.

        Args:
            network: at any resolution.
            candidate: says precision and preparation of pictures.
            out: folder of the file.
            labels: names of the outputs; `None` = the classes.
            quickly: take int8 ranges from a quarter of the pictures: for files that do not ship.
        """
        calibration = None
        if candidate.precision == "int8":
            calibration = self.calibration(
                network.architecture.resolution, candidate.family.preprocessing
            )
            calibration = calibration[::_QUICK_STEP] if quickly else calibration
        return export_network(
            network,
            runtime=self.platform.runtime,
            precision=candidate.precision,
            out=out,
            calibration=calibration,
            preprocessing=candidate.family.preprocessing,
            labels=self.classes if labels is None else labels,
            saturation_safe=self.platform.saturation_safe,
            task=self.task.kind,
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
        data=str(Path(settings.data).absolute()) if Path(settings.data).exists() else settings.data,
    )
