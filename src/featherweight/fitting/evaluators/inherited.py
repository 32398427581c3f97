"""Networks go on briefly from the weights that they share with the nearest trained one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featherweight.fitting.candidate import Measured
from featherweight.fitting.evaluator import (
    EVALUATORS,
    WEIGHTS,
    Checked,
    EvaluatorKind,
    Ground,
    Scored,
    Shares,
    begin_trial,
)
from featherweight.fitting.evaluators.independent import Independent
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network
from featherweight.searching.shared_weights import inherit_weights
from featherweight.searching.space import Point
from featherweight.searching.study import Trial

__all__ = ["Inherited"]


@dataclass(frozen=True)
class Inherited:
    """Trains every network briefly, from what it has in common with the nearest trained one.

    Attributes:
        ground: what it judges on.
    """

    ground: Ground

    def begin(
        self, trial: Trial, measured: Measured, known: Sequence[Trial]
    ) -> Callable[[], Scored]:
        """Begin the training; at least one trial of `known` was trained."""
        run = self.ground.context.run.path
        folder = run / "networks" / f"{measured.candidate.key}-heir"
        if not (folder / "network.json").exists():
            donors = [one for one in known if WEIGHTS in one.notes]
            nearest = min(donors, key=lambda one: (_distance(one.point, trial.point), one.number))
            heir = self._heir(trial.point, nearest)
            self.ground.context.trainer.save(heir, measured.candidate, folder=folder)
        family = replace(measured.candidate.family, start=folder)
        begun = Measured(replace(measured.candidate, family=family), measured.latency)
        return begin_trial(self.ground.context, begun, "inherited", length=self.ground.cheap)

    def _heir(self, point: Point, donor: Trial) -> Network:
        context = self.ground.context
        trained = load_network(context.run.path / Path(str(donor.notes[WEIGHTS]))).network
        return inherit_weights(
            self.ground.space,
            point,
            donor=donor.point,
            state=trained.state_dict(),
            seed=context.seed,
        )


def _distance(one: Point, other: Point) -> int:
    """Return in how many choices two networks differ."""
    return sum(a != b for a, b in zip(one, other, strict=True))


def _checked(ground: Ground) -> Checked:
    return Checked(
        Independent(ground),
        Independent(ground, stops=False),
        Inherited(ground),
        from_trained=True,
    )


EVALUATORS.add(
    "inherited",
    EvaluatorKind(_checked, Shares(alone=0.5, alone_trials=20, cheap=0.4)),
)
