"""How long the end of a fit takes, reckoned from what it has seen of this machine so far.

What is reserved and not needed is lost to the training, what is needed and not reserved is over
the time that was asked for: neither can be a constant where machines, devices and test splits
differ by a hundred times.
"""

from __future__ import annotations

from dataclasses import dataclass

from featherweight.data.images import ImageData
from featherweight.fitting.candidate import Candidate
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import LEAST_RACING_S, SamplePlan

__all__ = ["EndingTime"]

_S_PER_SAMPLE = 0.01
"""A sample of a measurement takes 10 ms or more."""
_SLOWER_BESIDE = 2.0
"""Beside a busy loop on every core a proof takes three times as long, because what was interrupted
is taken again: 20 to 28 s of a fit of eight minutes (docs/adr/0016-several-sizes.md)."""
_PROOFS = 1.3
"""Measurements of files that would ship: some miss the budget, some are disturbed. What is reserved
for a second proof is lost to nearly every training; one that is needed costs some 3 % of a fit of
eight minutes."""
_SIZING, _SIZING_AROUND = 1.5, 2.5
"""Processes that time one size each. One that knows the sizes around that of its training is timed
at some of them, and judged on val at another."""
_WORTH = 0.1
"""Most of the whole time that is set aside for another size. In a fit of two minutes looking for
one and fitting a classifier to it took 28 s, and the training had 6."""
_LEAST_LEFT = 0.5
"""Share of the time of another size that must be left to look for it: most find one sooner."""
_SMALL_PROCESS_S = 3.0
"""Of one process that times some files, on a machine that nothing disturbs."""
_REFIT_PICTURES = 1500
_COMPARED_SHARE = 0.01
"""Of the whole time, in which the network answers test pictures beside its file: a few hundred show
what rounding changes, and the file answers all of them."""
_FEWEST_COMPARED = 300
_REST_S = 5.0
"""The bundle, the report, and what lies between the stages; more where processes take longer."""


@dataclass
class EndingTime:
    """Seconds of what comes after the last training.

    Attributes:
        train, val, test: pictures of each split.
        proof_s: of one measurement, without starting its process.
        process_s: of one process that times some files, as shopping saw it.
        picture_s: of one picture from the disk to the file's answer, at the size of the training.
        export_s: of one export with its calibration.
        forward_s: of one picture through the network in PyTorch, as `pace` saw it.
        is_refitted: whether a classifier will be fitted to another size.
        asked_s: of the whole command; `None` = it goes by epochs.
        sizing: processes that time one size each.
        is_judged: whether val has a say in whether a larger size ships.
    """

    train: int
    val: int
    test: int
    proof_s: float
    process_s: float = _SMALL_PROCESS_S
    picture_s: float = 0.001
    export_s: float = 0.0
    forward_s: float = 0.001
    is_refitted: bool = False
    asked_s: float | None = None
    sizing: float = _SIZING
    is_judged: bool = True

    @classmethod
    def of(
        cls, images: ImageData, settings: FitSettings, *, foreign_share: float = 0.0
    ) -> EndingTime:
        """Return the reckoning of a fit that has seen nothing yet.

        Args:
            images: the data.
            settings: of the fit.
            foreign_share: of the CPU that other programs take, in 0..1.
        """
        train, val, test = (len(images.splits[name]) for name in ("train", "val", "test"))
        slower = 1.0 + _SLOWER_BESIDE * foreign_share
        proof_s = slower * _S_PER_SAMPLE * SamplePlan.of(settings).prove
        return cls(
            train,
            val,
            test,
            proof_s=proof_s,
            asked_s=settings.time_s,
            is_judged=settings.time_s is None or settings.time_s >= LEAST_RACING_S,
        )

    def grow(self, seen: Candidate, chosen: Candidate) -> None:
        """Reckon with what was chosen after one was seen: time goes by multiply-adds."""
        self.forward_s *= max(chosen.macs, 1) / max(seen.macs, 1)
        self.sizing = _SIZING_AROUND if chosen.family.seen_scales else _SIZING

    @property
    def compared(self) -> int:
        """Test pictures that the network answers too."""
        if self.asked_s is None:
            return self.test
        within = int(_COMPARED_SHARE * self.asked_s / self.forward_s)
        return min(self.test, max(_FEWEST_COMPARED, within))

    @property
    def seconds(self) -> float:
        """Of all that comes after the last step of the training."""
        is_worth_it = self.asked_s is None or self.another_size_s <= _WORTH * self.asked_s
        return self._ranking_s + self.last_s + (self.another_size_s if is_worth_it else 0.0)

    def leaves_time(self, left_s: float) -> bool:
        """Whether another size can be looked for in the seconds that are left."""
        return left_s > _LEAST_LEFT * self.another_size_s + self.last_s

    @property
    def another_size_s(self) -> float:
        """Of finding the size that fits now, and of what it takes to ship at another."""
        settled_s = 0.0
        if self.is_refitted:
            pictures = min(_REFIT_PICTURES, self.train) + self.val
            settled_s = self.export_s + pictures * self.picture_s + self._ranking_s
        elif self.sizing == _SIZING_AROUND and self.is_judged:
            settled_s = self._ranking_s
        return self.sizing * self.process_s + settled_s

    @property
    def last_s(self) -> float:
        """Of export, proof, verification and report."""
        proof_s = _PROOFS * (self.process_s + self.proof_s) + self.export_s
        answers_s = self.test * self.picture_s + (self.val + self.compared) * self.forward_s
        return proof_s + answers_s + _REST_S * max(1.0, self.process_s / _SMALL_PROCESS_S)

    @property
    def _ranking_s(self) -> float:
        """Of what the file and its network answer on val."""
        return self.export_s + self.val * (self.picture_s + self.forward_s)
