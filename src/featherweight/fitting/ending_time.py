"""How long the end of a fit takes, reckoned from what it has seen of this machine so far.

What is reserved and not needed is lost to the training, what is needed and not reserved is over
the time that was asked for: neither can be a constant where machines, devices and test splits
differ by a hundred times.
"""

from __future__ import annotations

from dataclasses import dataclass

from featherweight.data.images import ImageData
from featherweight.fitting.race import Entry
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.time_plan import SamplePlan
from featherweight.profiling.profile import profile

__all__ = ["EndingTime"]

_S_PER_SAMPLE = 0.01
"""A sample of a measurement takes 10 ms or more."""
_PROOFS = 1.3
"""Measurements of files that would ship: some miss the budget, some are disturbed. What is reserved
for a second proof is lost to nearly every training; one that is needed costs some 3 % of a fit of
eight minutes."""
_SIZING, _SIZING_AROUND = 1.5, 2.5
"""Processes that time one size each. One that knows the sizes around that of its training is timed
at some of them, and judged on val at another."""
_REFIT_PICTURES = 1500
_COMPARED_SHARE = 0.01
"""Of the whole time, in which the network answers test pictures beside its file: a few hundred show
what rounding changes, and the file answers all of them."""
_FEWEST_COMPARED = 300
_REST_S = 4.0
"""Exports, calibration, the bundle and the report."""


@dataclass
class EndingTime:
    """Seconds of what comes after the last training.

    Attributes:
        train, val, test: pictures of each split.
        proof_s: of one measurement, without starting its process.
        process_s: of one process that times some files, as shopping saw it.
        picture_s: of one picture from the disk to the file's answer, as probing saw it.
        forward_s: of one picture through the network in PyTorch, as `pace` saw it.
        is_refitted: whether a classifier will be fitted to another size.
        asked_s: of the whole command; `None` = it goes by epochs.
        sizing: processes that time one size each.
    """

    train: int
    val: int
    test: int
    proof_s: float
    process_s: float = 3.0
    picture_s: float = 0.001
    forward_s: float = 0.001
    is_refitted: bool = False
    asked_s: float | None = None
    sizing: float = _SIZING

    @classmethod
    def of(cls, images: ImageData, settings: FitSettings) -> EndingTime:
        """Return the reckoning of a fit that has seen nothing yet."""
        train, val, test = (len(images.splits[name]) for name in ("train", "val", "test"))
        proof_s = _S_PER_SAMPLE * SamplePlan.of(settings).prove
        return cls(train, val, test, proof_s=proof_s, asked_s=settings.time_s)

    def grow(self, seen: Entry, chosen: Entry) -> None:
        """Reckon with what was chosen after one was seen: time goes by multiply-adds."""
        before, now = (profile(one.family.build(one.value)).macs or 1 for one in (seen, chosen))
        self.forward_s *= now / before
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
        """Of sizing, refitting, export, proof, verification and report."""
        timing_s = (self.sizing + _PROOFS) * self.process_s + _PROOFS * self.proof_s
        refit_s = 0.0
        if self.is_refitted:
            refit_s = (min(_REFIT_PICTURES, self.train) + self.val) * self.picture_s
        # Both answer val: the file when the training is over, the network at the end.
        held_out_s = (self.val + self.test) * self.picture_s
        held_out_s += (self.val + self.compared) * self.forward_s
        return timing_s + refit_s + held_out_s + _REST_S
