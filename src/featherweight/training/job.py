"""One training as a plain value that any process can do: TrainingJob -> TrainingOutcome."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featherweight.detection.detector import Detector
from featherweight.detection.network import build_detector
from featherweight.errors import DataError
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import load_pretrained
from featherweight.networks.pretrained_detector import read_pretrained_detector
from featherweight.networks.storage import load_network, save_network
from featherweight.nn.network import Network, build_network, resized
from featherweight.tasks.task import load_data
from featherweight.training.compute import Compute, choose_device
from featherweight.training.fake_quantisation import Int8Levels, observe_levels
from featherweight.training.loop import TrainingResult, train_network
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import Recipe
from featherweight.training.results import EpochRecord, Floor, Stop, TrainingTick
from featherweight.training.start import (
    kept_first_weights,
    suit_to_pictures,
    with_classifier,
)

__all__ = [
    "DataReference",
    "FirstWeights",
    "TrainingJob",
    "TrainingOutcome",
    "first_network",
    "run_job",
]


@dataclass(frozen=True)
class DataReference:
    """Pictures that every worker can find.

    Attributes:
        data: as `load_data` takes it; the same path on every machine.
        seed: of the splits.
        balanced: whether every class counts the same.
        fingerprint: of the pictures: others are refused.
    """

    data: str
    seed: int
    balanced: bool
    fingerprint: str


@dataclass(frozen=True)
class FirstWeights:
    """What a training starts with.

    Attributes:
        source: weights of a larger data set; `None` = freshly drawn ones.
        classifier: file of a fitted classifier that goes with them.
        folder: a saved network instead of both.
        kept_in: where freshly drawn weights are kept for an attempt after a cut.
    """

    source: str | None
    classifier: Path | None
    folder: Path | None
    kept_in: Path


@dataclass(frozen=True)
class TrainingJob:
    """All that one training is.

    Attributes:
        architecture: the network.
        preprocessing: how pictures are prepared for it.
        first: what it starts with.
        data: the pictures.
        recipe: hyperparameters and length.
        checkpoints: folder of what it needs to continue.
        folder: where the trained network is saved.
        device: auto, cpu, cuda or mps.
        seed: of freshly drawn weights, and of the pictures that int8 ranges are taken from.
        form: memory format and arithmetic; `None` = the fastest is found.
        images_per_s: how many pictures a second it trains on, where that is known.
        teacher: folder of the network whose answers are imitated.
        before: folder of a network to go on from, which learns to be rounded as its int8 file is.
        saturation_safe: of that file, as `ExportOptions` has it.
        spent_s: part of the recipe's time that is gone, lost attempts included.
        floor: accuracies on val, below which the training ends early.
    """

    architecture: AnyArchitecture
    preprocessing: Preprocessing
    first: FirstWeights
    data: DataReference
    recipe: Recipe
    checkpoints: Path
    folder: Path
    device: str = "auto"
    seed: int = 0
    form: tuple[str, str] | None = None
    images_per_s: float | None = None
    teacher: Path | None = None
    before: Path | None = None
    saturation_safe: bool | None = None
    spent_s: float = 0.0
    floor: Floor = ()


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training came to; the network is in its job's folder.

    Attributes:
        val_accuracy: of the epoch that was kept.
        history: of all epochs.
        stopped: why it ended.
    """

    val_accuracy: float
    history: tuple[EpochRecord, ...]
    stopped: Stop

    @property
    def images_seen(self) -> int:
        """Pictures in all."""
        return self.history[-1].images_seen


def run_job(
    job: TrainingJob,
    *,
    store: PixelStore | None = None,
    progress: Callable[[EpochRecord], None] | None = None,
    tick: Callable[[TrainingTick], None] | None = None,
) -> TrainingOutcome:
    """Train a network and save it.

    Args:
        job: what is trained.
        store: its pictures, where this process has them open.
        progress: told after every epoch.
        tick: told about once a second.

    Raises:
        DivergedError: the loss is not finite, whatever was tried.
        DataError: the pictures are not those of the job.
    """
    store = store or _opened(job.data)
    resolution, preprocessing = job.architecture.resolution, job.preprocessing
    teacher = None if job.teacher is None else load_network(job.teacher)
    teacher_network = None if teacher is None else teacher.classifier
    network: AnyNetwork
    levels = None
    if job.before is None:
        network = first_network(
            job.first, job.architecture, preprocessing=preprocessing, store=store, seed=job.seed
        )
    else:
        before = load_network(job.before).classifier
        network, levels = before, _levels(job, before, store)
    result = train_network(
        network,
        train=store.train(resolution, preprocessing, teacher=teacher_network),
        val=store.held_out("val", resolution, preprocessing),
        recipe=job.recipe,
        preprocessing=preprocessing,
        directory=job.checkpoints,
        teacher=teacher_network,
        teacher_preprocessing=None if teacher is None else teacher.preprocessing,
        device=job.device,
        compute=_compute(job),
        levels=levels,
        progress=progress,
        tick=tick,
        spent_s=job.spent_s,
        images_per_s=job.images_per_s if teacher is None else None,
        floor=job.floor,
    )
    return _saved(job, result, store)


def first_network(
    first: FirstWeights,
    architecture: AnyArchitecture,
    *,
    preprocessing: Preprocessing,
    store: PixelStore,
    seed: int,
) -> AnyNetwork:
    """Return the network before its training: pretrained, or freshly drawn and kept.

    Args:
        first: where its weights come from.
        architecture: the network.
        preprocessing: how pictures are prepared for it.
        store: the pictures, which freshly drawn weights are suited to.
        seed: of freshly drawn weights.
    """
    if isinstance(architecture, Detector):
        if first.source is None:
            return build_detector(architecture, seed=seed)
        return read_pretrained_detector(architecture, source=first.source, seed=seed).network
    if first.folder is not None:
        return resized(load_network(first.folder).classifier, architecture.resolution)
    if first.source is None:
        return kept_first_weights(
            first.kept_in,
            lambda: suit_to_pictures(
                build_network(architecture, seed=seed),
                store.train(architecture.resolution, preprocessing),
                preprocessing=preprocessing,
            ),
        )
    network = load_pretrained(architecture, source=first.source, seed=seed)
    return network if first.classifier is None else with_classifier(network, first.classifier)


@functools.lru_cache(maxsize=1)
def _opened(data: DataReference) -> PixelStore:
    """Open pictures once in a process."""
    images = load_data(data.data, seed=data.seed)
    if images.fingerprint != data.fingerprint:
        raise DataError(
            f"{data.data} has other pictures here than where the fit was started",
            hint="give every worker the same folder",
        )
    return open_store(images, balanced=data.balanced)


def _compute(job: TrainingJob) -> Compute | None:
    if job.form is None:
        return None
    memory_format, dtype = job.form
    return Compute(
        device=choose_device(job.device),
        memory_format="channels_last" if memory_format == "channels_last" else "contiguous",
        dtype="bf16" if dtype == "bf16" else "fp32",
    )


def _levels(job: TrainingJob, network: Network, store: PixelStore) -> Int8Levels:
    resolution, preprocessing = job.architecture.resolution, job.preprocessing
    return observe_levels(
        network,
        store.calibration(resolution, preprocessing, seed=job.seed),
        preprocessing=preprocessing,
        saturation_safe=job.saturation_safe,
    )


def _saved(job: TrainingJob, result: TrainingResult, store: PixelStore) -> TrainingOutcome:
    save_network(
        result.network,
        job.folder,
        preprocessing=job.preprocessing,
        classes=store.data.classes,
        task=store.data.task,
    )
    return TrainingOutcome(result.best.val_accuracy, tuple(result.history), result.stopped)
