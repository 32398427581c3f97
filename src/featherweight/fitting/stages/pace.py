"""Before the race: no candidate is larger than what can learn in the time there is.

The largest network that fits a budget may see too few pictures to learn anything, most of all on
a fast device. Here a few training steps of every candidate are timed, in each form of computing,
once; a candidate too slow to see enough pictures in the last training steps down to a size that
does, and one that never would is left out. The trainings that follow compute in the form found.
Those that train fast come first: after a share of the time no further one is timed.

One moment of a machine is not believed: what was timed is corrected to the usual speed of the
moments since the fit began, and no candidate steps down that was not too slow at two moments.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from featherweight.budget import Latency
from featherweight.fitting.candidate import Candidate, Measured
from featherweight.fitting.context import FitContext
from featherweight.fitting.ledger import Status
from featherweight.fitting.policy import PacePolicy
from featherweight.fitting.time_plan import LEAST_SHARE
from featherweight.profiling.profile import profile
from featherweight.records import Record
from featherweight.training.compute import Compute, choose_device
from featherweight.training.length import forward_speed
from featherweight.training.recipe import Recipe

__all__ = ["needed_images", "pace"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pace:
    """The size of a family that learns fast enough, and how it computes."""

    size: float
    images_per_s: float
    seen_share: float
    compute: Compute


class _TimedRecord(Record):
    """What was found for one candidate; `images_per_s` of one that was not timed is `None`."""

    size: float
    latency: Latency
    changed: bool
    out: bool
    images_per_s: float | None
    memory_format: str | None
    dtype: str | None


class _PaceRecord(Record):
    timed: tuple[_TimedRecord, ...]
    moments_s: tuple[float, ...]


def pace(context: FitContext, entrants: list[Measured]) -> tuple[list[Measured], FitContext]:
    """Return the candidates at sizes that can learn, and a context that knows how they compute.

    A fit whose length is a number of epochs takes the time it takes: nothing is changed.
    """
    plan, run = context.plan, context.run
    if plan.total_s is None or not entrants:
        return entrants, context
    record = run.stage(
        "pace",
        inputs={
            "candidates": [one.candidate.key for one in entrants],
            "total_s": plan.asked_s,
        },
        outputs=_PaceRecord,
        work=lambda: _PaceRecord(
            timed=tuple(_judge(context, entrants, _time_all(context, entrants))),
            moments_s=tuple(context.moments.seconds),
        ),
    )
    device = choose_device(context.trainer.device)
    kept, forms, speeds = [], {}, {}
    for one, found in zip(entrants, record.timed, strict=True):
        if found.images_per_s is None:
            continue
        name = one.candidate.family.name
        forms[name] = Compute(device=device, memory_format=found.memory_format, dtype=found.dtype)  # type: ignore[arg-type]
        speeds[name] = found.images_per_s
        if not found.out:
            kept.append(_at_pace(one, found))
            _reckon(context, kept[-1], found)
    distinct = {one.candidate.key: one for one in kept}
    trainer = replace(context.trainer, forms=forms, speeds=speeds)
    return list(distinct.values()), replace(context, trainer=trainer)


def needed_images(
    *,
    images: int,
    batch_size: int,
    pretrained: bool,
    policy: PacePolicy,
    detector: bool = False,
) -> int:
    """Return how many pictures a training should see to learn what its network can.

    Args:
        images: number of training pictures.
        batch_size: pictures per step.
        pretrained: whether the weights come from a larger data set.
        policy: passes and steps that it should make.
        detector: whether it answers boxes: its head is drawn, and fitted to nothing.
    """
    passes = policy.pretrained_passes if pretrained else policy.scratch_passes
    steps = policy.pretrained_steps if pretrained else policy.scratch_steps
    if detector:
        steps = policy.detector_steps
    return max(int(passes * images), steps * batch_size)


def _time_all(context: FitContext, entrants: Sequence[Measured]) -> dict[tuple[str, float], _Pace]:
    """Time candidates until the time for it is over, those that train fast first."""
    plan, started = context.plan, time.monotonic()
    assert plan.total_s is not None
    left_s = plan.total_s - context.run.elapsed_s - context.ending.seconds - plan.fill_s
    if len(entrants) > 1:
        left_s -= plan.race_s or 0.0
    left_s = max(left_s, LEAST_SHARE * plan.total_s)
    until_s = math.inf if plan.pace_s is None else started + plan.pace_s
    distinct = {_name(one.candidate): one.candidate for one in entrants}
    paces: dict[tuple[str, float], _Pace] = {}
    for name, candidate in sorted(distinct.items(), key=lambda item: _outputs(item[1])):
        if not paces or time.monotonic() < until_s:
            paces[name] = _find_pace(context, candidate, time_s=left_s, until_s=until_s)
    return paces


def _name(candidate: Candidate) -> tuple[str, float]:
    """Return what two precisions of one network share."""
    return candidate.family.name, candidate.size


def _outputs(candidate: Candidate) -> int:
    """Return how many values the layers of a candidate write for one picture.

    They foretell how long it trains better than multiply-adds do (activations in Radosavovic et
    al. 2020, arXiv 2003.13678, section 5): most depthwise networks come after most plain ones.
    """
    layers = profile(candidate.architecture).layers
    return sum(math.prod(layer.output_shape or ()) for layer in layers)


def _find_pace(
    context: FitContext, candidate: Candidate, *, time_s: float, until_s: float
) -> _Pace:
    """Step down from a candidate's size until its training sees enough pictures in `time_s`.

    After `until_s` (of the monotonic clock) there is no second look, and the candidate stays as it
    is: one moment is no evidence.
    """
    trainer, policy = context.trainer, context.policy.pace
    recipe = trainer.recipe(candidate, time_s=time_s, epochs=None, distillation=False)
    needed = needed_images(
        images=trainer.count("train"),
        batch_size=recipe.batch_size,
        pretrained=candidate.family.source is not None,
        policy=policy,
        detector=candidate.family.anchored,
    )
    sized, compute = candidate, None
    for tried in range(1, policy.tries + 1):
        compute, images_per_s = _usual_pace(context, sized, recipe=recipe, compute=compute)
        only_look = images_per_s * time_s < needed and time.monotonic() >= until_s
        if images_per_s * time_s < needed and not only_look:  # a second moment must say so too
            _, again = _usual_pace(context, sized, recipe=recipe, compute=compute)
            images_per_s = max(images_per_s, again)
        share = images_per_s * time_s / needed
        logger.info(
            "pace: %s trains at %.0f pictures/s: %.0f %% of the pictures it should see in %.0f s",
            sized.label,
            images_per_s,
            100 * share,
            time_s,
        )
        smaller = [sized.at(size) for size in sized.family.sizes if size < sized.size]
        if share >= 1.0 or only_look or not smaller or tried == policy.tries:
            break
        sized = _smaller(sized, smaller, share=share)
    assert compute is not None
    return _Pace(sized.size, images_per_s, share, compute)


def _usual_pace(
    context: FitContext, candidate: Candidate, *, recipe: Recipe, compute: Compute | None
) -> tuple[Compute, float]:
    """Return how a candidate computes, and pictures per second at the machine's usual speed.

    A moment that was faster than usual counts as it is.
    """
    moments = context.moments
    moments.take()
    found, images_per_s = context.trainer.pace(candidate, recipe=recipe, compute=compute)
    moments.take()
    return found, images_per_s * max(1.0, moments.slowness(recent=2))


def _smaller(present: Candidate, smaller: Sequence[Candidate], *, share: float) -> Candidate:
    """Return the largest smaller size with at most `share` of the multiply-adds, or the least."""
    fitting = [one for one in smaller if one.macs <= share * present.macs]
    return max(fitting or smaller[:1], key=lambda one: one.size)


def _judge(
    context: FitContext,
    entrants: Sequence[Measured],
    paces: Mapping[tuple[str, float], _Pace],
) -> list[_TimedRecord]:
    """Return what becomes of every candidate; new sizes are timed together in one process."""
    best = max(found.seen_share for found in paces.values())
    stepped = {}
    for one in entrants:
        found = paces.get(_name(one.candidate))
        if found is not None and found.size != one.candidate.size:
            stepped[one.candidate.key] = one.candidate.at(found.size)
    bench = context.bench("pace")
    bench.measure(list(stepped.values()))
    lines = []
    for one in entrants:
        found = paces.get(_name(one.candidate))
        if found is None:
            lines.append(_leave_out(context, one))
            continue
        is_out = found.seen_share < min(context.policy.pace.hopeless, best)
        reason = f"trains at {found.images_per_s:.0f} pictures/s"
        sized = one
        if one.candidate.key in stepped:
            smaller = stepped[one.candidate.key]
            sized = Measured(smaller, bench.latency(smaller))
            reason += f"; {one.candidate.label} was too slow for the time there is"
            context.ledger.note(
                one,
                status="rejected",
                reason=f"too large to learn in the time there is: {smaller.label} races",
                stage="pace",
            )
        if is_out:
            reason += f", would see {found.seen_share:.0%} of the pictures it should"
        if is_out or sized is not one:
            status: Status = "rejected" if is_out else "kept"
            context.ledger.note(sized, status=status, reason=reason, stage="pace")
        lines.append(
            _TimedRecord(
                size=found.size,
                latency=sized.latency,
                changed=sized is not one,
                out=is_out,
                images_per_s=found.images_per_s,
                memory_format=found.compute.memory_format,
                dtype=found.compute.dtype,
            )
        )
    return lines


def _leave_out(context: FitContext, one: Measured) -> _TimedRecord:
    """Say that there was no time to time a candidate."""
    reason = "there was no time to time its training"
    logger.info("pace: %s is left out: %s", one.candidate.title, reason)
    context.ledger.note(one, status="rejected", reason=reason, stage="pace")
    return _TimedRecord(
        size=one.candidate.size,
        latency=one.latency,
        changed=False,
        out=True,
        images_per_s=None,
        memory_format=None,
        dtype=None,
    )


def _at_pace(one: Measured, found: _TimedRecord) -> Measured:
    """Return a candidate at the size that was found, which is the largest that can learn."""
    if not found.changed:
        return one
    before = one.candidate
    sized = Candidate(before.family, found.size, before.precision, max_size=found.size)
    return Measured(sized, found.latency)


def _reckon(context: FitContext, one: Measured, found: _TimedRecord) -> None:
    """Tell the reckoning of the end how fast the network answers, and if it will be refitted."""
    plan, ending = context.plan, context.ending
    assert plan.total_s is not None
    assert found.images_per_s is not None
    left_s = max(plan.total_s - context.run.elapsed_s - ending.seconds, 1.0)
    recipe = context.trainer.recipe(one.candidate, time_s=left_s, epochs=None, distillation=False)
    ending.forward_s = 1.0 / (forward_speed(recipe) * found.images_per_s)
    if found.changed or found.images_per_s * left_s < ending.train:
        ending.is_refitted = one.candidate.family.source is not None
