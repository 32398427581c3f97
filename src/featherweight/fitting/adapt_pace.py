"""How long the short fine-tunings of `adapt` are, so that all of them fit into its time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from featherweight.adapting.pictures import PictureSet
from featherweight.adapting.proposals import judged, tune_briefly
from featherweight.fitting.policy import AdaptPolicy
from featherweight.nn.network import Network, resized
from featherweight.records import Record

__all__ = ["Pace", "find_pace"]


class Pace(Record):
    """How many pictures a short fine-tuning takes, and how many steps and proposals NetAdapt's way.

    Attributes:
        pictures: of a short fine-tuning.
        steps: of the way.
        proposals: tried in each of them.
    """

    pictures: int
    steps: int
    proposals: int


def find_pace(
    network: Network,
    *,
    tuning: PictureSet,
    judging: PictureSet,
    ways: int,
    path_s: float | None,
    policy: AdaptPolicy,
) -> Pace:
    """Return what leaves time for enough steps: first fewer pictures, then fewer proposals.

    Args:
        network: the parent; a copy is tuned and judged once, to see how long that takes.
        tuning: pictures that it is fine-tuned on.
        judging: others, that judge it.
        ways: that are screened.
        path_s: most seconds for all of it; `None` = as many of both as there may be.
        policy: what is decided by.
    """
    if path_s is None:
        return Pace(
            pictures=max(policy.tuning_pictures), steps=policy.steps, proposals=policy.proposals
        )
    trial, least = resized(network, network.architecture.resolution), min(policy.tuning_pictures)
    tuning_s = _seconds(lambda: tune_briefly(trial, tuning.part(0, least)))
    judging_s = _seconds(lambda: judged(trial, judging))
    forms = [(count, policy.proposals) for count in sorted(policy.tuning_pictures, reverse=True)]
    found = []
    for pictures, proposals in [*forms, (least, policy.fewest_proposals)]:
        each_s = judging_s + tuning_s * pictures / least
        step_s = policy.step_overhead_s + proposals * each_s
        steps = int((path_s - ways * each_s) / step_s)
        found.append(
            Pace(
                pictures=pictures,
                steps=int(np.clip(steps, policy.fewest_steps, policy.steps)),
                proposals=proposals,
            )
        )
    return next((one for one in found if one.steps >= policy.good_steps), found[-1])


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started
