"""What flows through a fit: Candidate -> Measured -> Trained -> Proof.

Each holds the one before whole: nothing is patched in, and what is not known yet is another type.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featherweight.architecture import Architecture
from featherweight.budget import Evaluation, Latency
from featherweight.detection.detector import Detector
from featherweight.errors import RecordError, UnsupportedError
from featherweight.exporting.verification import Verification
from featherweight.fitting.family import Family
from featherweight.measuring.measurement import Measurement
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.modules import AnyNetwork
from featherweight.profiling.profile import profile
from featherweight.records import Record
from featherweight.reporting.run import Shortfall
from featherweight.runtimes.artifact import Artifact

__all__ = [
    "Candidate",
    "Kind",
    "Measured",
    "MeasuredRecord",
    "Phase",
    "Proof",
    "Trained",
    "Training",
    "TrainingRecord",
]


@dataclass(frozen=True)
class Candidate:
    """A network at a size and in a precision: what could ship.

    Attributes:
        family: the network.
        size: a resolution or a width, whatever the family's axis is.
        precision: of its file.
        max_size: the largest size that can learn in the time there is.
    """

    family: Family
    size: float
    precision: str
    max_size: float = field(default=math.inf, compare=False)

    @property
    def architecture(self) -> AnyArchitecture:
        """The network at this size."""
        return _build(self.family, self.size)

    @property
    def plain(self) -> Architecture:
        """The same, of a classifier.

        Raises:
            UnsupportedError: it is a detector.
        """
        if isinstance(self.architecture, Detector):
            raise UnsupportedError(f"{self.label} is a detector", allowed="a classifier")
        return self.architecture

    @property
    def resolution(self) -> int:
        """Side of the pictures it takes."""
        return self.architecture.resolution

    @property
    def macs(self) -> int:
        """Multiply-adds; 0 while an operator is unknown to the counter."""
        return _count_macs(self.family, self.size)

    @property
    def key(self) -> str:
        """Name of its folders and stages."""
        return f"{self.architecture.digest[:16]}-{self.precision}"

    @property
    def label(self) -> str:
        """The network's text form."""
        return self.family.label(self.size)

    @property
    def title(self) -> str:
        """What journals and messages call it."""
        return f"{self.label} {self.precision}"

    @property
    def is_held_back(self) -> bool:
        """Whether larger sizes could not learn in the time there is."""
        return self.max_size < math.inf

    def at(self, size: float) -> Candidate:
        """Return it at another size, which may be any."""
        return Candidate(self.family, size, self.precision)


@functools.lru_cache(maxsize=1024)
def _build(family: Family, size: float) -> AnyArchitecture:
    return family.build(size)


@functools.lru_cache(maxsize=1024)
def _count_macs(family: Family, size: float) -> int:
    return profile(_build(family, size)).macs or 0


@dataclass(frozen=True)
class Measured:
    """A candidate and what its file takes on the platform."""

    candidate: Candidate
    latency: Latency


class MeasuredRecord(Record):
    """A `Measured` as a stage writes it down; the family is found again by its name."""

    family: str
    size: float
    precision: str
    latency: Latency

    @classmethod
    def of(cls, measured: Measured) -> MeasuredRecord:
        """Return what is written."""
        one = measured.candidate
        return cls(
            family=one.family.name, size=one.size, precision=one.precision, latency=measured.latency
        )

    def read(self, families: Iterable[Family]) -> Measured:
        """Return what was written.

        Raises:
            RecordError: no such family is considered.
        """
        for family in families:
            if family.name == self.family:
                return Measured(Candidate(family, self.size, self.precision), self.latency)
        raise RecordError(f"a finished stage names the network {self.family!r}, which is unknown")


Kind = Literal[
    "parent",
    "probe",
    "inherited",
    "trial",
    "race",
    "fill",
    "teacher",
    "train",
    "refined",
    "int8-finetune",
]
"""Of trainings, the shorter first."""


class Phase(Record):
    """Which training of a network, or which fit of its classifier, made some weights.

    Attributes:
        kind: the stage.
        rung: of a race, from 1.
        trained_at: size of the training, where its classifier was fitted to another one since.
    """

    kind: Kind
    rung: int | None = None
    trained_at: float | None = None

    def __str__(self) -> str:
        """Return the name of its stages and folders."""
        name = self.kind if self.rung is None else f"{self.kind}-{self.rung}"
        return name if self.trained_at is None else f"{name}-at-{self.trained_at:g}"

    @property
    def order(self) -> int:
        """Longer trainings come later."""
        return 10 * get_args(Kind).index(self.kind) + (self.rung or 0)


@dataclass(frozen=True)
class Training:
    """One training of a candidate, and how well its file does on val.

    Attributes:
        candidate: at the size of the training.
        phase: which training.
        losses: of the file on each ranked val picture.
        val: what the network answers on val.
        images_seen: pictures.
        seconds: of wall clock.
        curve: (share of the training, accuracy on val) after every epoch.
        is_hopeless: whether it was ended early, below its floor.
    """

    candidate: Candidate
    phase: Phase
    losses: NDArray[np.float64]
    val: Evaluation
    images_seen: int
    seconds: float
    curve: tuple[tuple[float, float], ...] = ()
    is_hopeless: bool = False

    @property
    def val_loss(self) -> float:
        """Mean loss on val."""
        return float(self.losses.mean())


class TrainingRecord(Record):
    """A `Training` as its stage writes it down; the losses are in a file beside the network.

    Attributes:
        kind: tells trainings from other stages.
        key, phase: name its folder, `networks/KEY-PHASE`.
        size, precision: of the candidate.
        weights_of: zoo name of the network that the weights were made for.
        val, val_loss: on val.
        images_seen, seconds: of the training.
        curve, is_hopeless: see `Training`.
    """

    kind: Literal["training"] = "training"
    key: str
    phase: Phase
    size: float
    precision: str
    weights_of: str
    val: Evaluation
    val_loss: float
    images_seen: int
    seconds: float
    curve: tuple[tuple[float, float], ...] = ()
    is_hopeless: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained network at the size that it may ship in.

    Attributes:
        measured: that size.
        training: at the same size, or at another one.
        phase: names its folder: that of the training, or of the fit of its classifier since.
        losses: of the file at that size on each ranked val picture.
        val: what the network answers there.
    """

    measured: Measured
    training: Training
    phase: Phase
    losses: NDArray[np.float64]
    val: Evaluation

    @classmethod
    def of(cls, measured: Measured, training: Training) -> Trained:
        """Return a network as it was trained."""
        return cls(measured, training, training.phase, training.losses, training.val)

    @property
    def candidate(self) -> Candidate:
        """What would ship."""
        return self.measured.candidate

    @property
    def val_loss(self) -> float:
        """Mean loss on val."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Proof:
    """What was proven about the exported file.

    Attributes:
        artifact: the file.
        network: the PyTorch network of that file.
        measurement: from a fresh process that took no part in any choice.
        verification: parity and accuracy of the file on the test split.
        commonest: share of the test pictures that are of the commonest class.
        val_accuracy: of that network on val, at the size that ships.
        bundle: folder to copy to the device; `None` = the runtime has none.
        met: the upper end of the interval of the median is within the budget.
    """

    artifact: Artifact
    network: AnyNetwork
    measurement: Measurement
    verification: Verification
    commonest: float
    val_accuracy: float
    bundle: Path | None
    met: bool

    @property
    def latency(self) -> Latency:
        """Of the file."""
        return Latency(
            median_ms=self.measurement.median_ms, interval_ms=self.measurement.interval_ms
        )

    def shortfall(self, least: float | None) -> Shortfall | None:
        """Return why the file's accuracy is too low to be of use; `None` = it is not.

        Args:
            least: accuracy that the user asks for; `None` = surely better than guessing.
        """
        if least is not None and self.verification.accuracy < least:
            return "below_asked"
        return "guessing" if self.verification.interval[0] <= self.commonest else None
