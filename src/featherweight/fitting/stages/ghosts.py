"""The stage of `ghost` that chooses layers by measuring, and makes their modules."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from featherweight.adapting.ghost import GhostForm, ghost_groups, ghosted
from featherweight.adapting.ghost_network import ghost_network
from featherweight.adapting.importance import channel_importance
from featherweight.advising.turns import TurnsTimer
from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.exporting.platforms import parse_platform
from featherweight.fitting.adapt_pictures import draw_tuning
from featherweight.fitting.candidate import Trained
from featherweight.fitting.context import FitContext
from featherweight.layers import layers
from featherweight.networks.graphs import as_graph
from featherweight.profiling.profile import totals
from featherweight.records import Record

__all__ = ["GhostTrial", "Ghosts", "choose_ghosts"]

logger = logging.getLogger(__name__)

_GLANCE, _LONG = 60, 100
"""Samples of each kind of layer, and of all modules together."""
_IMPORTANCE = "taylor"


class GhostTrial(Record):
    """Layers of one shape as ghost modules.

    Attributes:
        layers: their names.
        macs_ratio: multiply-adds of the whole network with them over those without.
        ratio: ms of the whole network with them over ms without; `None` = the runtime cannot
            hold it.
        interval: 95 % interval of the ratio.
        kept: whether they are modules in the network that learns.
    """

    layers: tuple[str, ...]
    macs_ratio: float
    ratio: float | None
    interval: tuple[float, float] | None
    kept: bool


class Ghosts(Record):
    """Which layers became ghost modules, and what that came to before any training.

    Attributes:
        trials: one for each shape of layer, in the order of the network.
        macs_ratio: multiply-adds over those before; its inverse is the theoretical speed-up.
        ratio, interval: ms of the network with all that was kept over ms before; its inverse is
            the measured speed-up. `None` = nothing was kept.
        explained: of the form `ghost`, module -> share of the variance that its filters give.
        folder: of the network, relative to the run; `None` = nothing was kept.
    """

    trials: tuple[GhostTrial, ...]
    macs_ratio: float
    ratio: float | None
    interval: tuple[float, float] | None
    explained: dict[str, float]
    folder: str | None


def choose_ghosts(
    context: FitContext, parent: Trained, form: GhostForm, *, everywhere: bool
) -> Ghosts:
    """Make ghost modules of the layers that are surely faster so: a stage.

    Args:
        context: of the run.
        parent: as it was measured.
        form: of the modules.
        everywhere: make modules of all layers that can be ones, whatever they take.

    Raises:
        UsageError: no layer can be one, or there are too few pictures.
        DeviceError: the device could not measure, or is too disturbed to tell.
    """

    def work() -> Ghosts:
        network = context.trainer.load(parent.candidate, parent.phase).classifier
        drawn = as_graph(network.architecture)
        trials, timer = _tried(context, parent, drawn, form, everywhere=everywhere)
        names = [name for one in trials if one.kept for name in one.layers]
        whole = ghosted(drawn, names, form)
        together = timer.time([whole], samples=_LONG) if names else None
        ratio = together.ratios[0] if together else None
        is_worth = together is not None and ratio is not None and together.is_surely_faster(ratio)
        if together is None or ratio is None or not (is_worth or everywhere):
            return _nothing(trials)
        samples = draw_tuning(context, parent).part(0, context.policy.adapt.carrying)
        batches = list(samples.batches())
        importance = None
        if form.form == "rep":
            loss = context.trainer.objective.loss
            importance = channel_importance(network, batches, loss=loss, method=_IMPORTANCE)
        made, explained = ghost_network(
            network,
            names,
            form,
            torch.cat([images for images, _ in batches]),
            importance=importance,
            seed=context.seed,
        )
        folder = Path("networks") / f"{whole.digest[:16]}-{form.form}"
        context.trainer.save(made, parent.candidate, folder=context.trainer.folder / folder)
        return Ghosts(
            trials=trials,
            macs_ratio=totals(whole).macs / totals(drawn).macs,
            ratio=ratio.median_ms,
            interval=ratio.interval_ms,
            explained=explained,
            folder=str(folder),
        )

    return context.run.stage(
        "ghosts",
        inputs={
            "parent": parent.candidate.key,
            "form": form.model_dump(mode="json"),
            "everywhere": everywhere,
        },
        outputs=Ghosts,
        work=work,
        files=lambda: sorted(context.trainer.folder.glob(f"networks/*-{form.form}/*")),
    )


def _nothing(trials: tuple[GhostTrial, ...]) -> Ghosts:
    """Return what is said where the network stays as it is."""
    kept = tuple(one.model_copy(update={"kept": False}) for one in trials)
    return Ghosts(trials=kept, macs_ratio=1.0, ratio=None, interval=None, explained={}, folder=None)


def _tried(
    context: FitContext,
    parent: Trained,
    drawn: Architecture,
    form: GhostForm,
    *,
    everywhere: bool,
) -> tuple[tuple[GhostTrial, ...], TurnsTimer]:
    """Time the network with the layers of each shape as modules."""
    shapes: dict[tuple[object, ...], list[str]] = {}
    by_name = {layer.name: layer for layer in layers(drawn)}
    for together in ghost_groups(drawn, form):
        first = by_name[together[0]]
        shape = (first.input_shape, first.output_shape, first.kernel_size, len(together))
        shapes.setdefault(shape, []).extend(together)
    if not shapes:
        raise UsageError(
            f"{drawn.name} has no dense convolution that could be a ghost module",
            allowed="convolutions of 16 channels and more that are no depthwise ones",
        )
    platform = parse_platform(context.settings.platform)
    platform = platform.with_precision(parent.candidate.precision)
    timer = TurnsTimer(drawn, platform, seed=context.seed)
    variants = [ghosted(drawn, names, form) for names in shapes.values()]
    work = totals(drawn).macs
    shares = [totals(one).macs / work for one in variants]
    timed = timer.glance(variants, samples=_GLANCE)
    hopeful = [
        k
        for k, one in enumerate(timed.ratios)
        if one is not None and (everywhere or timed.may_be_faster(one))
    ]
    again = timer.time([variants[k] for k in hopeful], samples=_LONG)
    last = {**dict(enumerate(timed.ratios)), **dict(zip(hopeful, again.ratios, strict=True))}
    trials = []
    for k, names in enumerate(shapes.values()):
        latency = last[k]
        faster = latency is not None and k in hopeful and again.is_surely_faster(latency)
        trials.append(
            GhostTrial(
                layers=tuple(names),
                macs_ratio=shares[k],
                ratio=None if latency is None else latency.median_ms,
                interval=None if latency is None else latency.interval_ms,
                kept=latency is not None and (faster or everywhere),
            )
        )
        logger.info(
            "%s: %s %s",
            ", ".join(names),
            "not held by the runtime" if latency is None else f"{latency.median_ms:.3f} of the ms",
            "(kept)" if trials[-1].kept else "(stays as it is)",
        )
    return tuple(trials), timer
