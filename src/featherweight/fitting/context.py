"""What every stage of a fit needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from featherweight.budget import Budget
from featherweight.data.images import ImageData
from featherweight.exporting.platforms import Platform
from featherweight.fitting.candidate import Candidate
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.feature_readers import FeatureReaders
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.moments import Moments
from featherweight.fitting.policy import DEFAULT_POLICY, Policy
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import SamplePlan, TimePlan
from featherweight.fitting.trainer import Trainer, open_trainer
from featherweight.measuring.bench import Bench, Measure, Untrained, time_untrained
from featherweight.measuring.measurement import Measurement
from featherweight.parallel import width_of
from featherweight.run_directory import RunDirectory

__all__ = ["FitContext", "open_context"]

_MOST_S_PER_SAMPLE = 0.03
"""A network slower than this gets fewer samples in the same window."""


@dataclass(frozen=True)
class FitContext:
    """What every stage of a fit needs.

    Attributes:
        run: the run directory.
        settings: what was asked for.
        policy: what is decided by.
        plan: shares of the time.
        samples: how long each kind of measurement takes.
        ledger: the run's journals.
        trainer: trains, exports and loads networks.
        readers: of what exported files see in pictures.
        measure: times networks that take turns, each in its precision.
        moments: how fast the machine computed, now and then.
        ending: how long the end will take, from what was seen so far.
        workers: where trainings run that do not depend on each other.
    """

    run: RunDirectory
    settings: FitSettings
    policy: Policy
    plan: TimePlan
    samples: SamplePlan
    ledger: Ledger
    trainer: Trainer
    readers: FeatureReaders
    measure: Measure
    moments: Moments
    ending: EndingTime
    workers: Executor

    @property
    def width(self) -> int:
        """How many trainings run at the same time."""
        return width_of(self.workers)

    @property
    def budget(self) -> Budget:
        """The latency that the file may have."""
        return self.settings.budget

    @property
    def seed(self) -> int:
        """Of everything that draws."""
        return self.settings.seed

    def bench(
        self,
        purpose: str,
        *,
        samples: SamplePlan | None = None,
        note: Callable[[float], None] | None = None,
    ) -> Bench[Candidate]:
        """Return a bench that knows nothing but what a cut attempt measured for this `purpose`.

        Args:
            purpose: what the measurements are for, in the journal.
            samples: how many each measurement takes; `None` = those of the fit.
            note: told after each measurement how many seconds a process took.
        """

        def measure(wanted: Sequence[Untrained], folder: Path, count: int) -> list[Measurement]:
            started = time.monotonic()
            found = self.measure(wanted, folder, count)
            if note is not None:
                processes = len({one.precision for one in wanted})
                note((time.monotonic() - started) / processes)
            return found

        return Bench(
            self.ledger.remembered.measuring(measure, purpose=purpose),
            folder=self.run.path / "artifacts" / "shop",
            samples=samples or self.samples,
            purpose=purpose,
        )


def open_context(
    run: RunDirectory,
    images: ImageData,
    settings: FitSettings,
    *,
    plan: TimePlan,
    workers: Executor,
    foreign_share: float = 0.0,
    policy: Policy | None = None,
) -> FitContext:
    """Return what the stages of a fit need.

    Args:
        run: the run directory.
        images: the data.
        settings: of the fit.
        plan: shares of the time.
        workers: where trainings run that do not depend on each other.
        foreign_share: of the CPU that other programs take, in 0..1.
        policy: what is decided by; `None` = the default.
    """
    trainer = open_trainer(images, settings, folder=run.path)
    samples = SamplePlan.of(settings)
    return FitContext(
        run=run,
        settings=settings,
        policy=DEFAULT_POLICY if policy is None else policy,
        plan=plan,
        samples=samples,
        ledger=Ledger(run, runtime=trainer.platform.runtime),
        trainer=trainer,
        readers=FeatureReaders(trainer),
        measure=_measuring(trainer.platform, seed=settings.seed),
        moments=Moments(),
        ending=EndingTime.of(images, settings, foreign_share=foreign_share),
        workers=workers,
    )


def _measuring(platform: Platform, *, seed: int) -> Measure:
    """Return what times networks on a platform.

    Disturbed measurements are not repeated: every network is looked at several times, and the
    proof measures again.
    """

    def measure(wanted: Sequence[Untrained], folder: Path, samples: int) -> list[Measurement]:
        found = time_untrained(
            wanted,
            platform=platform,
            samples=samples,
            max_s_each=_MOST_S_PER_SAMPLE * samples,
            seed=seed,
            repeat_disturbed=False,
            folder=folder,
        )
        return [found[index] for index in range(len(wanted))]

    return measure
