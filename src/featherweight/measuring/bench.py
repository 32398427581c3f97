"""Time networks before they are trained: files with weights as drawn, interleaved, remembered."""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from featherweight.budget import Latency
from featherweight.detection.detector import Detector
from featherweight.detection.table import DETECTION
from featherweight.errors import UnsupportedError
from featherweight.exporting.platforms import Platform
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import Measurement
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions
from featherweight.tasks.task import CLASSIFICATION

__all__ = [
    "Bench",
    "Measure",
    "Samples",
    "Timeable",
    "Untrained",
    "export_untrained",
    "time_untrained",
]

logger = logging.getLogger(__name__)

_SLOW_SHARE = 0.75
"""Quantile of all runs that stands for a machine's slower moments."""


class Untrained(NamedTuple):
    """A network to time: what it is called, what it is, and in which precision."""

    label: str
    architecture: AnyArchitecture
    precision: str


class Timeable(Protocol):
    """Whatever names a network and a precision."""

    @property
    def label(self) -> str:
        """What people read."""
        ...

    @property
    def architecture(self) -> AnyArchitecture:
        """The network."""
        ...

    @property
    def precision(self) -> str:
        """Of its file."""
        ...


class Samples(Protocol):
    """How many samples each kind of measurement takes, and the margin kept."""

    glance: int
    confirm: int
    alone: int
    margin: float


T = TypeVar("T", bound=Timeable)

Measure = Callable[[Sequence[Untrained], Path, int], list[Measurement]]
"""Networks, a folder for their files, samples of each -> one measurement each."""


def export_untrained(architecture: AnyArchitecture, *, platform: Platform, out: Path) -> Artifact:
    """Export a network with weights as drawn: for timing, where their values do not matter."""
    options = ExportOptions(
        precision=platform.precision,
        preprocessing=Preprocessing(),
        labels=tuple(str(k) for k in range(architecture.num_classes)),
        saturation_safe=platform.saturation_safe,
        task=DETECTION if isinstance(architecture, Detector) else CLASSIFICATION,
    )
    return RUNTIMES[platform.runtime].export(architecture, None, out, options)


def time_untrained(
    wanted: Sequence[Untrained],
    *,
    platform: Platform,
    samples: int,
    max_s_each: float,
    seed: int = 0,
    repeat_disturbed: bool = True,
    folder: Path | None = None,
    refused: Callable[[Untrained, UnsupportedError], None] | None = None,
) -> dict[int, Measurement]:
    """Write every network's file and time them; those of one precision take turns in one process.

    Args:
        wanted: the networks.
        platform: where they run; its precision is replaced by theirs.
        samples: of each; a sample takes 10 ms or more, so they also set the length of the window.
        max_s_each: most seconds for one network.
        seed: of the order of the turns.
        repeat_disturbed: whether a measurement that was disturbed is taken again.
        folder: where the files are written; `None` = somewhere temporary.
        refused: told of each network that the runtime cannot hold, which is then left out;
            `None` = it is an error.

    Returns:
        position in `wanted` -> measurement.

    Raises:
        UnsupportedError: the runtime cannot hold a network, and nothing is told of it.
        DeviceError: the device could not measure.
    """
    measured: dict[int, Measurement] = {}
    with contextlib.ExitStack() as stack:
        if folder is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="featherweight-"))
            folder = Path(made)
        for precision in dict.fromkeys(one.precision for one in wanted):
            at_precision = platform.with_precision(precision)
            artifacts: dict[int, Artifact] = {}
            for index, one in enumerate(wanted):
                if one.precision != precision:
                    continue
                out = folder / f"{index}-{precision}"
                try:
                    artifacts[index] = export_untrained(
                        one.architecture, platform=at_precision, out=out
                    )
                except UnsupportedError as refusal:
                    if refused is None:
                        raise
                    refused(one, refusal)
            found = measure_artifacts(
                list(artifacts.values()),
                platform=at_precision,
                names=[wanted[index].label for index in artifacts],
                samples=samples,
                max_s_each=max_s_each,
                seed=seed,
                repeat_disturbed=repeat_disturbed,
            )
            measured.update(zip(artifacts, found, strict=True))
    return measured


class Bench(Generic[T]):
    """Times networks and remembers what they took.

    One file's median moves by up to a third between processes on a shared machine, which no
    interval from one process shows: a network's latency is the median over its processes, and its
    interval spans all of theirs.

    Args:
        measure: times networks that take turns.
        folder: for their files.
        samples: how many each kind of measurement takes.
        purpose: what it is for, in the log.
    """

    def __init__(self, measure: Measure, *, folder: Path, samples: Samples, purpose: str) -> None:
        self._measure = measure
        self._folder = folder
        self._samples = samples
        self._purpose = purpose
        self._seen: dict[tuple[str, str], list[Measurement]] = {}
        self._known: dict[tuple[str, str], T] = {}

    @property
    def known(self) -> list[T]:
        """Everything that was measured, in the order of the first look."""
        return list(self._known.values())

    def measure(self, wanted: Sequence[T]) -> None:
        """Measure what is not known yet, all of it interleaved in one process."""
        new = [one for one in dict.fromkeys(wanted) if _key(one) not in self._seen]
        if new:
            self._take(new, self._samples.glance)

    def measure_each(self, wanted: Sequence[T]) -> dict[T, str]:
        """Measure networks, together where the runtime holds all of them.

        Returns:
            those that the runtime cannot hold, and why.
        """
        try:
            self.measure(wanted)
        except UnsupportedError as error:
            logger.warning("%s: not every network can run there: %s", self._purpose, error)
        else:
            return {}
        refused = {}
        for one in wanted:
            try:
                self.measure([one])
            except UnsupportedError as refusal:
                refused[one] = str(refusal)
        return refused

    def remeasure(self, wanted: Sequence[T]) -> None:
        """Measure once more, longer, in a fresh process."""
        self._take(wanted, self._samples.confirm)

    def measure_alone(self, wanted: T) -> float:
        """Measure one network in a process of its own; return the median of that process in ms."""
        self._take([wanted], self._samples.alone)
        return self._seen[_key(wanted)][-1].median_ms

    def latency(self, one: T) -> Latency:
        """Return what a measured network took."""
        seen = self._seen[_key(one)]
        return Latency(
            median_ms=statistics.median(measured.median_ms for measured in seen),
            interval_ms=(
                min(measured.interval_ms[0] for measured in seen),
                max(measured.interval_ms[1] for measured in seen),
            ),
        )

    def target_ms(self, budget_ms: float) -> float:
        """Return the part of a budget that a network may take before its proof."""
        return self._samples.margin * budget_ms

    def fits(self, one: T, budget_ms: float) -> bool:
        """Whether a network's median keeps the target, and its slower moments nearly do.

        A machine that switches between two speeds may spend the whole proof in the slower one:
        the upper quartile of all runs must stay within the middle between target and budget.
        """
        seen = self._seen[_key(one)]
        slow_ms = float(np.quantile([ms for run in seen for ms in run.samples_ms], _SLOW_SHARE))
        target_ms = self.target_ms(budget_ms)
        return self.latency(one).median_ms <= target_ms and slow_ms <= (target_ms + budget_ms) / 2

    def _take(self, wanted: Sequence[T], samples: int) -> None:
        asked = [Untrained(one.label, one.architecture, one.precision) for one in wanted]
        for one, measured in zip(wanted, self._measure(asked, self._folder, samples), strict=True):
            self._known.setdefault(_key(one), one)
            self._seen.setdefault(_key(one), []).append(measured)
            logger.info(
                "%s: %s %s %.3f ms%s",
                self._purpose,
                one.label,
                one.precision,
                measured.median_ms,
                " (disturbed)" if measured.disturbed else "",
            )


def _key(one: Timeable) -> tuple[str, str]:
    return one.architecture.digest, one.precision
