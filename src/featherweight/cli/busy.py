"""On a machine that others use, torch's threads sleep while they wait for each other."""

from __future__ import annotations

import logging
import os
import sys

from featherweight.measuring.load import foreign_cpu_share

__all__ = ["share_the_machine"]

logger = logging.getLogger(__name__)

_BUSY = 0.25
"""Share of the processor that others use, from which threads should not spin."""
_WATCHED_S = 0.3
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def share_the_machine() -> None:
    """Let OpenMP's threads sleep at barriers, where others use the processor; before torch loads.

    A thread that spins at a barrier keeps its core from the one it waits for. Seen on two cores
    beside a busy loop on each (EfficientNet-Lite0, 128 pixels, pictures per second, two turns):
    spinning 5.2 and 7.2, sleeping 9.3 and 10.6. On a quiet machine spinning is a little faster
    (17.1 and 18.6, sleeping 12.4 and 17.7), so it stays there. What the user has set stays.
    """
    if "torch" in sys.modules or any(os.environ.get(name) for name in _SETTINGS):
        return
    share = foreign_cpu_share(_WATCHED_S)
    if share is not None and share > _BUSY:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        logger.info(
            "others use %.0f %% of the processor: threads sleep when they wait", 100 * share
        )
