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
_SIZING = 1.5
"""Processes that time one size each: most trainings end at the size that fits."""
_REFIT_PICTURES = 1500
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
    """

    train: int
    val: int
    test: int
    proof_s: float
    process_s: float = 3.0
    picture_s: float = 0.001
    forward_s: float = 0.001
    is_refitted: bool = False

    @classmethod
    def of(cls, images: ImageData, settings: FitSettings) -> EndingTime:
        """Return the reckoning of a fit that has seen nothing yet."""
        train, val, test = (len(images.splits[name]) for name in ("train", "val", "test"))
        return cls(train, val, test, proof_s=_S_PER_SAMPLE * SamplePlan.of(settings).prove)

    def grow(self, seen: Entry, chosen: Entry) -> None:
        """Reckon with the size that was chosen after one was seen: time goes by multiply-adds."""
        before, now = (profile(one.family.build(one.value)).macs or 1 for one in (seen, chosen))
        self.forward_s *= now / before

    @property
    def seconds(self) -> float:
        """Of sizing, refitting, export, proof, verification and report."""
        timing_s = (_SIZING + _PROOFS) * self.process_s + _PROOFS * self.proof_s
        refit_s = 0.0
        if self.is_refitted:
            refit_s = (min(_REFIT_PICTURES, self.train) + self.val) * self.picture_s
        # The file answers val when the training is over; file and network answer test.
        held_out_s = (self.val + self.test) * (self.picture_s + self.forward_s)
        return timing_s + refit_s + held_out_s + _REST_S
