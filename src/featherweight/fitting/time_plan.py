"""Where the minutes of a fit go: every share of time, and the least time a fit needs."""

from __future__ import annotations

import math
from collections.abc import Callable

from featherweight.data.images import ImageData
from featherweight.errors import UsageError
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import quietest_share
from featherweight.records import Record
from featherweight.training.pixels import SMALL_PICTURE

__all__ = [
    "ADAPT_STEPS_SHARE",
    "ENOUGH_TRAINING_SHARE",
    "FILL_STEPS_LEAST_S",
    "FILL_STEPS_SHARE",
    "FILL_TRAINING_SHARE",
    "FILL_TRAINING_SHARE_OF_3",
    "INT8_SHARE",
    "LEAST_INT8_S",
    "LEAST_RACING_S",
    "LEAST_SHARE",
    "LEAST_TRAINING_SHARE",
    "LEAST_UNFROZEN_S",
    "TEACHER_SHARE",
    "SamplePlan",
    "TimePlan",
    "check_time",
    "least_time_s",
]

_SHOP_SHARE, _SHORT_SHOP_SHARE = 0.1, 0.05
"""Most of the whole time for shopping; the first two looks at every network are always taken. Where
nothing races the size of the one that goes on is chosen anew."""
_PROBE_SHARE, _SHORT_PROBE_SHARE = 0.05, 0.03
"""Most of the whole time for the features of all candidates: so many pictures are probed. Their
exports come on top, most of it where nothing races and the last training needs every second."""
_SIZE_SHARE = 0.05
"""Most of the whole time for the size of the last training, as soon as one fits."""
_PACE_SHARE = 0.12
"""Most of the whole time for timing training steps: then no further candidate is timed."""
_START_SHARE = 0.04
"""Most of the whole time for the features that first classifiers are fitted to."""
_RACE_SHARE, _SMALL_RACE_SHARE = 0.22, 0.15
"""Small pictures make many steps a minute, so that a shorter race tells as much."""
LEAST_RACING_S = 600.0
"""In a shorter fit the probe decides: trainings of a few seconds each would tell less than it
does, and take the time of the last one."""
LEAST_SHARE = 0.1
"""Of the whole time, that a stage reckons to be left for training, however late the fit is."""
_FILL_SHARE = 0.15
_LEAST_FILLED_S = 900.0
"""A shorter fit has no time to make a network smaller: half a minute of timing, two trainings."""
_LEAST_PROBED_S = 180.0
"""A shorter fit does not probe: a few hundred pictures could not tell its candidates apart."""
FILL_TRAINING_SHARE = 0.4
"""Of the time for filling, for the winner; the same again for the shrunk network."""
FILL_STEPS_LEAST_S = 1000.0
"""Time for filling from which NetAdapt's steps are tried too: some twenty short trainings."""
FILL_TRAINING_SHARE_OF_3 = 0.22
"""Of the time for filling where they are, for each of three trainings."""
FILL_STEPS_SHARE = 0.28
"""Of the time for filling, for the steps."""
ADAPT_STEPS_SHARE = 0.25
"""Of the whole time of `adapt`, most of it for the steps of NetAdapt."""
TEACHER_SHARE = 0.5
"""Of the time that is left for the last training."""
INT8_SHARE = 0.12
"""Of the time of the last training, where the file is int8."""
LEAST_INT8_S = 90.0
"""A shorter one is not reserved: in a fit of 20 minutes int8 cost 0.6 points, and 66 s took the
file's val loss from 0.412 to 0.404; in a short fit the last training gains more in that time."""
LEAST_TRAINING_SHARE = 0.05
"""Of the whole time, for the last training of a fit that is late."""
ENOUGH_TRAINING_SHARE = 0.5
"""Of the whole time, below which a fit says that the time is short."""
LEAST_UNFROZEN_S = 600.0
"""A shorter training keeps its early blocks as they are (docs/adr/0017-early-blocks-stay.md)."""
_LEAST_S, _LEAST_SMALL_S = 70.0, 30.0
"""Of a fit on photographs, and on small pictures: starting, some ten processes that time files,
a short training, and the proof. Seen on two shared cores (docs/adr/0014-training-by-the-clock.md):
113 and 125 s for 2,640 pictures to train on and 2,485 to test on, of which this asks 111."""
_LEAST_S_PER_PICTURE, _LEAST_S_PER_TEST_PICTURE = 0.006, 0.01
"""Of photographs: each is decoded once to see that it can be. One to train on is decoded again, one
to test on too, and the file answers it."""


class TimePlan(Record):
    """How the wall clock is shared.

    Attributes:
        shop_s: most of it for shopping; `None` = no limit.
        probe_s: most of it for probing; `None` = no limit.
        size_s: most of it for the size of the last training; `None` = no limit.
        pace_s: most of it for timing training steps; `None` = no limit.
        start_s: most of it for fitting first classifiers; `None` = no limit.
        race_s: all trainings of the race together; `None` = by epochs.
        epochs: of the final training; `None` = by time.
        fill_s: for a parent made smaller, where the budget is not used up; 0 = not tried.
        total_s: the whole command, less what reading the data took.
        asked_s: the whole command as asked for; does not change between attempts.
    """

    total_s: float | None
    race_s: float | None
    shop_s: float | None = None
    probe_s: float | None = None
    size_s: float | None = None
    pace_s: float | None = None
    start_s: float | None = None
    fill_s: float = 0.0
    epochs: int | None = None
    asked_s: float | None = None

    def told(self) -> list[str]:
        """Return where the time goes, one line each, for people."""
        if self.total_s is None or self.asked_s is None:
            return [f"training goes by epochs: {self.epochs}; every other stage takes its time"]
        shares = {
            "shop": self.shop_s,
            "probe": self.probe_s if self.probes else 0.0,
            "pace": self.pace_s,
            "race, where several go on": self.race_s,
            "first classifiers": self.start_s,
            "size": self.size_s,
            "fill": self.fill_s,
        }
        lines = [
            f"{name}: at most {seconds:.0f} s" if seconds else f"{name}: left out"
            for name, seconds in shares.items()
        ]
        return [
            *lines,
            "train: what is left of them, and of the end",
            f"in all: {self.asked_s:.0f} s, of which {self.asked_s - self.total_s:.0f} s are gone",
        ]

    @property
    def races(self) -> bool:
        """Whether networks with weights of a larger data set race, or the probe decides."""
        return self.asked_s is None or self.asked_s >= LEAST_RACING_S

    @property
    def probes(self) -> bool:
        """Whether networks are compared before anything trains."""
        return self.asked_s is None or self.asked_s >= _LEAST_PROBED_S

    @classmethod
    def of(cls, settings: FitSettings, *, spent_s: float, small: bool) -> TimePlan:
        """Share out the time of `settings`, of which starting and reading took `spent_s`."""
        time_s = settings.time_s
        if time_s is None:
            return cls(total_s=None, race_s=None, epochs=settings.epochs)
        filled = not small and time_s >= _LEAST_FILLED_S
        decided_early = not small and time_s < LEAST_RACING_S
        return cls(
            total_s=time_s - spent_s,
            shop_s=(_SHORT_SHOP_SHARE if decided_early else _SHOP_SHARE) * time_s,
            probe_s=(_PROBE_SHARE if time_s >= LEAST_RACING_S else _SHORT_PROBE_SHARE) * time_s,
            size_s=_SIZE_SHARE * time_s,
            pace_s=_PACE_SHARE * time_s,
            start_s=_START_SHARE * time_s,
            race_s=(_SMALL_RACE_SHARE if small else _RACE_SHARE) * time_s,
            fill_s=_FILL_SHARE * time_s if filled else 0.0,
            asked_s=time_s,
        )


class SamplePlan(Record):
    """How many samples each kind of measurement takes.

    A neighbour on the same host can slow a machine by half for some seconds at a time, unseen in
    /proc/stat. Medians settle when a measurement is longer than such spells, which takes tens of
    seconds: a fit that has little time must do with less.

    Attributes:
        glance: while a family is being sized.
        confirm: of the last guesses, in each process.
        alone: of a file that has a process of its own.
        prove: of the file that ships.
        sizing_processes: fresh processes that time every size considered before a training.
        repeats: whether a proof that was disturbed is measured again; a short fit has no time.
        margin: share of the budget that a network may take before its proof. The proof is a new
            measurement in a new process: medians of one file move between processes, the more
            the shorter they are measured, so a network that just fits would often miss.
    """

    glance: int
    confirm: int
    prove: int
    alone: int = 100
    sizing_processes: int = 3
    repeats: bool = True
    margin: float = 0.94

    @classmethod
    def of(cls, settings: FitSettings) -> SamplePlan:
        """Scale with the time there is: 60 s and below take the least, 30 m and above the most."""
        time_s = 300.0 if settings.time_s is None else settings.time_s
        share = min(1.0, max(0.0, (time_s - 60.0) / (1800.0 - 60.0)))
        return cls(
            glance=30,
            confirm=round(30 + 120 * share),
            alone=round(100 + 200 * share),
            prove=round(400 + 800 * share),
            sizing_processes=3 if share == 1.0 else 2,
            repeats=share == 1.0,
            margin=0.85 + 0.09 * share,
        )


def least_time_s(images: ImageData) -> float:
    """Return the least `--time` that a fit of these pictures can keep on a quiet machine."""
    if images.typical_size <= SMALL_PICTURE:
        return _LEAST_SMALL_S
    learnt, tested = (len(images.splits[name]) for name in ("train", "test"))
    return _LEAST_S + _LEAST_S_PER_PICTURE * learnt + _LEAST_S_PER_TEST_PICTURE * tested


def check_time(
    settings: FitSettings,
    images: ImageData,
    *,
    is_begun: bool = False,
    foreign_share: Callable[[], float | None] = quietest_share,
) -> None:
    """Refuse a time that could not be kept.

    Beside programs that keep every core busy all things take twice as long.

    Args:
        settings: with the time that was asked for.
        images: the data.
        is_begun: whether a run goes on or is only read: what happens beside it is no reason to
            refuse it then.
        foreign_share: returns the share of the CPU that other programs take; asked only where
            twice the least time was not given.

    Raises:
        UsageError: names the least time.
    """
    least_s = least_time_s(images)
    if settings.time_s is None or settings.time_s >= 2 * least_s:
        return
    share = 0.0 if is_begun else foreign_share() or 0.0
    busy_s = (1.0 + share) * least_s
    if settings.time_s >= busy_s:
        return
    train, test = len(images.splits["train"]), len(images.splits["test"])
    busy = settings.time_s >= least_s
    raise UsageError(
        f"--time {settings.time_s:g}s is too short"
        + (f" while other programs take {share:.0%} of the CPU" if busy else ""),
        allowed=f"{math.ceil(busy_s if busy else least_s)}s or more for {train} pictures to train "
        f"on and {test} to test on" + (f"; {math.ceil(least_s)}s without them" if busy else ""),
        hint="starting, timing files and proving the answer take most of that",
    )
