"""MobileNetV3's recipe: what a search found is made faster step by step, and trained once more.

Source: Howard et al. 2019, arXiv 1905.02244, section 4: a platform-aware search for the global
structure, then NetAdapt layer by layer, which takes the proposal that loses least per millisecond.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from featherweight.errors import DivergedError, UnsupportedError, UsageError
from featherweight.fitting.candidate import Measured, Trained
from featherweight.fitting.context import FitContext
from featherweight.fitting.kept_seconds import kept_seconds
from featherweight.fitting.last_trainings import train_in_turn
from featherweight.fitting.stages.ways import make_smaller

__all__ = ["SLACK", "refine"]

logger = logging.getLogger(__name__)

SLACK = 1.15
"""Multiple of the budget that is searched for: the steps save the rest, about a hundredth each."""
_PATH_SHARE = 0.3
"""Of the time that the search left, for the steps; the rest is for the last training."""


def refine(context: FitContext, found: Sequence[Trained], *, budget_ms: float) -> list[Trained]:
    """Make the best network as fast as the budget asks, and train what comes out.

    Args:
        context: of the search.
        found: trained networks, the best first.
        budget_ms: of the file that ships.

    Returns:
        all networks that keep the budget, the best first; where none does, those that were found.
    """
    context = replace(
        context, settings=context.settings.model_copy(update={"latency_ms": budget_ms})
    )
    target_ms = context.samples.margin * budget_ms
    best = found[0]
    trained = list(found)
    if best.measured.latency.median_ms <= target_ms:
        logger.info("refine: %s keeps the budget as it is", best.candidate.title)
    else:
        trained += _refined(context, best)
    fast = [one for one in trained if one.measured.latency.median_ms <= target_ms]
    return sorted(fast or trained, key=lambda one: one.val_loss)


def _refined(context: FitContext, best: Trained) -> list[Trained]:
    """Return what the steps came to, trained; nothing where they or the training fail."""
    try:
        return train_in_turn(
            context,
            _steps(context, best),
            teacher=best.training,
            reason=lambda training: f"val loss {training.val_loss:.3f}, from {best.val_loss:.3f}",
            kind="refined",
        )
    except (UnsupportedError, UsageError, DivergedError) as failure:
        logger.warning("refine: %s", failure)
        return []


def _steps(context: FitContext, best: Trained) -> list[Measured]:
    """Go NetAdapt's way; an empty list where it leads nowhere."""
    smaller, least_ms = make_smaller(
        context,
        best,
        ["netadapt"],
        importance="taylor",
        path_s=_path_s(context),
        select="ratio",
    )
    if not smaller:
        logger.warning("refine: the steps reach %.3f ms and no less", least_ms)
    return [measured for _, measured in smaller]


def _path_s(context: FitContext) -> float | None:
    """Return the seconds of the steps: a stage, which a cut does not change."""
    total_s = context.plan.total_s
    if total_s is None:
        return None

    return kept_seconds(
        context.run,
        "steps-time",
        lambda: _PATH_SHARE * max(total_s - context.run.elapsed_s, 0.0),
    )
