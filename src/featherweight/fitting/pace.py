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
from typing import Any

from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import Family
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.moments import Moments
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import Shopper
from featherweight.fitting.stages import open_shopper
from featherweight.fitting.time_plan import SamplePlan, TimePlan
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory
from featherweight.training.compute import Compute, choose_device
from featherweight.training.recipe import Recipe
from featherweight.training.session import forward_speed

__all__ = ["needed_images", "pace_stage"]

logger = logging.getLogger(__name__)

_PASSES = {"scratch": 12.0, "pretrained": 0.5}
"""Passes over the training pictures that a training should make. Jordan 2024, arXiv 2404.00498:
10 to 15 where plain networks of 0.1 to 0.3G multiply-adds reach 94 to 95 % on CIFAR-10. ImageNet
features need no training to be told apart by a classifier, which is fitted at the end."""
_STEPS = {"scratch": 500, "pretrained": 20}
"""Steps that it should make, however few pictures there are."""
_TRIES = 3
"""Sizes timed per family."""
_HOPELESS = 1 / 3
"""Share of the needed pictures below which a candidate is left out, if another one has more."""


@dataclass(frozen=True)
class _Pace:
    """The size of a family that learns fast enough, and how it computes."""

    value: float
    images_per_s: float
    seen_share: float
    compute: Compute


def pace_stage(
    entries: list[Entry],
    *,
    trainer: Trainer,
    run: RunDirectory,
    ledger: Ledger,
    settings: FitSettings,
    plan: TimePlan,
    moments: Moments,
    ending: EndingTime,
) -> tuple[list[Entry], Trainer]:
    """Return the candidates at sizes that can learn, and a trainer that knows how they compute.

    A fit whose length is a number of epochs takes the time it takes: nothing is changed.
    """
    if plan.total_s is None or not entries:
        return entries, trainer
    inputs = {"entries": [entry.key for entry in entries], "total_s": plan.asked_s}
    done = run.stage_done("pace", inputs=inputs)
    if done is None:
        started = time.monotonic()
        left_s = plan.total_s - run.elapsed_s - ending.seconds - plan.fill_s
        if len(entries) > 1:
            left_s -= plan.race_s or 0.0
        left_s = max(left_s, 0.1 * plan.total_s)
        paces: dict[tuple[str, float], _Pace] = {}
        until_s = float("inf") if plan.pace_s is None else started + plan.pace_s
        for entry in sorted({(e.family.name, e.value): e for e in entries}.values(), key=_outputs):
            if not paces or time.monotonic() < until_s:
                paces[entry.family.name, entry.value] = _find_pace(
                    entry, trainer=trainer, time_s=left_s, moments=moments, until_s=until_s
                )
        shopper = open_shopper(
            run, ledger, settings, purpose="pace", samples=SamplePlan.of(settings)
        )
        done = {
            "entries": _slowed(entries, paces, shopper=shopper),
            "moments_s": list(moments.seconds),
        }
        ledger.note_candidates(
            Candidate.model_validate(candidate)
            for line in done["entries"]
            for candidate in (line["replaced"], line["candidate"])
            if line["changed"] and candidate is not None
        )
        run.finish_stage("pace", inputs=inputs, outputs=done, seconds=time.monotonic() - started)
    device = choose_device(trainer.device)
    kept, forms, speeds = [], {}, {}
    for entry, line in zip(entries, done["entries"], strict=True):
        if line["images_per_s"] is None:
            continue
        forms[entry.family.name] = Compute(
            device=device, memory_format=line["memory_format"], dtype=line["dtype"]
        )
        speeds[entry.family.name] = float(line["images_per_s"])
        if not line["out"]:
            kept.append(_paced(entry, line))
            left_s = max(plan.total_s - run.elapsed_s - ending.seconds, 1.0)
            recipe = trainer.recipe(kept[-1], time_s=left_s, epochs=None, distillation=False)
            ending.forward_s = 1.0 / (forward_speed(recipe) * float(line["images_per_s"]))
            seen = float(line["images_per_s"]) * left_s
            if line["changed"] or seen < ending.train:
                ending.is_refitted = entry.family.source is not None
    return list({entry.key: entry for entry in kept}.values()), replace(
        trainer, forms=forms, speeds=speeds
    )


def _outputs(entry: Entry) -> int:
    """Return how many values the layers of a candidate write for one picture.

    They foretell how long it trains better than multiply-adds do (activations in Radosavovic et
    al. 2020, arXiv 2003.13678, section 5): most depthwise networks come after most plain ones.
    """
    layers = profile(entry.family.build(entry.value)).layers
    return sum(math.prod(layer.output_shape or ()) for layer in layers)


def _paced(entry: Entry, line: Mapping[str, Any]) -> Entry:
    """Return a candidate at the size that its line of the stage names."""
    if not line["changed"]:
        return entry
    value = float(line["value"])
    candidate = Candidate.model_validate(line["candidate"])
    return replace(entry, candidate=candidate, value=value, ceiling=value)


def needed_images(*, images: int, batch_size: int, pretrained: bool) -> int:
    """Return how many pictures a training should see to learn what its network can.

    Args:
        images: number of training pictures.
        batch_size: pictures per step.
        pretrained: whether the weights come from a larger data set.
    """
    kind = "pretrained" if pretrained else "scratch"
    return max(int(_PASSES[kind] * images), _STEPS[kind] * batch_size)


def _find_pace(
    entry: Entry,
    *,
    trainer: Trainer,
    time_s: float,
    moments: Moments,
    until_s: float,
) -> _Pace:
    """Step down from an entry's size until its training sees enough pictures in `time_s`.

    After `until_s` (of the monotonic clock) there is no second look, and the entry stays as it is:
    one moment is no evidence.
    """
    recipe = trainer.recipe(entry, time_s=time_s, epochs=None, distillation=False)
    needed = needed_images(
        images=len(trainer.store.data.splits["train"].labels),
        batch_size=recipe.batch_size,
        pretrained=entry.family.source is not None,
    )
    value, compute = entry.value, None
    for tried in range(1, _TRIES + 1):
        at_value = replace(entry, value=value)
        compute, images_per_s = _usual_pace(
            at_value, trainer=trainer, recipe=recipe, compute=compute, moments=moments
        )
        only_look = images_per_s * time_s < needed and time.monotonic() >= until_s
        if images_per_s * time_s < needed and not only_look:  # a second moment must say so too
            _, again = _usual_pace(
                at_value, trainer=trainer, recipe=recipe, compute=compute, moments=moments
            )
            images_per_s = max(images_per_s, again)
        share = images_per_s * time_s / needed
        logger.info(
            "pace: %s trains at %.0f pictures/s: %.0f %% of the pictures it should see in %.0f s",
            entry.family.label(value), images_per_s, 100 * share, time_s,
        )  # fmt: skip
        smaller = [v for v in entry.family.values if v < value]
        if share >= 1.0 or only_look or not smaller or tried == _TRIES:
            break
        value = _smaller_value(entry.family, value, smaller, share=share)
    assert compute is not None
    return _Pace(value, images_per_s, share, compute)


def _usual_pace(
    entry: Entry,
    *,
    trainer: Trainer,
    recipe: Recipe,
    compute: Compute | None,
    moments: Moments,
) -> tuple[Compute, float]:
    """Return how a candidate computes, and pictures per second at the machine's usual speed.

    A moment that was faster than usual counts as it is.
    """
    moments.take()
    found, images_per_s = trainer.pace(entry, recipe=recipe, compute=compute)
    moments.take()
    return found, images_per_s * max(1.0, moments.slowness(recent=2))


def _smaller_value(
    family: Family, value: float, smaller: Sequence[float], *, share: float
) -> float:
    """Return the largest smaller value with at most `share` of the multiply-adds, or the least."""
    most = share * (profile(family.build(value)).macs or 0)
    fitting = [v for v in smaller if (profile(family.build(v)).macs or 0) <= most]
    return max(fitting, default=min(smaller))


def _left_out(entry: Entry) -> dict[str, Any]:
    """Return the plain line of an entry that there was no time to time."""
    reason = "there was no time to time its training"
    logger.info("pace: %s is left out: %s", entry.title, reason)
    candidate = entry.candidate.model_copy(
        update={"status": "rejected", "reason": reason, "stage": "pace"}
    )
    return {
        "value": entry.value, "changed": True, "out": True, "images_per_s": None,
        "replaced": None, "candidate": candidate.model_dump(mode="json"),
    }  # fmt: skip


def _slowed(
    entries: Sequence[Entry], paces: Mapping[tuple[str, float], _Pace], *, shopper: Shopper
) -> list[dict[str, Any]]:
    """Return a plain line per entry; the new sizes are timed together in one process."""
    best = max(pace.seen_share for pace in paces.values())
    found = [(entry, paces.get((entry.family.name, entry.value))) for entry in entries]
    shopper.visit(
        [
            (e.family, e.candidate.precision, pace.value)
            for e, pace in found
            if pace is not None and pace.value != e.value
        ]
    )
    lines = []
    for entry, pace in found:
        if pace is None:
            lines.append(_left_out(entry))
            continue
        is_out = pace.seen_share < min(_HOPELESS, best)
        candidate, replaced = entry.candidate, None
        reason = f"trains at {pace.images_per_s:.0f} pictures/s"
        if pace.value != entry.value:
            candidate = shopper.at(entry.family, candidate.precision, pace.value)
            reason += f"; {entry.candidate.name} was too slow for the time there is"
            replaced = entry.candidate.model_copy(
                update={
                    "status": "rejected",
                    "reason": f"too large to learn in the time there is: {candidate.name} races",
                    "stage": "pace",
                }
            )
        if is_out:
            reason += f", would see {pace.seen_share:.0%} of the pictures it should"
        lines.append(
            {
                "value": pace.value,
                "changed": is_out or pace.value != entry.value,
                "out": is_out,
                "memory_format": pace.compute.memory_format,
                "dtype": pace.compute.dtype,
                "images_per_s": pace.images_per_s,
                "replaced": None if replaced is None else replaced.model_dump(mode="json"),
                "candidate": candidate.model_copy(
                    update={"status": "rejected" if is_out else "kept", "reason": reason}
                ).model_dump(mode="json"),
            }
        )
    return lines
