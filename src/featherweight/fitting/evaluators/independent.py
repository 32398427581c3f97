"""Every network is trained alone, all equally long: MnasNet's proxy task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featherweight.fitting.candidate import Measured
from featherweight.fitting.evaluator import (
    EVALUATORS,
    EvaluatorKind,
    Ground,
    Scored,
    Shares,
    begin_trial,
)
from featherweight.searching.study import Trial

__all__ = ["Independent"]


@dataclass(frozen=True)
class Independent:
    """Trains every network from scratch.

    Attributes:
        ground: what it judges on.
    """

    ground: Ground

    def begin(
        self,
        trial: Trial,  # noqa: ARG002 - nothing but the network counts
        measured: Measured,
        known: Sequence[Trial],  # noqa: ARG002
    ) -> Callable[[], Scored]:
        """Begin the training."""
        return begin_trial(self.ground.context, measured, "trial", length=self.ground.alone)


EVALUATORS.add("independent", EvaluatorKind(Independent, Shares(alone=0.9)))
