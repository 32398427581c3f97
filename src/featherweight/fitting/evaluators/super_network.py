"""Networks are asked with the weights of one trained super-network (`searching.super_network`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from featherweight.data.rows import spaced_rows
from featherweight.errors import DivergedError
from featherweight.fitting.candidate import Measured
from featherweight.fitting.evaluator import (
    EVALUATORS,
    Checked,
    EvaluatorKind,
    Ground,
    Scored,
    Shares,
)
from featherweight.fitting.evaluators.independent import Independent
from featherweight.searching.study import Trial
from featherweight.searching.super_network import SuperNetwork, train_super_network

__all__ = ["BySuperNetwork"]

logger = logging.getLogger(__name__)

_NORM_PICTURES = 512
"""Of train, for the statistics of norms."""


@dataclass
class BySuperNetwork:
    """Trains one super-network, and nothing else.

    Attributes:
        ground: what it judges on.
    """

    ground: Ground
    _trained: SuperNetwork | None = field(default=None, repr=False)
    _diverged: bool = False

    def begin(
        self,
        trial: Trial,
        measured: Measured,
        known: Sequence[Trial],  # noqa: ARG002 - a super-network learns from no trial
    ) -> Callable[[], Scored]:
        """Return what asks the network; the first time that trains the super-network."""
        trained = self._super_network(measured)  # now, before others train beside it

        def work() -> Scored:
            if trained is None:
                raise DivergedError("the super-network did not learn")
            return Scored(trained.score(trial.point), {}, None)

        return work

    def _super_network(self, measured: Measured) -> SuperNetwork | None:
        """Return the super-network; its training goes on where it was cut; `None` = it diverged."""
        if self._trained is None and not self._diverged:
            try:
                self._trained = self._train(measured)
            except DivergedError as failure:
                logger.warning("%s: no network is judged by it", failure)
                self._diverged = True
        return self._trained

    def _train(self, measured: Measured) -> SuperNetwork:
        context, length = self.ground.context, self.ground.cheap
        store, resolution = context.trainer.store, measured.candidate.resolution
        preprocessing = measured.candidate.family.preprocessing
        rows = spaced_rows(context.trainer.count("train"), most=_NORM_PICTURES)
        logger.info("the super-network learns: every step another network of the space")
        return train_super_network(
            self.ground.space,
            train=store.train(resolution, preprocessing),
            plain=store.held_out("train", resolution, preprocessing, rows=rows),
            val=store.held_out("val", resolution, preprocessing),
            preprocessing=preprocessing,
            draw=self.ground.draw,
            time_s=length.time_s,
            epochs=length.epochs,
            seed=context.seed,
            directory=context.run.path / "checkpoints" / "super-network",
            device=context.settings.device,
            noted=context.run.heartbeat,
        )


def _checked(ground: Ground) -> Checked:
    return Checked(
        Independent(ground),
        Independent(ground, stops=False),
        BySuperNetwork(ground),
        from_trained=False,
    )


EVALUATORS.add(
    "super-network",
    EvaluatorKind(_checked, Shares(alone=0.45, alone_trials=15, cheap=0.3, cheap_trainings=1)),
)
