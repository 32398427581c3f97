"""What a fit decides by: every threshold and count that a choice depends on, with its reason.

Shares of time are in `fitting.time_plan`. Stages take their part of a `Policy` from the context,
so that a test, or an experiment, can hand in another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "DEFAULT_POLICY",
    "AdaptPolicy",
    "FillPolicy",
    "Int8Policy",
    "PacePolicy",
    "Policy",
    "ProbePolicy",
    "ProvePolicy",
    "RacePolicy",
    "RefitPolicy",
    "ShopPolicy",
    "SizePolicy",
    "TeacherPolicy",
]


@dataclass(frozen=True)
class ShopPolicy:
    """How the largest network within the budget is found.

    Attributes:
        looks: measurements per family and precision after the cheapest: two to come near, two to
            confirm.
        confirmations: further processes that measure the guess and its neighbours; the size that
            is trained is chosen again right before its training.
        appeals: further processes that measure a family whose cheapest network narrowly misses
            the budget.
        narrow_miss: up to this multiple of the budget a slow moment may explain the miss.
        leap: most growth in multiply-adds from one look to the next.
        hopeless: times another precision of the same network: one that much slower cannot fit
            `kept_share` of its multiply-adds, and would not be kept.
        kept_share: of the multiply-adds that one precision fits, from which the other is kept too.
    """

    looks: int = 4
    confirmations: int = 1
    appeals: int = 2
    narrow_miss: float = 2.0
    leap: float = 6.0
    hopeless: float = 1.3
    kept_share: float = 0.9


@dataclass(frozen=True)
class ProbePolicy:
    """How networks are ranked before any training.

    Attributes:
        most_pictures: a standard error of one point of accuracy, and some seconds per candidate.
        most_start_pictures: that a first classifier is fitted to.
        fewest_pictures: however little time there is.
        timed_pictures: that tell what one picture takes.
        most_survivors: that go on to a race.
        alike: networks whose multiply-adds differ by no more than this factor train at about one
            speed: by `worth_of_twice` that is worth half a point.
        worth_of_twice: accuracy that twice the multiply-adds must bring, because half as many
            pictures are seen. An estimate: in trainings of a few passes over photographs, twice
            the pictures bring some points.
    """

    most_pictures: int = 1500
    most_start_pictures: int = 4000
    fewest_pictures: int = 300
    timed_pictures: int = 96
    most_survivors: int = 4
    alike: float = 1.25
    worth_of_twice: float = 0.02


@dataclass(frozen=True)
class PacePolicy:
    """What a training must see to learn what its network can.

    Attributes:
        scratch_passes: over the training pictures. Jordan 2024, arXiv 2404.00498: 10 to 15 where
            plain networks of 0.1 to 0.3G multiply-adds reach 94 to 95 % on CIFAR-10.
        pretrained_passes: ImageNet features need no training to be told apart by a classifier,
            which is fitted at the end.
        scratch_steps, pretrained_steps: that it should make, however few pictures there are.
        detector_steps: likewise, of a detector, whose head is drawn. After 325 steps of 8 pictures
            one class of three is hardly found (benchmarks/results/detectors.json). With 250 a fit
            of 15 minutes in an aquarium kept 384 pixels instead of 192, saw half as many pictures
            and was no better (docs/measured.md).
        tries: sizes timed per family.
        hopeless: share of the needed pictures below which a candidate is left out, if another one
            sees more.
    """

    scratch_passes: float = 12.0
    pretrained_passes: float = 0.5
    scratch_steps: int = 500
    pretrained_steps: int = 20
    detector_steps: int = 800
    tries: int = 3
    hopeless: float = 1 / 3


@dataclass(frozen=True)
class RacePolicy:
    """How candidates are compared by training them.

    Attributes:
        most_racers: more candidates than this share the race's time too thinly to tell them apart.
        least_rung_s: of one training in a rung: a shorter one mostly starts and ends.
        decisive_gap: of the leader's loss: where every other one is surely that far behind, no
            second rung is run.
        detector_pictures: that every detector sees in the first rung, or fewer race. SSDLite on
            EfficientNet-Lite0 had a val AP of 0.07 after 200 pictures of blood cells, 0.28 after
            600 and 0.43 after 2,400 (224 pixels, seen by hand); in the aquarium it was below 0.006
            after 1,344, and a race took a quarter of 15 minutes (results/fit_aquarium.json).
        rung_epochs: epochs of the first rung when the final training is given in epochs.
        val_pictures: at most this many are run through a file per ranking: a standard error of one
            point of accuracy, and a few seconds at one millisecond each.
    """

    most_racers: int = 6
    least_rung_s: float = 8.0
    decisive_gap: float = 0.25
    detector_pictures: int = 2000
    rung_epochs: int = 2
    val_pictures: int = 2000


@dataclass(frozen=True)
class SizePolicy:
    """How a size is chosen again right before it counts.

    Attributes:
        reach: sizes considered on each side of the present one.
        moves: how often the present size may move to the edge of what was considered.
        alone: most processes that time one size each.
        second_look: a size that misses by less than this factor is timed again: a moment of the
            machine can be that slow.
        unsteady: looks at one size that differ by more than this factor show such moments: a third
            is taken.
        trained_share: of the budget, for the file at the resolution of the last training: the
            upper end of the interval of a proof lies some per cent above the median.
        shipped_share: of the budget, for the file at the resolution that ships.
        farthest: largest multiple of the resolution of its training that a network is tried at.
            Seen by hand in one run: EfficientNet-Lite0, trained at 128 pixels for 18 s, answered
            0.74 of the val photographs there, 0.88 at 144 and 0.89 at 240, both with a classifier
            of their own.
    """

    reach: int = 2
    moves: int = 3
    alone: int = 9
    second_look: float = 1.6
    unsteady: float = 1.1
    trained_share: float = 0.95
    shipped_share: float = 0.97
    farthest: float = 2.25


@dataclass(frozen=True)
class FillPolicy:
    """When and how a larger network is shrunk to the budget.

    Attributes:
        used_up: share of the budget from which nothing is filled.
        most_excess: most multiples of the budget that a parent may take: what must lose more has
            little left.
        pictures: training pictures that tell the importance of channels.
        step_pictures: training pictures of NetAdapt's steps.
        held_out: share of those that judge proposals, the others fine-tune them: telling proposals
            apart takes more pictures than a first fine-tuning does.
        steps: equal parts that NetAdapt's way is divided into.
        proposals: groups tried in each of them.
    """

    used_up: float = 0.85
    most_excess: float = 1.6
    pictures: int = 512
    step_pictures: int = 320
    held_out: float = 0.6
    steps: int = 4
    proposals: int = 6


@dataclass(frozen=True)
class AdaptPolicy:
    """How a trained network is made faster by `adapt`.

    Attributes:
        held_out_pictures: most training pictures that proposals are judged by; never more than a
            tenth of them.
        least_of_a_class: held-out pictures that every class has on average, at least.
        tuning_pictures: training pictures that proposals are fine-tuned on, the most of these
            that leave time for `good_steps`: ten steps each, as in NetAdapt's own code, six or
            three. Importances are told by the most.
        carrying: of those, that the statistics of norms are carried over a cut by.
        steps, good_steps, fewest_steps: of NetAdapt's way; fewer than the first where the time is
            short.
        decay: of what a step has to save (NetAdapt, section 4).
        proposals, fewest_proposals: groups tried in a step; the latter where even the fewest
            pictures leave no time for `good_steps`.
        step_overhead_s: of measuring what a step takes.
        trained: networks of different ways that are trained in full.
    """

    held_out_pictures: int = 512
    least_of_a_class: int = 2
    tuning_pictures: tuple[int, ...] = (320, 192, 96)
    carrying: int = 128
    steps: int = 24
    good_steps: int = 8
    fewest_steps: int = 3
    decay: float = 0.96
    proposals: int = 6
    fewest_proposals: int = 3
    step_overhead_s: float = 5.0
    trained: int = 2


@dataclass(frozen=True)
class TeacherPolicy:
    """When the winner is taught, and by what.

    Attributes:
        growth: multiple of the winner's resolution that its teacher sees; twice would take too
            long to learn.
        least_growth: below this multiple a teacher hardly sees more.
        least_s: a shorter fit has no time for a teacher: on 3,000 photographs eight minutes of
            plain fine-tuning reached a val loss of 0.392 (104 pixels,
            benchmarks/results/fit_clothing_15m.json), seventeen with a teacher 0.473 (96 pixels,
            fit_clothing.json as of commit 758a954).
    """

    growth: float = 1.75
    least_growth: float = 1.25
    least_s: float = 7200.0


@dataclass(frozen=True)
class Int8Policy:
    """When the network goes on training in int8.

    Attributes:
        most_cost: accuracy that int8 may cost without anything being done about it.
        most_ap_cost: average precision that it may cost a detector before float32 is preferred.
        epochs_share: one epoch for every so many of the last training, where epochs are given.
    """

    most_cost: float = 0.003
    most_ap_cost: float = 0.005
    epochs_share: int = 8


@dataclass(frozen=True)
class RefitPolicy:
    """How a classifier is fitted to the size that ships.

    Attributes:
        most_pictures, fewest_pictures: that it is fitted to.
        most_macs: of all of them together, about half a minute: a network of 5G sees the fewest.
            Not by the clock: the same call gives the same classifier on a slower machine.
    """

    most_pictures: int = 1500
    fewest_pictures: int = 300
    most_macs: float = 1.5e12


@dataclass(frozen=True)
class ProvePolicy:
    """What is measured at the end.

    Attributes:
        most_growth: largest multiple of the resolution it was trained at that an earlier network
            is offered at.
        slack: a network of fewer multiply-adds may miss by so much less than it should.
        second_look: a file that misses by less than this factor is measured once more, in another
            process: a moment of the machine can be that slow, and another size would cost
            accuracy. Both are in the journal. In a fit of less than half an hour not at a size
            beyond that of its training: there is one that it learnt at, and a look takes up to
            25 s beside other programs.
        least_share: share of the trained network's val accuracy below which a replacement is not
            shipped.
        far: of the resolution of the training: weights of 240 pixels answered 0.95 of the
            photographs there, 0.90 at 120, 0.83 at 88 and 0.70 at 64, each with a classifier of
            its own (benchmarks/results/budget_hits.json).
    """

    most_growth: float = 1.15
    slack: float = 1.05
    second_look: float = 1.25
    least_share: float = 0.75
    far: float = 0.6


@dataclass(frozen=True)
class Policy:
    """All of it."""

    shop: ShopPolicy = field(default_factory=ShopPolicy)
    probe: ProbePolicy = field(default_factory=ProbePolicy)
    pace: PacePolicy = field(default_factory=PacePolicy)
    race: RacePolicy = field(default_factory=RacePolicy)
    size: SizePolicy = field(default_factory=SizePolicy)
    fill: FillPolicy = field(default_factory=FillPolicy)
    adapt: AdaptPolicy = field(default_factory=AdaptPolicy)
    teacher: TeacherPolicy = field(default_factory=TeacherPolicy)
    int8: Int8Policy = field(default_factory=Int8Policy)
    refit: RefitPolicy = field(default_factory=RefitPolicy)
    prove: ProvePolicy = field(default_factory=ProvePolicy)


DEFAULT_POLICY = Policy()
"""What `fit` decides by."""
