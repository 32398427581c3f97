"""Every network is trained alone, all equally long: MnasNet's proxy task.

A training that has no hope beside those before it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featherweight.fitting.candidate import Measured
from featherweight.fitting.evaluator import (
    CURVE,
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
        stops: whether trainings without hope are stopped.
    """

    ground: Ground
    stops: bool = True

    def begin(
        self,
        trial: Trial,  # noqa: ARG002 - nothing but the network counts
        measured: Measured,
        known: Sequence[Trial],
    ) -> Callable[[], Scored]:
        """Begin the training."""
        stops = self.stops and self.ground.is_by_accuracy
        whole = [one.notes[CURVE] for one in known if CURVE in one.notes] if stops else None
        return begin_trial(
            self.ground.context, measured, "trial", length=self.ground.alone, whole=whole
        )


EVALUATORS.add("independent", EvaluatorKind(Independent, Shares(alone=0.9)))
