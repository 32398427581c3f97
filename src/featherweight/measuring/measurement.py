"""One measured latency: the raw samples, and what is derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, computed_field, model_validator

from featherweight.budget import Latency
from featherweight.devices.device import DeviceInfo
from featherweight.records import Record

__all__ = [
    "COPIES_DIFFER",
    "MAX_CLOCK_CHANGE",
    "MAX_FOREIGN_CPU_SHARE",
    "MAX_RELATIVE_IQR",
    "Measurement",
    "latencies_in_turns",
    "median_interval",
    "medians_in_turns",
    "ratio_interval",
]

MAX_FOREIGN_CPU_SHARE = 0.1
"""Seen on two cores: 0.00-0.05 while idle (daemons, and ticks of 10 ms), 0.5 beside one busy
process, which moved medians no more than idle drift did, and 0.65-0.85 beside several, where a
10 ms network took 15-35 ms. 0.1 is our choice, just above idle: rather one repetition too many."""
MAX_RELATIVE_IQR = 0.25
"""Samples of 0.7-10 ms networks had 0.05-0.17 on an idle virtual machine. From 0.25 on, the
interval of the median of 100 samples is wider than +-5 %: too wide to choose networks by."""
MAX_CLOCK_CHANGE = 0.2
"""Eight quiet measurements of some seconds had 0.01-0.10, always slower at the end: twice that."""
COPIES_DIFFER = 0.012
"""Where a file's memory lies is chance: two copies of one network that took turns differed by up to
this share, in two of five processes by more than their interval (benchmarks/results/turns.json)."""
RESAMPLES = 2_000
LARGEST_BLOCK = 10
"""Neighbouring samples correlate with 0.0-0.7 here; 0.7 is forgotten after about six."""
CONFIDENCE = 0.95
_DERIVED = ("median_ms", "p90_ms", "interval_ms", "relative_iqr", "disturbed")

Milliseconds = Annotated[float, Field(gt=0)]


def median_interval(samples: tuple[float, ...], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median.

    Blocks of neighbouring samples are drawn (circular), not single ones: a disturbance lasts
    longer than one turn, so neighbours resemble each other, and single draws would give an
    interval that is too narrow.

    Args:
        samples: in the order in which they were taken.
        seed: of the resampling; the same samples give the same interval.

    Returns:
        its lower and upper end, in the unit of the samples.

    Source: D. Politis, J. Romano, "A circular block-resampling procedure for stationary data"
        (1992).
    """
    return _ends(_resampled_medians(samples, _drawn_positions(len(samples), seed=seed)))


def ratio_interval(
    samples: tuple[float, ...], *, over: tuple[float, ...], took_turns: bool = True, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the ratio of two medians.

    The networks took turns, so what slowed the machine for a while slowed both: the same turns
    are drawn for both, and the ratio is told more sharply than either time.

    Args:
        samples: of the network whose ratio is asked, in the order in which they were taken.
        over: of the network it is compared with.
        took_turns: whether both were taken in one process.
        seed: of the resampling.
    """
    if not took_turns:
        drawn, others = (
            _drawn_positions(len(one), seed=seed + k) for k, one in enumerate((samples, over))
        )
        return _ends(_resampled_medians(samples, drawn) / _resampled_medians(over, others))
    own, other = _of_same_turns([samples, over])
    drawn = _drawn_positions(len(own), seed=seed)
    return _ends(_resampled_medians(own, drawn) / _resampled_medians(other, drawn))


def _drawn_positions(count: int, *, seed: int) -> NDArray[np.int64]:
    """Return (RESAMPLES, count) positions: circular blocks of neighbours."""
    length = min(LARGEST_BLOCK, max(1, count // 10))
    blocks = -(-count // length)
    starts = np.random.default_rng(seed).integers(0, count, size=(RESAMPLES, blocks, 1))
    drawn = (starts + np.arange(length)) % count
    return np.asarray(drawn.reshape(RESAMPLES, -1)[:, :count])


def _resampled_medians(samples: tuple[float, ...], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.median(np.asarray(samples, dtype=np.float64)[drawn], axis=1))


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


class Measurement(Record):
    """The latency of one artifact on one platform, batch 1.

    An absolute time is valid only on a machine that was otherwise idle: foreign load slows every
    sample, the fastest one included, by an amount that no statistic removes. `disturbed` says
    that it was not; ratios between networks measured in one call (interleaved) still hold.

    The derived values are written into JSON for its readers and computed anew, never believed,
    when it is read.

    Attributes:
        network: the network's name.
        platform: text form of the platform.
        device_info: facts about the device at the time.
        runtime_version: version of the runtime that ran it.
        artifact_sha256: of the file that was measured.
        samples_ms: milliseconds per run, in the order taken, each over `runs_per_sample` runs.
        retaken_samples: how many were taken again, because the system had given the CPU to another
            process meanwhile; `None` = unknown.
        warm_up_runs: untimed runs until the time was steady.
        started: ISO time of the start of the measuring process.
        foreign_cpu_share: share in [0, 1] of CPU time that others took while it was measured, of
            the whole machine or of the CPUs used, whichever is larger; `None` = unknown.
        runs_per_sample: runs averaged in one sample; above 1 only for networks below 0.2 ms.
        involuntary_switches: how often the measuring process lost its CPU, over all the networks
            of the call; `None` = unknown.
        clock_change: speed of a fixed computation after the measurement over that before, less 1:
            a CPU that became hot, or was given another frequency, is slower; `None` = unknown.
    """

    network: str
    platform: str
    device_info: DeviceInfo
    runtime_version: str
    artifact_sha256: str
    samples_ms: Annotated[tuple[Milliseconds, ...], Field(min_length=1)]
    warm_up_runs: int
    started: str
    foreign_cpu_share: Annotated[float, Field(ge=0, le=1)] | None = None
    runs_per_sample: int = 1
    involuntary_switches: int | None = None
    clock_change: float | None = None
    retaken_samples: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_derived(cls, plain: Any) -> Any:
        """Forget derived values: only the raw samples are evidence."""
        if not isinstance(plain, dict):
            return plain
        return {key: value for key, value in plain.items() if key not in _DERIVED}

    def took_turns_with(self, other: Measurement) -> bool:
        """Whether both come from one process."""
        return (self.started, self.platform) == (other.started, other.platform)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def median_ms(self) -> float:
        """Median of the samples."""
        return float(np.median(self.samples_ms))

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p90_ms(self) -> float:
        """Ninetieth percentile of the samples (linear interpolation)."""
        return float(np.quantile(self.samples_ms, 0.9))

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def interval_ms(self) -> tuple[float, float]:
        """95 % interval of the median; see `median_interval`."""
        return median_interval(self.samples_ms)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def relative_iqr(self) -> float:
        """Distance between the quartiles, divided by the median."""
        low, high = np.quantile(self.samples_ms, [0.25, 0.75])
        return float(high - low) / self.median_ms

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def disturbed(self) -> bool:
        """Whether something else on the machine took part in these times."""
        return self.noise > 1

    @property
    def noise(self) -> float:
        """The largest of foreign share, spread and change of clock, in units of what is allowed."""
        return max(
            (self.foreign_cpu_share or 0.0) / MAX_FOREIGN_CPU_SHARE,
            self.relative_iqr / MAX_RELATIVE_IQR,
            abs(self.clock_change or 0.0) / MAX_CLOCK_CHANGE,
        )


def latencies_in_turns(measured: Sequence[Measurement], *, scale: float = 1.0) -> list[Latency]:
    """Return latencies of networks that took turns, told beside the first of them.

    Of every turn the ratio of its two samples counts, which were taken within milliseconds of each
    other: a machine that is fast for some seconds and slow for others has no median of its own
    worth the name, but its ratios do. The first network has no interval. One that was measured in
    another process than the first, since something disturbed it, has no turn in common with it: of
    that the medians are compared.

    Args:
        measured: in one call.
        scale: factor on all of it, for times of another moment of the machine.
    """
    first, *others = measured
    base_ms = scale * first.median_ms
    latencies = [Latency(median_ms=base_ms, interval_ms=(base_ms, base_ms))]
    rounds = max(len(one.samples_ms) for one in measured)
    for one in others:
        if one.took_turns_with(first):
            ratio, (low, high) = _ratio_of_turns(one.samples_ms, first.samples_ms, rounds=rounds)
        else:
            ratio = one.median_ms / first.median_ms
            low, high = ratio_interval(one.samples_ms, over=first.samples_ms, took_turns=False)
        latencies.append(
            Latency(median_ms=base_ms * ratio, interval_ms=(base_ms * low, base_ms * high))
        )
    return latencies


def medians_in_turns(measured: Sequence[Measurement]) -> list[float]:
    """Return the ms of networks that took turns: of every turn the share that each took of it.

    Where some were measured in another process, their plain medians.

    Args:
        measured: in one call.
    """
    if not all(one.took_turns_with(measured[0]) for one in measured):
        return [one.median_ms for one in measured]
    table = np.array(_of_same_turns([one.samples_ms for one in measured]))
    turns = table.sum(axis=0)
    shares = np.median(table / turns, axis=1)
    return [float(share) for share in shares * np.median(turns)]


def _of_same_turns(
    samples: Sequence[tuple[float, ...]], *, rounds: int | None = None
) -> list[tuple[float, ...]]:
    """Return as many samples of each network as there are of the one with fewest, turn by turn.

    A network with fewer samples, since its time was up sooner, sat out turns evenly (see
    `worker.rounds_of_turns`): beside each of its samples stand those of the same round, or of the
    last one before in which another network was there.

    Args:
        samples: of networks that took turns.
        rounds: samples of the network with most of all, one of these or another.
    """
    fewest = min(map(len, samples))
    rounds = rounds or max(map(len, samples))
    ends = [-(-(turn + 1) * rounds // fewest) for turn in range(fewest)]
    return [tuple(own[end * len(own) // rounds - 1] for end in ends) for own in samples]


def _ratio_of_turns(
    samples: tuple[float, ...], over: tuple[float, ...], *, rounds: int
) -> tuple[float, tuple[float, float]]:
    """Return the median of the ratios of turns and its 95 % interval."""
    own, other = _of_same_turns([samples, over], rounds=rounds)
    ratios = tuple(one / beside for one, beside in zip(own, other, strict=True))
    return float(np.median(ratios)), median_interval(ratios)
