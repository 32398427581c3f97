"""ShuffleNetV2's four experiments on a platform, beside the numbers of the paper."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from typing import Literal

from featherweight.advising.paper_networks import PaperNetwork, paper_networks
from featherweight.advising.turns import Turns, TurnsTimer
from featherweight.budget import Latency
from featherweight.errors import UnsupportedError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, parse_platform
from featherweight.profiling.profile import totals
from featherweight.records import Record
from featherweight.searching.agreement import kendall_tau

__all__ = ["Experiment", "GuidelineResult", "Trial", "run_experiment"]

logger = logging.getLogger(__name__)

_SAMPLES = 60


class Trial(Record):
    """One network of a table on a platform.

    Attributes:
        guideline, setting, multiple: see `PaperNetwork`.
        macs: multiply-adds.
        ms: median.
        ratio: ms over those of the first row of its size, per multiply-add: the tables' networks
            have the same work within 6 %. 1 = as fast for its work.
        interval: 95 % interval of it.
        verdict: `slower` or `faster` than the first row for its work, by more than two files of
            one network differ; empty = it is not sure.
        published_ratio: the same of the paper.
    """

    guideline: str
    setting: str
    multiple: int
    macs: int
    ms: float
    ratio: float
    interval: tuple[float, float]
    verdict: Literal["slower", "faster", ""]
    published_ratio: float


class GuidelineResult(Record):
    """Whether a guideline holds on a platform.

    Attributes:
        guideline: `G1` to `G4`.
        slower: of the networks that break it, how many are surely slower for their work.
        faster: how many are surely faster.
        of: how many there are.
        rank_correlation: Kendall's tau of the ms of the rows of a size with the paper's, mean of
            the three sizes.
    """

    guideline: str
    slower: int
    faster: int
    of: int
    rank_correlation: float


class Experiment(Record):
    """The four tables on a platform."""

    platform: str
    results: tuple[GuidelineResult, ...]
    trials: tuple[Trial, ...]


def run_experiment(*, on: str = DEFAULT_PLATFORM, seed: int = 0) -> Experiment:
    """Time the networks of the paper's four tables, size by size, in turns.

    Args:
        on: platform in text form.
        seed: of the order of the runs.

    Raises:
        UsageError: an unknown platform.
        UnsupportedError: the runtime cannot hold one of them.
        DeviceError: the device could not measure, or something disturbs it too much to tell.
    """
    platform = parse_platform(on)
    networks = paper_networks()
    trials: list[Trial] = []
    for guideline, multiple in dict.fromkeys((one.guideline, one.multiple) for one in networks):
        rows = [one for one in networks if (one.guideline, one.multiple) == (guideline, multiple)]
        logger.info("%s, widths times %d: %d networks", guideline, multiple, len(rows))
        first, *others = rows
        timer = TurnsTimer(first.architecture, platform, seed=seed)
        turns = timer.time([one.architecture for one in others], samples=_SAMPLES, processes=1)
        own = Latency(median_ms=turns.middle, interval_ms=(turns.middle, turns.middle))
        work = totals(first.architecture).macs
        for one, ratio in zip(rows, [own, *turns.ratios], strict=True):
            if ratio is None:
                raise UnsupportedError(f"{platform.runtime} cannot hold {guideline}, {one.setting}")
            trials.append(_trial(one, ratio, turns, first=first, work=work))
    names = dict.fromkeys(one.guideline for one in networks)
    return Experiment(
        platform=str(platform),
        results=tuple(_result(name, networks, trials) for name in names),
        trials=tuple(trials),
    )


def _trial(
    one: PaperNetwork, ratio: Latency, turns: Turns, *, first: PaperNetwork, work: int
) -> Trial:
    macs = totals(one.architecture).macs
    share = turns.middle * macs / work
    low, high = (end / share for end in ratio.interval_ms)
    return Trial(
        guideline=one.guideline,
        setting=one.setting,
        multiple=one.multiple,
        macs=macs,
        ms=turns.base_ms * ratio.median_ms,
        ratio=ratio.median_ms / share,
        interval=(low, high),
        verdict="slower" if low > 1 + turns.least else "faster" if high < 1 - turns.least else "",
        published_ratio=first.published / one.published / (macs / work),
    )


def _result(
    guideline: str, networks: Sequence[PaperNetwork], trials: Sequence[Trial]
) -> GuidelineResult:
    own = [
        (network, trial)
        for network, trial in zip(networks, trials, strict=True)
        if trial.guideline == guideline
    ]
    first = own[0][1].setting
    others = [trial for _, trial in own if trial.setting != first]
    taus = []
    for multiple in dict.fromkeys(trial.multiple for _, trial in own):
        alike = [(network, trial) for network, trial in own if trial.multiple == multiple]
        times = [trial.ms for _, trial in alike]
        taus.append(kendall_tau(times, [1 / network.published for network, _ in alike]))
    return GuidelineResult(
        guideline=guideline,
        slower=sum(trial.verdict == "slower" for trial in others),
        faster=sum(trial.verdict == "faster" for trial in others),
        of=len(others),
        rank_correlation=statistics.mean(taus),
    )
