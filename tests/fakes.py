"""Stand-ins for what a fit works with: a machine, a run directory, a ledger, a whole context.

A test names what it uses; whatever else it touches fails, because it is `None`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from featherweight.architecture import Architecture
from featherweight.budget import Evaluation, Latency
from featherweight.devices.device import DEVICES, CompletedRun, DeviceInfo
from featherweight.errors import UsageError
from featherweight.exporting.onnx_profile import profile_onnx
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.family import Family
from featherweight.fitting.moments import Moments
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import Look
from featherweight.fitting.time_plan import SamplePlan, TimePlan
from featherweight.measuring.bench import Untrained
from featherweight.measuring.measurement import Measurement
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.parallel import HereExecutor
from featherweight.profiling.profile import profile
from featherweight.records import Record, parse_record, to_plain
from featherweight.runtimes.artifact import Artifact

R = TypeVar("R", bound=Record)

INFO = DeviceInfo(cpu="fake", cores=1, memory_bytes=None, os="fake", arch="fake", governor=None)
SMALL = Look(
    images={"train": 100, "val": 10, "test": 10},
    classes=10,
    typical_size=32,
    small=True,
    resolution=32,
    weights=(),
    foreign_cpu_share=0.0,
    uneven=1.0,
)
PHOTOS = SMALL.model_copy(
    update={
        "small": False,
        "typical_size": 400,
        "resolution": 320,
        "weights": ("efficientnet_lite0",),
    }
)
"""What `look` sees in small pictures, and in photographs."""


def measurement(label: str, samples_ms: Sequence[float], *, precision: str = "fp32") -> Measurement:
    """Return a measurement of a machine that is not there."""
    return Measurement(
        network=label,
        platform=f"local/fake:threads=1,precision={precision}",
        device_info=INFO,
        runtime_version="0",
        artifact_sha256="0",
        samples_ms=tuple(samples_ms),
        warm_up_runs=1,
        started="2026-01-01T00:00:00+00:00",
    )


class FakeMachine:
    """Takes `fixed + multiply-adds / speed` for a network; int8 has its own speed.

    Args:
        fixed_ms: of every network.
        fp32_gmacs, int8_gmacs: thousand million multiply-adds a second.
        slower: (number of the process, files in it) -> by how much that process is slower.
    """

    def __init__(
        self,
        *,
        fixed_ms: float,
        fp32_gmacs: float,
        int8_gmacs: float,
        slower: Callable[[int, int], float] = lambda _process, _files: 1.0,
    ) -> None:
        self.fixed_ms = fixed_ms
        self.gmacs = {"fp32": fp32_gmacs, "int8": int8_gmacs}
        self.slower = slower
        self.measured = 0
        self.processes = 0

    def latency_ms(self, architecture: Architecture, precision: str) -> float:
        """Return what a network takes in a usual moment."""
        return self.fixed_ms + (profile(architecture).macs or 0) / self.gmacs[precision] / 1e6

    def __call__(
        self, wanted: Sequence[Untrained], folder: Path, samples: int
    ) -> list[Measurement]:
        self.measured += len(wanted)
        self.processes += 1
        slower = self.slower(self.processes, len(wanted))
        return [
            measurement(
                one.label,
                slower * self.latency_ms(one.architecture, one.precision) * np.ones(10),
                precision=one.precision,
            )
            for one in wanted
        ]


class PlayedDevice:
    """Answers for a device: the multiply-adds of a file tell its time, so that no clock chooses.

    Put in the place of `featherweight.measuring.latency.answer_of_device`.
    """

    fixed_ms = 0.05
    gmacs: ClassVar = {"fp32": 20.0, "int8": 40.0}

    def __call__(
        self, _: Any, artifacts: Sequence[Artifact], job: Mapping[str, Any], **__: Any
    ) -> dict[str, Any]:
        """Return what the worker would."""
        times = [self._ms(artifact) for artifact in artifacts]
        count = len(artifacts)
        return {
            "runtime_version": "0",
            "samples_ms": [[ms * (1 + 1e-3 * k) for k in range(10)] for ms in times],
            "retaken_samples": [0] * count,
            "warm_up_runs": [4] * count,
            "runs_per_sample": [1] * count,
            "foreign_cpu_share": {"machine": 0.0, "pinned": 0.0},
            "involuntary_switches": 0,
            "clock_change": 0.0,
        }

    def _ms(self, artifact: Artifact) -> float:
        macs = profile_onnx(Path(artifact.directory) / artifact.files[0]).macs or 0
        return self.fixed_ms + macs / self.gmacs[artifact.precision] / 1e6


class FakeDevice:
    """A machine with a folder of its own: what is pushed is copied there, commands run here."""

    url = "local"
    python = sys.executable

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pushed = 0

    def info(self) -> DeviceInfo:
        """Return the facts of no machine."""
        return INFO

    def push(self, files: Sequence[str], directory: Path) -> str:
        """Copy files into a folder of this push."""
        missing = [name for name in files if not (directory / name).is_file()]
        if missing:
            raise UsageError(f"the file {directory / missing[0]} does not exist")
        self._pushed += 1
        there = self._folder / str(self._pushed)
        for name in files:
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(directory / name, there / name)
        return str(there)

    def remove(self, directories: Sequence[str]) -> None:
        """Delete what was pushed."""
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)

    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else is there."""
        return nullcontext()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> CompletedRun:
        """Run a command here."""
        return DEVICES["local"].run(argv, timeout_s=timeout_s, stdin=stdin, environment=environment)


class MemoryRun:
    """A run directory that only remembers finished stages."""

    def __init__(self, path: Path = Path("nowhere"), *, elapsed_s: float = 0.0) -> None:
        self.path = path
        self.elapsed_s = elapsed_s
        self.done: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, object] = {}

    def stage(
        self,
        name: str,
        *,
        inputs: object,
        outputs: type[R],
        work: Callable[[], R],
        files: Callable[[], Sequence[Path]] = tuple,
    ) -> R:
        """Do a stage once."""
        if name not in self.done or self._inputs[name] != inputs:
            self.done[name], self._inputs[name] = to_plain(work()), inputs
            files()
        return parse_record(outputs, self.done[name], source=name)

    def heartbeat(self) -> None:
        """Nothing dies here."""


@dataclass
class MemoryLedger:
    """A ledger that keeps what it is told as (label, status, reason, stage)."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)

    def note(self, measured: Measured, *, status: str, reason: str, stage: str, **_: Any) -> None:
        """Keep a row."""
        self.rows.append((measured.candidate.label, status, reason, stage))

    def note_trained(
        self, trained: Trained, *, status: str, reason: str, stage: str | None = None
    ) -> None:
        """Keep a row."""
        self.note(trained.measured, status=status, reason=reason, stage=stage or str(trained.phase))

    def note_race(self, raced: Sequence[Trained]) -> None:
        """Keep a row for each."""
        for trained in raced:
            self.note_trained(trained, status="raced", reason="")

    def note_measurements(self, measured: Sequence[Measurement], *, purpose: str) -> None:
        """Keep them."""
        self.measurements += measured

    @property
    def remembered(self) -> Any:
        """Nothing was measured before."""
        return self

    def measuring(self, measure: Any, *, purpose: str) -> Any:
        """Return what measures."""
        return measure


def fake_context(**parts: Any) -> FitContext:
    """Return a context of these parts; what is not named is `None`, or neutral."""
    settings = parts.pop("settings", None) or FitSettings(
        data="d", latency_ms=1, platform="p", time_s=parts.pop("time_s", 900.0)
    )
    made: dict[str, Any] = {
        "run": MemoryRun(),
        "settings": settings,
        "policy": DEFAULT_POLICY,
        "plan": TimePlan.of(settings, spent_s=0.0, small=False),
        "samples": SamplePlan.of(settings),
        "ledger": MemoryLedger(),
        "trainer": None,
        "readers": None,
        "measure": None,
        "moments": Moments(lambda: 0.01),
        "ending": None,
        "workers": HereExecutor(),
    }
    return FitContext(**{**made, **parts})


def small_family(
    name: str = "mobilenet_v2",
    *,
    axis: str = "resolution",
    sizes: Sequence[float] = (16.0,),
    source: str | None = "auto",
    **more: Any,
) -> Family:
    """Return a MobileNetV2 of a quarter of the width as a family."""
    return Family(
        name,
        cast(Any, axis),
        tuple(sizes),
        _quarter,
        source,
        Preprocessing(),
        **more,
    )


def _quarter(size: float) -> Architecture:
    return create_architecture("mobilenet_v2", width=0.25, resolution=int(size), classes=10)


def measured(candidate: Candidate, median_ms: float = 1.0) -> Measured:
    """Return a candidate that took so long, give or take a tenth."""
    interval_ms = (0.9 * median_ms, 1.1 * median_ms)
    return Measured(candidate, Latency(median_ms=median_ms, interval_ms=interval_ms))


def on_val(accuracy: float) -> Evaluation:
    """Return an accuracy on val."""
    return Evaluation(metric="accuracy", value=accuracy, n=100, interval=None, split="val")


def trained(
    candidate: Candidate,
    losses: Any = 0.5,
    *,
    phase: Phase | None = None,
    accuracy: float = 0.8,
    images_seen: int = 1,
    median_ms: float = 1.0,
) -> Trained:
    """Return a candidate as it was trained; one loss stands for that of four pictures."""
    training = Training(
        candidate,
        phase or Phase(kind="train"),
        np.full(4, losses) if np.isscalar(losses) else losses,
        on_val(accuracy),
        images_seen=images_seen,
        seconds=1.0,
    )
    return Trained.of(measured(candidate, median_ms), training)
