"""The stage between shopping and race: rank pretrained networks before any training.

Features of training pictures are emitted by the file that was timed, int8 damage included; a
ridge regression on them is solved in closed form, and its leave-one-out error ranks the
candidates. What cannot be told from the best goes on. The same files' features make the first
classifiers (`fitting.linear_start`).

Source: Kornblith et al. 2019, arXiv 1805.08974 (ImageNet networks rank alike on other pictures:
r = 0.99 for linear classifiers, 0.96 fine-tuned).
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.metrics import difference_interval
from featherweight.fitting.candidate import Candidate, Measured
from featherweight.fitting.context import FitContext
from featherweight.fitting.leave_one_out import leave_one_out
from featherweight.fitting.linear_start import fit_classifier
from featherweight.fitting.policy import ProbePolicy
from featherweight.layers import LOGITS
from featherweight.records import Record
from featherweight.tasks.task import evaluated
from featherweight.training.start import save_classifier

__all__ = [
    "Probed",
    "most_promising",
    "probe",
    "probe_all",
    "survivors",
    "with_first_classifiers",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probed:
    """A candidate and what a linear classifier on its features gets wrong.

    Attributes:
        measured: which candidate.
        losses: squared leave-one-out error of each picture, (n,).
        accuracy: leave-one-out.
        picture_s: seconds of one picture, from its file on disk to the file's answer.
    """

    measured: Measured
    losses: NDArray[np.float64]
    accuracy: float
    picture_s: float

    @property
    def candidate(self) -> Candidate:
        """Which candidate."""
        return self.measured.candidate

    @property
    def loss(self) -> float:
        """Mean squared leave-one-out error."""
        return float(self.losses.mean())


class _PicturesRecord(Record):
    pictures: int
    picture_s: float


class _ProbeRecord(Record):
    accuracy: float
    loss: float
    pictures: int
    picture_s: float


class _ClassifierRecord(Record):
    pictures: int
    export_s: float
    picture_s: float


def probe(context: FitContext, entrants: list[Measured]) -> tuple[list[Measured], FitContext]:
    """Probe pretrained candidates; return those that race, and their first classifiers.

    A task without a linear classifier has nothing to probe. Without time for it the one that sees
    the largest pictures within the budget goes on: far below the size a network was made for,
    pixels are worth more than layers.
    """
    plan, policy = context.plan, context.policy.probe
    pretrained = all(one.candidate.family.source is not None for one in entrants)
    anchored = any(one.candidate.family.anchored for one in entrants)
    decides = plan.races if anchored else plan.probes
    if not decides and entrants and pretrained:
        return [_sees_most(context, entrants)], context
    probed = probe_all(context, entrants)
    if not probed:
        return entrants, context
    best = probed[0]
    context.ending.picture_s = best.picture_s
    if plan.races:
        chosen = survivors(probed, policy=policy, seed=context.seed)
    else:
        chosen = [most_promising(probed, policy=policy, seed=context.seed)]
    if len(probed) > 1:
        for one in probed:
            context.ledger.note(
                one.measured,
                status="kept" if one.measured in chosen else "rejected",
                reason=f"probe: leave-one-out accuracy {one.accuracy:.3f}; the best, "
                f"{best.candidate.title}, has {best.accuracy:.3f}",
                stage="probe",
            )
    kept = [one for one in entrants if one in chosen]
    if not plan.races:
        return kept, context
    return kept, with_first_classifiers(context, [one.candidate for one in kept])


def probe_all(context: FitContext, entrants: Sequence[Measured]) -> list[Probed]:
    """Probe every pretrained candidate (a stage each); the best comes first.

    Without weights there is nothing to probe: then the list is empty.
    """
    pretrained = all(one.candidate.family.source is not None for one in entrants)
    if not (entrants and pretrained and context.trainer.task.linear):
        return []
    count = _choose_pictures(context, entrants)
    probed = []
    for one in entrants:
        probed.append(_probe_one(context, one, count=count))
        context.moments.take()
    return sorted(probed, key=lambda one: one.loss)


def with_first_classifiers(context: FitContext, candidates: Sequence[Candidate]) -> FitContext:
    """Return a context whose next trainings start with classifiers that suit their networks.

    Of two precisions of a network one fits both: the features differ by rounding. Networks without
    weights of a larger data set have no features yet.
    """
    if not context.trainer.task.linear:
        return context
    first = {one.family.name: one for one in reversed(candidates) if one.family.source is not None}
    files = dict(context.trainer.classifiers)
    for name, candidate in first.items():
        if candidate.family.start is None:
            start_s = context.plan.start_s
            within_s = None if start_s is None else start_s / len(first)
            record = _fit_first_classifier(context, candidate, within_s=within_s)
            files[name] = _classifier_file(context, candidate)
            context.ending.export_s = record.export_s
            context.ending.picture_s = record.picture_s
    return replace(context, trainer=replace(context.trainer, classifiers=files))


def survivors(probed: Sequence[Probed], *, policy: ProbePolicy, seed: int) -> list[Measured]:
    """Return the best, what cannot be told from it (95 %), and what trains fastest.

    The best of them where they are too many; the fastest to train has the fewest multiply-adds.
    """
    best, *others = probed
    equal = [one for one in others if not _is_surely_better(best, one, seed=seed)]
    kept = [one.measured for one in (best, *equal)[: policy.most_survivors]]
    fastest = min((one.measured for one in probed), key=lambda one: one.candidate.macs)
    if fastest not in kept:
        kept = [*kept[: policy.most_survivors - 1], fastest]
    return kept


def most_promising(probed: Sequence[Probed], *, policy: ProbePolicy, seed: int) -> Measured:
    """Return the best that trains fast, unless another is surely better (95 %) and worth its time.

    Where nothing races: what a slower network does not get to see costs it accuracy.
    """
    least = min(one.candidate.macs for one in probed)
    alike = [one for one in probed if one.candidate.macs <= policy.alike * least]
    fastest = min(alike, key=lambda one: one.loss)

    def worth(one: Probed) -> float:
        times = one.candidate.macs / max(1, fastest.candidate.macs)
        return one.accuracy - policy.worth_of_twice * math.log2(max(1.0, times))

    better = [one for one in probed if _is_surely_better(one, fastest, seed=seed)]
    return max([fastest, *better], key=worth).measured


def _is_surely_better(one: Probed, other: Probed, *, seed: int) -> bool:
    return difference_interval(other.losses, one.losses, seed=seed)[0] > 0.0


def _sees_most(context: FitContext, entrants: Sequence[Measured]) -> Measured:
    """Return the candidate with the largest resolution, of equals the one that computes least."""
    chosen = max(entrants, key=lambda one: (one.candidate.resolution, -one.candidate.macs))
    title = chosen.candidate.title
    for one in entrants:
        if one is not chosen:
            context.ledger.note(
                one,
                status="rejected",
                reason=f"no time to compare networks: {title} sees the largest pictures",
                stage="probe",
            )
    logger.info("probe: no time to compare networks: %s sees the largest pictures", title)
    return chosen


def _choose_pictures(context: FitContext, entrants: Sequence[Measured]) -> int:
    """Return how many training pictures every candidate sees: the same ones, to be paired."""
    policy, within_s = context.policy.probe, context.plan.probe_s
    whole = min(policy.most_pictures, context.trainer.count("train"))
    if within_s is None:
        return whole

    def work() -> _PicturesRecord:
        picture_s = statistics.median(
            context.readers.read(one.candidate, count=policy.timed_pictures).picture_s
            for one in entrants
        )
        count = int(within_s / len(entrants) / picture_s)
        return _PicturesRecord(
            pictures=min(whole, max(policy.fewest_pictures, count)), picture_s=picture_s
        )

    return context.run.stage(
        "probe-pictures",
        inputs={"candidates": [one.candidate.key for one in entrants], "within_s": within_s},
        outputs=_PicturesRecord,
        work=work,
    ).pictures


def _probe_one(context: FitContext, measured: Measured, *, count: int) -> Probed:
    one = measured.candidate
    losses_file = context.run.path / "artifacts" / "probe" / one.key / "losses.npy"

    def work() -> _ProbeRecord:
        features, targets, picture_s = context.readers.read(one, count=count)
        task, outputs = context.trainer.task, len(context.trainer.classes)
        found = leave_one_out(features, task.indicators(targets, outputs=outputs))
        np.save(losses_file, found.errors)
        evaluation = evaluated(task, {LOGITS: found.answers}, targets, split="train")
        logger.info(
            "probe: %s: leave-one-out %s on %d train pictures", one.title, evaluation, len(targets)
        )
        return _ProbeRecord(
            accuracy=evaluation.value,
            loss=float(found.errors.mean()),
            pictures=len(targets),
            picture_s=picture_s,
        )

    record = context.run.stage(
        f"probe:{one.key}",
        inputs={"candidate": one.key, "pictures": count},
        outputs=_ProbeRecord,
        work=work,
        files=lambda: [losses_file],
    )
    return Probed(measured, np.load(losses_file), record.accuracy, record.picture_s)


def _fit_first_classifier(
    context: FitContext, candidate: Candidate, *, within_s: float | None
) -> _ClassifierRecord:
    """Fit the classifier that a training of a network starts with: a stage.

    At the size of the training: at another one it emits other features. The number of pictures
    follows from the time.
    """
    policy, readers = context.policy.probe, context.readers
    file = _classifier_file(context, candidate)

    def work() -> _ClassifierRecord:
        timed, most = policy.timed_pictures, policy.most_start_pictures
        picture_s = readers.read(candidate, count=timed).picture_s
        if within_s is not None:
            kept_s = readers.read_kept(candidate, count=timed).picture_s
            most = min(most, max(policy.fewest_pictures, int(within_s / kept_s)))
        features, targets, _ = readers.read_kept(candidate, count=most)
        fitted = fit_classifier(
            features,
            targets,
            outputs=len(context.trainer.classes),
            objective=context.trainer.objective,
        )
        save_classifier(file, *fitted)
        return _ClassifierRecord(
            pictures=len(targets), export_s=readers.export_s(candidate), picture_s=picture_s
        )

    return context.run.stage(
        f"first-classifier:{candidate.key}",
        inputs={"candidate": candidate.key, "within_s": within_s, "timed": policy.timed_pictures},
        outputs=_ClassifierRecord,
        work=work,
        files=lambda: [file],
    )


def _classifier_file(context: FitContext, candidate: Candidate) -> Path:
    name = f"first-classifier-{candidate.key}.safetensors"
    return context.run.path / "checkpoints" / name
